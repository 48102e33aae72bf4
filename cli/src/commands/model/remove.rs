//! `coftctl model remove`.

use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::view::Removed;
use coft_models::store::Store;

pub fn run(store: &Store, output: Output, model: &str) -> Result<Exit, CliError> {
    let entry = store.find(model)?;
    store.remove(&entry)?;
    let removed = Removed { size_bytes: entry.record.size(), names: entry.names, digest: entry.digest };
    output
        .document(&removed, || format!("removed {}, {}\n", removed.digest, crate::render::bytes(removed.size_bytes)))?;
    Ok(Exit::Done)
}
