//! `coftctl metrics`: what coft measures, as coft-exporter serves it.

use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::service::Service;

pub async fn run(service: &Service, output: Output) -> Result<Exit, CliError> {
    output.text(&service.metrics().await)?;
    Ok(Exit::Done)
}
