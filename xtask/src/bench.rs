//! `cargo xtask bench`: measurements, each in a file of its own.

mod adapt;
mod answers;
mod ingest;
mod labelled_set;
mod load;
mod neighbour;
mod ranking;
mod scores;
mod serve;
mod shift;
mod trainer;
mod trouble;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Runs the trainer on a labelled set, and tells how right it was before and after.
    Adapt(Box<adapt::Args>),
    /// How long images take to be taken in beside an empty catalogue and a full one, and how long a start with the
    /// latter.
    Ingest(ingest::Args),
    /// How long the trainer takes to load a checkpoint, beside reading its files.
    Load(load::Args),
    /// What a user of coftd notices of another who floods it, and the memory that bombs take.
    Neighbour(neighbour::Args),
    /// How well the signs that read no label rank models and rounds that `adapt --answers` kept.
    Ranking(ranking::Args),
    /// Answers a second, latency and memory of coftd beside a bare loop and Python servers on the same ONNX file.
    Serve(serve::Args),
    /// Speed and memory of the trainer's phases beside a PyTorch script that does the same.
    Trainer(trainer::Args),
}

pub fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Adapt(args) => adapt::run(&args),
        Command::Ingest(args) => ingest::run(&args),
        Command::Load(args) => load::run(&args),
        Command::Neighbour(args) => neighbour::run(&args),
        Command::Ranking(args) => ranking::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Trainer(args) => trainer::run(&args),
    }
}
