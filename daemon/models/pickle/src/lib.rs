//! Converts weights that PyTorch has pickled to safetensors. Names, element types, shapes and numbers stay the same.
//!
//! A pickle is the riskiest format that coft reads. Only `coftctl model import` and `coftctl model pull` use this
//! crate, so neither the service nor the trainer contains a parser of pickles. This crate knows which files are the
//! weights (from coft-models), and does not know which tensors a CLIP has: that is checked when the result is opened.

#![warn(missing_docs, clippy::missing_errors_doc)]

mod archive;
mod mapped;
#[cfg(test)]
mod memory;

use archive::PickleError;
use coft_core::shown::{shown, shown_path};
use coft_models::store::{FileRecord, StoreError};
use coft_models::{ModelFiles, ShardIndex, WeightsError};
use mapped::{Mapped, Source};
use safetensors::SafeTensorError;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why pickled weights cannot be converted.
#[derive(Debug, Error)]
pub enum ConvertError {
    /// A file cannot be read or holds no weights, or the index of the shards does not match them.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A file is not a supported PyTorch archive.
    #[error("{}: {}", shown_path(path), shown(source.to_string().as_bytes()))]
    Pickle {
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        source: PickleError,
    },
    /// Tensors share their numbers, so that the converted file would be much larger than the archives.
    #[error("{}: its tensors take more than {LARGEST} times the size of the file; this is no CLIP", shown_path(path))]
    Inflated {
        /// Path of the first archive.
        path: PathBuf,
    },
    /// The converted file cannot be written, or an archive changed while it was read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Most bytes of the converted file for each byte of the archives. Tensors that share a storage, as tied weights do,
/// are written once for each of them; a few bytes of a pickle can name a storage many thousand times. [choice]
const LARGEST: u64 = 2;

/// Writes the pickled weights of a model as one safetensors file into `to`, under the name that the model's layout has
/// for it ([`ModelFiles::converted_name`]). The same archives give the same bytes. Returns the size and the digest of
/// each archive by its name.
///
/// Memory holds one tensor at a time; the archives are mapped. After an error in writing, nothing of the file is left;
/// if an archive has changed meanwhile, the file is there and must not be used.
///
/// # Errors
/// [`ConvertError`] names the file and what is wrong with it. A full disk is [`StoreError::Full`].
pub fn convert(model: &ModelFiles, to: &Path) -> Result<BTreeMap<String, FileRecord>, ConvertError> {
    let archives = model.weights()?.iter().map(|path| Mapped::open(path)).collect::<Result<Vec<_>, _>>()?;
    let mut tensors: BTreeMap<String, Source> = BTreeMap::new();
    for archive in &archives {
        let fault = |source| ConvertError::Pickle { path: archive.path.clone(), source };
        for tensor in archive::tensors(archive.bytes()).map_err(fault)? {
            if let Some(other) = tensors.get(&tensor.name) {
                let problem =
                    format!("tensor {} is in {} too", shown(tensor.name.as_bytes()), shown_path(&other.archive.path));
                return Err(WeightsError::Index { path: archive.path.clone(), problem }.into());
            }
            tensors.insert(tensor.name.clone(), Source { archive, tensor });
        }
    }
    if let Some(index) = model.index() {
        ShardIndex::read(index)?.check(|name| tensors.get(name).map(|source| source.archive.path.as_path()))?;
    }
    let total = tensors.values().try_fold(0u64, |total, source| total.checked_add(source.bytes()?));
    let read: u64 = archives.iter().map(|archive| archive.bytes().len() as u64).sum();
    if total.is_none_or(|total| total > LARGEST * read) {
        return Err(ConvertError::Inflated { path: archives[0].path.clone() });
    }
    let file = to.join(model.converted_name());
    // Other programs ask for this key when they read weights of PyTorch.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    coft_fs::replace_with(&file, |new| {
        safetensors::serialize_to_file(&tensors, Some(metadata), new).map_err(|error| match error {
            SafeTensorError::IoError(error) => error,
            other => io::Error::other(other),
        })
    })
    .map_err(StoreError::at(&file))?;
    archives.iter().map(Mapped::record).collect()
}

#[cfg(test)]
mod tests;
