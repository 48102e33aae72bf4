//! `coftctl model info`.

use super::{described, is_directory, shown};
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::render;
use coft_models::Model;
use coft_models::store::{Store, StoreError};
use std::ffi::OsStr;
use std::path::Path;

pub fn run(store: &Store, output: Output, model: &OsStr) -> Result<Exit, CliError> {
    let model = if is_directory(model) {
        let model = Model::open(Path::new(model)).map_err(StoreError::from)?;
        let digest = model.digest().map_err(StoreError::at(&model.dir))?;
        crate::view::Model { weights_sha256: digest, ..described(&model)? }
    } else {
        shown(store.find(&model.to_string_lossy())?)?
    };
    output.document(&model, || render::model(&model))?;
    Ok(Exit::Done)
}
