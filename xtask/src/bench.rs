//! `cargo xtask bench`: measurements, each in a file of its own.

mod adapt;
mod labelled_set;
mod shift;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Runs the trainer on a labelled set, and tells how right it was before and after.
    Adapt(adapt::Args),
}

pub fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Adapt(args) => adapt::run(&args),
    }
}
