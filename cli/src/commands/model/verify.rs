//! `coftctl model verify`.

use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::view::Verified;
use coft_models::store::Store;

/// Continues after a damaged model, so that all damaged models are reported.
pub fn run(store: &Store, output: Output, model: Option<&str>) -> Result<Exit, CliError> {
    let entries = match model {
        Some(model) => vec![store.find(model)?],
        None => store.list()?,
    };
    let mut exit = Exit::Done;
    let mut all = Vec::new();
    for entry in entries {
        let problem = store.verify(&entry, |_, _| {}).err().map(|error| error.to_string());
        if problem.is_some() {
            exit = Exit::Failed;
        }
        all.push(Verified { names: entry.names, digest: entry.digest, problem });
    }
    output.document(&all, || {
        let line = |model: &Verified| {
            let name = model.names.first().unwrap_or(&model.digest);
            format!("{name}: {}\n", model.problem.as_deref().unwrap_or("all files are as they came"))
        };
        all.iter().map(line).collect()
    })?;
    Ok(exit)
}
