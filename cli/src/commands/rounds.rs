//! `coftctl round list`.

use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::render::{self, Style};
use crate::service::Service;

pub async fn run(service: &Service, output: Output) -> Result<Exit, CliError> {
    let rounds = service.rounds().await?;
    output.document(&rounds, || render::rounds(&rounds, &Style::of_this_machine()))?;
    Ok(Exit::Done)
}
