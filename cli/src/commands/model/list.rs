//! `coftctl model list`.

use super::shown;
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::render;
use crate::view::{Listed, Unusable};
use coft_models::store::{Entry, Store, StoreError};

/// A model that cannot be used is listed with the reason, so that all others are listed, too.
pub fn run(store: &Store, output: Output) -> Result<Exit, CliError> {
    let listed = |entry: Entry| match shown(entry.clone()) {
        Ok(model) => Ok(Listed::Usable(Box::new(model))),
        Err(CliError::Store(problem @ (StoreError::Earlier { .. } | StoreError::Model(_)))) => {
            let (size_bytes, problem) = (entry.record.size(), problem.to_string());
            let Entry { names, digest, record, .. } = entry;
            Ok(Listed::Unusable(Unusable { names, digest, source: record.source, size_bytes, problem }))
        }
        Err(error) => Err(error),
    };
    let models = store.list()?.into_iter().map(listed).collect::<Result<Vec<_>, _>>()?;
    output.document(&models, || render::models(&models))?;
    Ok(Exit::Done)
}
