//! Reads the arguments, runs the verb, reports the failure, answers the exit code.

use clap::Parser;
use coftctl::{args::Cli, commands, error::CliError};
use std::{io, process::ExitCode};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match commands::run(Cli::parse()).await {
        Ok(exit) => exit.into(),
        // Whoever read the output has had enough of it, as in `coftctl round list | head`.
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            anstream::eprintln!("coftctl: {failure}");
            failure.exit().into()
        }
    }
}
