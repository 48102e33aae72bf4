//! `coftctl generation activate`.

use super::wait;
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::service::Service;
use crate::view::{Generation, Outcome, Unchanged};

pub async fn run(service: &Service, output: Output, number: Option<u64>) -> Result<Exit, CliError> {
    let generation = match number {
        Some(number) => number,
        None => before_the_active_one(&service.generations().await?)?,
    };
    match service.activate(generation).await? {
        Some(round) => wait::run(service, output, round).await,
        None => {
            let result = Outcome { generation: Some(generation), ..Outcome::default() };
            let unchanged = Unchanged { round: None, state: "active", result };
            output.document(&unchanged, || format!("generation {generation} is active already\n"))?;
            Ok(Exit::Done)
        }
    }
}

fn before_the_active_one(generations: &[Generation]) -> Result<u64, CliError> {
    let missing = |what| CliError::NotFound(format!("{what}\n  see which there are: coftctl generation list"));
    let active = generations.iter().find(|generation| generation.active);
    let active = active.ok_or_else(|| missing("no generation serves yet".into()))?;
    let kept = |number: &u64| generations.iter().any(|generation| generation.generation == *number);
    active
        .replaces
        .filter(kept)
        .ok_or_else(|| missing(format!("there is none from before generation {}, which is active", active.generation)))
}
