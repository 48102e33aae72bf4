//! `coftctl metrics`: prints the same metrics as coft-exporter serves.

use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::service::Service;

pub async fn run(service: &Service, output: Output) -> Result<Exit, CliError> {
    output.text(&service.metrics().await)?;
    Ok(Exit::Done)
}
