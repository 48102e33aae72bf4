//! Reads the arguments, runs the command, reports an error, and returns the exit code.

use clap::Parser;
use coftctl::{args::Cli, commands, error::CliError};
use std::{io, process::ExitCode};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match commands::run(Cli::parse()).await {
        Ok(exit) => exit.into(),
        // The reader of the output has closed it, as in `coftctl round list | head`.
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            anstream::eprintln!("coftctl: {failure}");
            failure.exit().into()
        }
    }
}
