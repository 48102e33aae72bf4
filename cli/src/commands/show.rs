//! `coftctl round show`.

use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::render::{self, Style};
use crate::service::Service;

pub async fn run(service: &Service, output: Output, round: Option<u64>) -> Result<Exit, CliError> {
    let round = match round {
        Some(round) => service.round(round).await?,
        None => service.rounds().await?.pop().ok_or_else(|| {
            CliError::NotFound("there are no rounds yet\n  start one: coftctl round start --wait".into())
        })?,
    };
    let review = service.review().await?;
    let text = || render::round(&round, &Style::of_this_machine()) + &render::asked_by(&round, review.as_ref());
    output.document(&round, text)?;
    Ok(Exit::Done)
}
