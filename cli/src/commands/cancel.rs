//! `coftctl round cancel`.

use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::service::Service;
use crate::view::Named;

pub async fn run(service: &Service, output: Output, round: u64) -> Result<Exit, CliError> {
    service.cancel_round(round).await?;
    output.document(&Named { round }, || format!("round {round} is being cancelled; the active model stays\n"))?;
    Ok(Exit::Done)
}
