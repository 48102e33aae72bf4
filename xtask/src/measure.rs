//! `cargo xtask demo`, `bench` and `pretrain-demo`: the set-up, a build, and then coft-bench, which does the rest.
//! coft-bench is a program of its own because its libraries take minutes to compile, and the set-up must begin at once.

use crate::build;
use crate::setup;
use anyhow::Context;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Told to coft-bench, which explains them by --help.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    rest: Vec<OsString>,
}

/// Replaces this process by a command of coft-bench.
pub fn run(command: Option<&str>, args: &Args) -> anyhow::Result<()> {
    let words = || command.map(OsString::from).into_iter().chain(args.rest.iter().cloned());
    let named = words().next();
    let mut environment = match named.as_ref().and_then(|name| name.to_str()) {
        Some("serve" | "trainer") => setup::for_testing()?,
        _ => setup::for_running()?,
    };
    if named.is_some_and(|name| name == "serve") {
        environment.add("COFT_SERVERS_PYTHON", setup::for_serving_peers()?);
    }
    let programs = match command {
        Some("demo") => build::quick(&environment)?,
        _ => build::release(&environment)?,
    };
    let mut bench = Command::new(programs.join("coft-bench"));
    environment.apply(&mut bench);
    Err(bench.args(words()).exec()).context("starting coft-bench")
}
