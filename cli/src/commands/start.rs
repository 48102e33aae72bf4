//! `coftctl round start`.

use super::wait;
use crate::args::Start;
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::service::Service;
use crate::view::Named;

pub async fn run(service: &Service, output: Output, asked: Start) -> Result<Exit, CliError> {
    let round = service.start_round(asked.seed).await?;
    if asked.wait {
        return wait::run(service, output, round).await;
    }
    output
        .document(&Named { round }, || format!("round {round} has started; follow it: coftctl round wait {round}\n"))?;
    Ok(Exit::Done)
}
