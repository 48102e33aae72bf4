//! `coftctl generation list`.

use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::render::{self, Style};
use crate::service::Service;

pub async fn run(service: &Service, output: Output) -> Result<Exit, CliError> {
    let generations = service.generations().await?;
    output.document(&generations, || render::generations(&generations, &Style::of_this_machine()))?;
    Ok(Exit::Done)
}
