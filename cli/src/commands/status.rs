//! `coftctl status`.

use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::render::{self, Style};
use crate::service::Service;

pub async fn run(service: &Service, output: Output) -> Result<Exit, CliError> {
    let status = service.status().await?;
    output.document(&status, || render::status(&status, &Style::of_this_machine()))?;
    Ok(Exit::Done)
}
