//! Builds, in the environment that set-up prepared.

use crate::setup::{Environment, repository};
use anyhow::{Context, ensure};
use std::env;
use std::path::PathBuf;
use std::process::Command;

/// A cargo command in the repository's root.
pub fn cargo(environment: &Environment) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(repository());
    environment.apply(&mut command);
    command
}

/// The directory of the optimised programs and examples, built where they are not. All of them at once: cargo chooses the
/// features of libraries by what is built together, and would compile them again for another choice.
pub fn release(environment: &Environment) -> anyhow::Result<PathBuf> {
    eprintln!("building (the first time takes some minutes) ...");
    let mut command = cargo(environment);
    command.args(["build", "--release", "--workspace", "--exclude", "xtask", "--bins", "--examples"]);
    ensure!(command.status().context("starting cargo")?.success(), "the build failed");
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from);
    Ok(target.join("release"))
}
