//! `coftctl model list`.

use super::{render_list, shown};
use crate::failure::{Exit, Failure};
use crate::output::Output;
use coft_models::store::Store;

pub fn run(store: &Store, output: Output) -> Result<Exit, Failure> {
    let models = store.list()?.into_iter().map(shown).collect::<Result<Vec<_>, _>>()?;
    output.document(&models, || render_list(&models))?;
    Ok(Exit::Done)
}
