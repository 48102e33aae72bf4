//! `coftctl round cancel`.

use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::service::Service;
use crate::view::Named;

pub async fn run(service: &Service, output: Output, round: Option<u64>) -> Result<Exit, Failure> {
    let round = match round {
        Some(round) => round,
        None => service.running_round().await?.ok_or_else(|| {
            Failure::NotFound("no round is running\n  see how the last one ended: coftctl round show".into())
        })?,
    };
    service.cancel_round(round).await?;
    output.document(&Named { round }, || format!("round {round} is being cancelled; the active model stays\n"))?;
    Ok(Exit::Done)
}
