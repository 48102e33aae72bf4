//! `coftctl metrics`: what coft measures, as coft-exporter serves it.

use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::service::Service;

pub async fn run(service: &Service, output: Output) -> Result<Exit, Failure> {
    output.text(&service.metrics().await)?;
    Ok(Exit::Done)
}
