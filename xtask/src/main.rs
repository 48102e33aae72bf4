//! `cargo xtask`: set-up, tests, packages, demo and benchmarks of this repository. Each command has a file.

mod build;
mod gen_onnx;
mod measure;
mod package;
mod setup;
mod target;
mod test;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Set-up, tests, packages, demo and benchmarks of coft.
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
    /// Makes Debian packages of optimised programs.
    Package(package::Args),
    /// From unlabelled camera pictures to a served, adapted classifier, on the embedded model.
    Demo(measure::Args),
    /// Measurements; `cargo xtask bench --help` lists them.
    Bench(measure::Args),
    /// Trains the embedded demo model anew.
    PretrainDemo(measure::Args),
    /// Makes the trainer's Rust types of ONNX's messages anew, from its onnx.proto.
    GenOnnx,
}

fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Setup(args) => setup::run(&args),
        Command::Env => setup::for_running().map(|environment| print!("{}", environment.exports())),
        Command::Test(args) => test::run(&args),
        Command::Package(args) => package::run(&args),
        Command::Demo(args) => measure::run(Some("demo"), &args),
        Command::Bench(args) => measure::run(None, &args),
        Command::PretrainDemo(args) => measure::run(Some("pretrain-demo"), &args),
        Command::GenOnnx => gen_onnx::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
