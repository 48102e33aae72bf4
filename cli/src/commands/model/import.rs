//! `coftctl model import`.

use super::installed;
use crate::error::{CliError, Exit};
use crate::output::Output;
use coft_core::shown::shown_path;
use coft_fs::sha256_file;
use coft_models::store::{Entry, RECORD, Store, StoreError, check_name};
use coft_models::{DESCRIPTIONS, Model, ModelFiles, is_pickle, tokenizer};
use coft_pickle::{ConvertError, convert};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Copies the files of a model, and converts weights that are pickled. The copy is checked, not the original.
pub fn run(store: &Store, output: Output, given: &Path, name: Option<String>) -> Result<Exit, CliError> {
    let path = fs::canonicalize(given).map_err(StoreError::at(given))?;
    let entry = in_store(store, &path);
    let name = name.unwrap_or_else(|| default_name(given, &path, entry.as_ref()));
    check_name(&name)?;
    let whole = path.is_dir();
    let files =
        if whole { ModelFiles::find(&path).map_err(StoreError::from)? } else { ModelFiles::with_weights(&path) };
    if !files.is_pickled() && whole {
        // Checked before gigabytes are copied.
        Model::open(&path).and_then(|model| model.check()).map_err(StoreError::from)?;
    }
    if !whole && !files.is_pickled() && files.index().is_some() {
        return Err(CliError::Usage(format!("{} lists shards; import its directory", shown_path(&path))));
    }
    let dir = if whole { &path } else { coft_fs::parent(&path) };
    let archives = match files.is_pickled() {
        true => files.weight_file_names().map_err(ConvertError::from)?,
        false => BTreeSet::new(),
    };
    let belongs = |name: &str| match whole {
        true => name != RECORD && !name.starts_with('.') && !is_pickle(name) && !archives.contains(name),
        // The directory may have any other files.
        false => DESCRIPTIONS.contains(&name) || tokenizer::FILES.contains(&name),
    };
    let mut incoming = store.incoming()?;
    for entry in fs::read_dir(dir).map_err(StoreError::at(dir))? {
        let path = entry.map_err(StoreError::at(dir))?.path();
        // Links are followed, because the downloads of other programs consist of them. Files whose names are not UTF-8
        // are skipped: no file of a model has such a name, and a record could not hold it.
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_file() && belongs(name) {
            copy(&path, &incoming.dir().join(name))?;
        }
    }
    if files.is_pickled() {
        incoming.converted_from = convert(&files, incoming.dir())?;
        let check = Model::open(incoming.dir()).and_then(|model| model.check());
        check.map_err(|error| {
            // The copy is removed, so the message has to name the user's own files.
            let converted = incoming.dir().join(files.converted_name());
            let text = error.to_string().replace(&*shown_path(&converted), &shown_path(files.path()));
            CliError::Unusable(text.replace(&*shown_path(incoming.dir()), &shown_path(dir)))
        })?;
    } else if !whole {
        copy(&path, &incoming.dir().join(files.converted_name()))?;
    }
    let source = match entry {
        Some(entry) => entry.record.source,
        None if whole => format!("directory {}", shown_path(&path)),
        None => format!("file {}", shown_path(&path)),
    };
    installed(output, incoming.install(&name, &source)?)
}

/// The model of the store whose directory this is: an earlier coft has imported it with pickles.
fn in_store(store: &Store, path: &Path) -> Option<Entry> {
    let entry = store.find(path.file_name()?.to_str()?).ok()?;
    fs::canonicalize(&entry.dir).is_ok_and(|dir| dir == path).then_some(entry)
}

fn default_name(given: &Path, path: &Path, entry: Option<&Entry>) -> String {
    let names = entry.map_or(&[][..], |entry| &entry.names);
    let last = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let known = names.iter().find(|name| last(given).as_ref() == Some(name)).or(names.first());
    let of_file = || path.file_stem().filter(|_| path.is_file()).map(|stem| stem.to_string_lossy().into_owned());
    known.cloned().or_else(of_file).or_else(|| last(path)).unwrap_or_default()
}

fn copy(path: &Path, to: &Path) -> Result<(), StoreError> {
    fs::copy(path, to).map_err(StoreError::at(to))?;
    let (source, copied) = (sha256_file(path), sha256_file(to));
    if source.map_err(StoreError::at(path))? != copied.map_err(StoreError::at(to))? {
        let problem = "it changed while it was copied; try again".to_owned();
        return Err(StoreError::Damaged { path: path.to_owned(), problem });
    }
    Ok(())
}
