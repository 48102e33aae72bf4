//! `coftctl status`.

use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::render::{self, Style};
use crate::service::Service;

pub async fn run(service: &Service, output: Output) -> Result<Exit, Failure> {
    let status = service.status().await?;
    output.document(&status, || render::status(&status, &Style::of_this_machine()))?;
    Ok(Exit::Done)
}
