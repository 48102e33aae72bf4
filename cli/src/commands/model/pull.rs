//! `coftctl model pull`.

use super::installed;
use crate::error::{CliError, Exit};
use crate::hub::Download;
use crate::output::Output;
use coft_models::ModelFiles;
use coft_models::store::{Installed, Store, StoreError, check_name};
use std::fs;
use std::path::Path;

pub fn run(store: &Store, output: Output, repository: &str, name: Option<String>) -> Result<Exit, CliError> {
    let (id, revision) = match repository.split_once('@') {
        Some((id, revision)) => (id, Some(revision)),
        None => (repository, None),
    };
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    if !(1..=2).contains(&id.split('/').count()) || !id.split('/').all(plain) || revision == Some("") {
        return Err(CliError::Usage(format!(
            "{repository:?} is no repository; write OWNER/NAME or OWNER/NAME@REVISION"
        )));
    }
    let name = name.unwrap_or_else(|| id.rsplit('/').next().unwrap_or(id).to_owned());
    check_name(&name)?;
    let mut incoming = store.incoming()?;
    let download = Download::new(store.dir(), id, revision)?;
    if let (Some(commit), Ok(entry)) = (download.commit(), store.find(&name))
        && entry.record.source == format!("{id}@{commit}")
        && entry.check_format().is_ok()
    {
        download.forget();
        return installed(output, Installed { entry, already: true });
    }
    let commit = download.fetch(incoming.dir())?;
    let files = ModelFiles::find(incoming.dir()).map_err(StoreError::from)?;
    if files.is_pickled() {
        incoming.converted_from = coft_pickle::convert(&files, incoming.dir())?;
        remove_pickles(incoming.dir())?;
    }
    let installation = incoming.install(&name, &format!("{id}@{commit}"))?;
    download.forget();
    installed(output, installation)
}

/// Removes the downloaded pickles from the model's directory.
fn remove_pickles(dir: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(dir).map_err(StoreError::at(dir))? {
        let path = entry.map_err(StoreError::at(dir))?.path();
        if path.file_name().is_some_and(|name| coft_models::is_pickle(&name.to_string_lossy())) {
            fs::remove_file(&path).map_err(StoreError::at(&path))?;
        }
    }
    Ok(())
}
