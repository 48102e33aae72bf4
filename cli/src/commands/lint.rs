//! `coftctl lint`: names of classes that a model may not understand.

use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::render;
use crate::service::Service;
use crate::view::Advice;
use coft_core::report::Report;
use coft_core::shown::shown_path;
use coft_core::{labels, lint};
use serde::Deserialize;
use std::path::Path;

/// Checks a file of class names before it is used.
pub fn file(output: Output, path: &Path) -> Result<Exit, CliError> {
    let failed = |problem: String| CliError::Usage(format!("{}: {problem}", shown_path(path)));
    let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let names = labels::parse(&bytes).map_err(|error| failed(error.to_string()))?;
    let of_file = lint::of_file(&bytes).into_iter().map(|advice| Advice { line: None, class: None, advice });
    let of_name = |(line, name): (usize, String)| {
        let advice = lint::of_name(&name)?;
        Some(Advice { line: Some(line as u64), class: Some(name), advice })
    };
    print(output, of_file.chain(names.into_iter().filter_map(of_name)).collect(), false)
}

/// Checks the classes of the classifier, with the findings of its latest round.
pub async fn run(service: &Service, output: Output) -> Result<Exit, CliError> {
    let of_name = |name: &String| Some((name.clone(), lint::of_name(name)?));
    let mut found: Vec<(String, String)> = service.classes().await?.iter().filter_map(of_name).collect();
    let generations = service.generations().await?;
    let active = generations.iter().find(|generation| generation.active);
    // A report of another version of coft is ignored.
    let report = active.and_then(|generation| Report::deserialize(&generation.report).ok());
    found.extend(report.iter().flat_map(lint::of_report));
    let advice = |(class, advice)| Advice { line: None, class: Some(class), advice };
    print(output, found.into_iter().map(advice).collect(), report.is_some())
}

fn print(output: Output, found: Vec<Advice>, by_a_round: bool) -> Result<Exit, CliError> {
    output.document(&found, || render::advice(&found, by_a_round))?;
    Ok(Exit::Done)
}
