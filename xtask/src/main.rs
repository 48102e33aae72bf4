//! `cargo xtask`: set-up, tests, demo and benchmarks of this repository. One file a verb.

mod bench;
mod build;
mod demo;
mod interruption;
mod pretrain_demo;
mod setup;
mod test;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Set-up, tests, demo and benchmarks of coft.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Installs what this machine lacks: libtorch, ONNX Runtime, a compiler, a message bus, Python packages for checks.
    Setup(setup::Args),
    /// Prints the environment in which cargo builds and runs everything, as shell exports.
    Env,
    /// Sets up, builds, and runs every test.
    Test(test::Args),
    /// From unlabelled camera pictures to a served, adapted classifier, on the embedded model.
    Demo(demo::Args),
    /// Measurements.
    #[command(subcommand)]
    Bench(bench::Command),
    /// Trains the embedded demo model anew.
    PretrainDemo(pretrain_demo::Args),
}

fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Setup(args) => setup::run(&args),
        Command::Env => setup::for_running().map(|environment| print!("{}", environment.exports())),
        Command::Test(args) => test::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Bench(command) => bench::run(command),
        Command::PretrainDemo(args) => pretrain_demo::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
