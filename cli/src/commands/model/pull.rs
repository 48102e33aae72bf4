//! `coftctl model pull`.

use super::installed;
use crate::error::{CliError, Exit};
use crate::hub::Download;
use crate::output::Output;
use coft_core::shown::shown_path;
use coft_models::store::{Installed, Store, StoreError, check_name};
use coft_models::{ModelFiles, is_pickle};
use coft_pickle::{ConvertError, convert};
use std::collections::BTreeSet;
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
        let archives = files.weight_file_names().map_err(ConvertError::from)?;
        incoming.converted_from = convert(&files, incoming.dir()).map_err(|error| match error {
            ConvertError::Store(error) => CliError::from(error),
            // The download is removed, so the message has to name the repository.
            error => CliError::Unusable(error.to_string().replace(&*shown_path(incoming.dir()), id)),
        })?;
        remove_pickles(incoming.dir(), &archives)?;
    }
    let installation = incoming.install(&name, &format!("{id}@{commit}"))?;
    download.forget();
    installed(output, installation)
}

/// Removes the archives that were converted, and every other pickle, from the model's directory.
fn remove_pickles(dir: &Path, archives: &BTreeSet<String>) -> Result<(), StoreError> {
    for entry in fs::read_dir(dir).map_err(StoreError::at(dir))? {
        let path = entry.map_err(StoreError::at(dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if archives.contains(&*name) || is_pickle(&name) {
            fs::remove_file(&path).map_err(StoreError::at(&path))?;
        }
    }
    Ok(())
}
