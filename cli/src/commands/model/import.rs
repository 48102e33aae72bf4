//! `coftctl model import`.

use super::installed;
use crate::error::{CliError, Exit};
use crate::output::Output;
use coft_core::shown::shown_path;
use coft_fs::sha256_file;
use coft_models::Model;
use coft_models::store::{RECORD, Store, StoreError, check_name};
use std::fs;
use std::path::Path;

/// Copies the directory's plain files. The copy is checked, not the original.
pub fn run(store: &Store, output: Output, dir: &Path, name: Option<String>) -> Result<Exit, CliError> {
    let dir = fs::canonicalize(dir).map_err(StoreError::at(dir))?;
    let name = match name {
        Some(name) => name,
        None => dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
    };
    check_name(&name)?;
    Model::open(&dir).and_then(|model| model.check()).map_err(StoreError::from)?; // checked before gigabytes are copied
    let incoming = store.incoming()?;
    for entry in fs::read_dir(&dir).map_err(StoreError::at(&dir))? {
        let path = entry.map_err(StoreError::at(&dir))?.path();
        let file = path.file_name().expect("an entry has a name");
        // Links are followed, because the downloads of other programs consist of them. Files whose names are not UTF-8
        // are skipped: no file of a model has such a name, and a record could not hold it.
        if !path.is_file() || file == RECORD || file.to_str().is_none_or(|name| name.starts_with('.')) {
            continue;
        }
        let copy = incoming.dir().join(file);
        fs::copy(&path, &copy).map_err(StoreError::at(&copy))?;
        let (source, copied) = (sha256_file(&path), sha256_file(&copy));
        if source.map_err(StoreError::at(&path))? != copied.map_err(StoreError::at(&copy))? {
            let problem = "it changed while it was copied; try again".to_owned();
            return Err(StoreError::Damaged { path, problem }.into());
        }
    }
    installed(output, incoming.install(&name, &format!("directory {}", shown_path(&dir)))?)
}
