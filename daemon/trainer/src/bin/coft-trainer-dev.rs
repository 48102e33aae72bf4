//! `coft-trainer-dev`: measurements of the trainer's parts, and the training of the demo model. `cargo xtask bench` and
//! `pretrain-demo` start it. It is not packaged.

use clap::Parser;
use coft_trainer::dev::{bench, pretrain};
use std::path::PathBuf;
use std::process::ExitCode;

/// Measures parts of coft-trainer, and trains the demo model; for the developers of coft.
#[derive(Parser)]
#[command(name = "coft-trainer-dev", version)]
enum Command {
    /// Measures one phase on given images (`cargo xtask bench trainer` does, beside a PyTorch script).
    Bench(bench::Args),
    /// Loads a checkpoint and says how long it took, in seconds (`cargo xtask bench load` does, beside the disk).
    Load { model: PathBuf },
    /// Trains a small CLIP from drawn pictures and captions (how the embedded model was made).
    Pretrain(pretrain::Args),
}

fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Bench(args) => bench::run(&args),
        Command::Load { model } => bench::load(&model),
        Command::Pretrain(args) => pretrain::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("coft-trainer-dev: {error:#}");
            ExitCode::FAILURE
        }
    }
}
