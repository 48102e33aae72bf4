//! `coft-bench`: the demo and the measurements of this repository, each in a file of its own. `cargo xtask demo`,
//! `bench` and `pretrain-demo` run the set-up, build this program together with the programs that it starts, and run
//! it.

mod adapt;
mod answers;
mod built;
mod demo;
mod idle;
mod ingest;
mod interruption;
mod labelled_set;
mod load;
mod neighbour;
mod observed;
mod pretrain_demo;
mod ranking;
mod scores;
mod serve;
mod shift;
mod trainer;
mod trouble;

use clap::Parser;
use std::process::ExitCode;

/// Demo and measurements of coft.
#[derive(Parser)]
#[command(name = "cargo xtask bench")]
enum Command {
    /// From unlabelled camera pictures to a served, adapted classifier, on the embedded model.
    #[command(display_name = "cargo xtask demo")]
    Demo(demo::Args),
    /// Trains the embedded demo model anew.
    PretrainDemo(pretrain_demo::Args),
    /// Runs the trainer on a labelled set, and tells how right it was before and after.
    Adapt(Box<adapt::Args>),
    /// How long it takes from a picture that comes to a watched directory to its answer on the bus.
    Answers(observed::Args),
    /// What a service costs that has nothing to do: how soon it answers, its memory, and how often it wakes up.
    Idle(idle::Args),
    /// How long images take to be taken in beside an empty catalogue and a full one, and how long a start with the
    /// latter.
    Ingest(ingest::Args),
    /// How long the trainer takes to load a checkpoint, beside reading its files.
    Load(load::Args),
    /// What a user of coftd notices of another who floods it, and the memory that bombs take.
    Neighbour(neighbour::Args),
    /// How well the label-free metrics rank models and rounds that `adapt --answers` kept.
    Ranking(ranking::Args),
    /// Answers a second, latency and memory of coftd beside a bare loop and Python servers on the same ONNX file.
    Serve(serve::Args),
    /// Speed and memory of the trainer's phases beside a PyTorch script that does the same.
    Trainer(trainer::Args),
}

fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Demo(args) => demo::run(&args),
        Command::PretrainDemo(args) => pretrain_demo::run(&args),
        Command::Adapt(args) => adapt::run(&args),
        Command::Answers(args) => observed::run(&args),
        Command::Idle(args) => idle::run(&args),
        Command::Ingest(args) => ingest::run(&args),
        Command::Load(args) => load::run(&args),
        Command::Neighbour(args) => neighbour::run(&args),
        Command::Ranking(args) => ranking::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Trainer(args) => trainer::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
