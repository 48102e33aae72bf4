//! `coftctl generation show`.

use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::render::{self, Style};
use crate::service::Service;
use crate::view::GenerationDetails;

pub async fn run(service: &Service, output: Output, number: Option<u64>) -> Result<Exit, CliError> {
    let meant = |generation: &crate::view::Generation| match number {
        Some(number) => generation.generation == number,
        None => generation.active,
    };
    let Some(generation) = service.generations().await?.into_iter().find(meant) else {
        let missing =
            number.map_or_else(|| "no generation serves yet".into(), |n| format!("there is no generation {n}"));
        return Err(CliError::NotFound(format!("{missing}\n  see which there are: coftctl generation list")));
    };
    let review = if generation.refused.is_some() && !output.is_json() { service.review().await? } else { None };
    let (answers, uncounted) = match service.count_answers(generation.generation).await {
        Ok(answers) => (Some(answers), None),
        Err(error) => (None, Some(error)),
    };
    let details = GenerationDetails { generation, answers };
    let text = || render::generation(&details, review.as_ref(), &Style::of_this_machine());
    output.document(&details, text)?;
    if let Some(error) = uncounted {
        anstream::eprintln!("coftctl: what it has answered cannot be counted now: {error}");
    }
    Ok(Exit::Done)
}
