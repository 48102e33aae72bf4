//! `coftctl model list`.

use super::{render_list, shown};
use crate::error::{CliError, Exit};
use crate::output::Output;
use coft_models::store::Store;

pub fn run(store: &Store, output: Output) -> Result<Exit, CliError> {
    let models = store.list()?.into_iter().map(shown).collect::<Result<Vec<_>, _>>()?;
    output.document(&models, || render_list(&models))?;
    Ok(Exit::Done)
}
