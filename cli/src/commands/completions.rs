//! `coftctl completions`. Needs no service.

use crate::args::Cli;
use crate::error::{CliError, Exit};
use clap::CommandFactory;
use clap_complete::Shell;
use std::io::Write;

pub fn run(shell: Shell) -> Result<Exit, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "coftctl", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(Exit::Done)
}
