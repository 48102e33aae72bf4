//! `coftctl generation diff`.

use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::render::{self, Style};
use crate::service::Service;
use crate::view::Generation;

pub async fn run(
    service: &Service,
    output: Output,
    old: Option<u64>,
    new: Option<u64>,
    limit: u32,
) -> Result<Exit, CliError> {
    let (old, new) = meant(&service.generations().await?, old, new)?;
    let diff = service.compare(old, new, limit).await?;
    output.document(&diff, || render::diff(&diff, &Style::of_this_machine()))?;
    Ok(Exit::Done)
}

/// The numbers of the generations to compare.
fn meant(generations: &[Generation], old: Option<u64>, new: Option<u64>) -> Result<(u64, u64), CliError> {
    let missing = |what: String| CliError::NotFound(format!("{what}\n  see which there are: coftctl generation list"));
    let active = generations.iter().find(|generation| generation.active).map(|active| active.generation);
    let new = new.or(active).ok_or_else(|| missing("no generation serves yet".into()))?;
    let newer = generations.iter().find(|generation| generation.generation == new);
    let newer = newer.ok_or_else(|| missing(format!("there is no generation {new}")))?;
    let old = old.or(newer.replaces).ok_or_else(|| missing(format!("generation {new} has replaced none")))?;
    if old == new {
        return Err(CliError::Usage(format!("generation {new} cannot be compared with itself")));
    }
    // The answers of an older generation are kept for longer than the generation itself.
    Ok((old, new))
}
