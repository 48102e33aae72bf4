//! Tensors in place: mapped files, and for each name a [`TensorRef`] into one of them.
//!
//! The files are mapped read-only. They must not change while they are mapped, like every model that is in use.

use crate::tensor::{Element, TensorRef};
use coft_core::shown::shown_path;
use memmap2::{Mmap, UncheckedAdvice};
use safetensors::{Dtype, SafeTensors};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why weights cannot be read.
#[derive(Debug, Error)]
pub enum WeightsError {
    /// A file cannot be opened, read or mapped.
    #[error("{}: {source}", shown_path(path))]
    Read {
        /// Its path.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A file is not valid safetensors.
    #[error("{}: {source}", shown_path(path))]
    Safetensors {
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        source: safetensors::SafeTensorError,
    },
    /// The index of shards does not match them, a tensor occurs twice, or a file does not hold weights.
    #[error("{}: {problem}", shown_path(path))]
    Index {
        /// Path of the index or of the file.
        path: PathBuf,
        /// What is wrong, in words.
        problem: String,
    },
}

/// Name prefixes of modules that were compiled, distributed, wrapped or adapted: by `torch.compile`, `DataParallel`,
/// Lightning and similar programs, PEFT.
const PREFIXES: [&str; 5] = ["_orig_mod.", "module.", "model.", "clip.", "base_model."];
/// Longest header of a safetensors file that is read, bytes. That of the largest CLIP has a hundredth of this. [choice]
const MAX_HEADER_BYTES: u64 = 16 << 20;

/// Refuses the note that Git LFS leaves in place of a file.
///
/// # Errors
/// [`WeightsError::Index`] if the content begins as such a note.
pub fn refuse_lfs_pointer(path: &Path, content: &[u8]) -> Result<(), WeightsError> {
    if !content.starts_with(b"version https://git-lfs") {
        return Ok(());
    }
    let problem = "this is Git LFS's note of where the weights are, not the weights; run git lfs pull".to_owned();
    Err(WeightsError::Index { path: path.to_owned(), problem })
}

/// An index of shards (`*.index.json`): which tensor is in which of the files beside it.
#[derive(Debug)]
pub struct ShardIndex {
    path: PathBuf,
    /// The name of the shard of each tensor.
    weight_map: BTreeMap<String, String>,
}

impl ShardIndex {
    /// Reads an index, but not its shards.
    ///
    /// # Errors
    /// [`WeightsError`]: the index cannot be read, or lists something other than a file beside it.
    pub fn read(path: &Path) -> Result<Self, WeightsError> {
        #[derive(serde::Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let fault = |problem: String| WeightsError::Index { path: path.to_owned(), problem };
        let text = std::fs::read(path).map_err(|source| WeightsError::Read { path: path.to_owned(), source })?;
        let Index { weight_map } = serde_json::from_slice(&text).map_err(|error| fault(error.to_string()))?;
        let outside = |shard: &&String| Path::new(shard).components().count() != 1 || shard.starts_with('.');
        match weight_map.values().find(outside) {
            Some(shard) => Err(fault(format!("shard {shard:?} is not the name of a file beside it"))),
            None if weight_map.is_empty() => Err(fault("it lists no tensors".to_owned())),
            None => Ok(Self { path: path.to_owned(), weight_map }),
        }
    }

    /// The shards, sorted by name.
    pub fn shards(&self) -> Vec<PathBuf> {
        let names: BTreeSet<&String> = self.weight_map.values().collect();
        names.into_iter().map(|name| self.path.with_file_name(name)).collect()
    }

    /// Checks that each tensor is in the file that the index states. `found` gives the path of a tensor's file.
    ///
    /// # Errors
    /// [`WeightsError::Index`] names the first tensor that is elsewhere or missing.
    pub fn check<'a>(&self, found: impl Fn(&str) -> Option<&'a Path>) -> Result<(), WeightsError> {
        for (name, shard) in &self.weight_map {
            if found(name).and_then(Path::file_name).is_none_or(|file| file != shard.as_str()) {
                let problem = format!("tensor {name} is not in {shard}, where the index says it is");
                return Err(WeightsError::Index { path: self.path.clone(), problem });
            }
        }
        Ok(())
    }
}

/// Mapped files and the tensors in them.
#[derive(Debug, Default)]
pub struct Weights {
    files: Vec<Mapped>,
    tensors: BTreeMap<String, TensorRef>,
}

#[derive(Debug)]
struct Mapped {
    path: PathBuf,
    map: Mmap,
}

impl Weights {
    /// Opens a file of safetensors.
    ///
    /// # Errors
    /// [`WeightsError`] names the file and what is wrong with it.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let mut weights = Self::default();
        weights.add(path)?;
        Ok(weights)
    }

    /// Opens the shards that an index (`*.index.json`) lists. Each tensor must be in the shard that the index states.
    ///
    /// # Errors
    /// [`WeightsError`] names the index or the shard, and what is wrong with it.
    pub fn open_shards(index: &Path) -> Result<Self, WeightsError> {
        let index = ShardIndex::read(index)?;
        let mut weights = Self::default();
        for shard in index.shards() {
            weights.add(&shard)?;
        }
        index.check(|name| weights.tensors.get(name).map(|tensor_ref| weights.path(tensor_ref)))?;
        Ok(weights)
    }

    /// Tensors of these shapes that are in no file.
    #[cfg(test)]
    pub(crate) fn of_shapes<'s>(shapes: impl IntoIterator<Item = (&'s str, Vec<usize>)>) -> Self {
        let tensor_ref = |(name, shape): (&str, Vec<usize>)| {
            let (strides, element) = (TensorRef::dense(&shape), Element::F32);
            (name.to_owned(), TensorRef { name: name.to_owned(), file: 0, offset: 0, element, shape, strides })
        };
        Self { files: Vec::new(), tensors: shapes.into_iter().map(tensor_ref).collect() }
    }

    fn add(&mut self, path: &Path) -> Result<(), WeightsError> {
        let read = |source| WeightsError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(read)?;
        // SAFETY: the map is only read, and models do not change while they are in use (see the comment of the module).
        let map = unsafe { Mmap::map(&file) }.map_err(read)?;
        refuse_lfs_pointer(path, &map)?;
        let header = map.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
        if header > MAX_HEADER_BYTES {
            let problem = format!("its header has {header} bytes; more than {MAX_HEADER_BYTES} describe no CLIP");
            return Err(WeightsError::Index { path: path.to_owned(), problem });
        }
        let tensor_refs = safetensors(&map, self.files.len())
            .map_err(|source| WeightsError::Safetensors { path: path.to_owned(), source })?;
        for tensor_ref in tensor_refs {
            if let Some(other) = self.tensors.get(&tensor_ref.name) {
                let other = shown_path(&self.files[other.file].path);
                let problem = format!("tensor {} is in {other} too", tensor_ref.name);
                return Err(WeightsError::Index { path: path.to_owned(), problem });
            }
            self.tensors.insert(tensor_ref.name.clone(), tensor_ref);
        }
        self.files.push(Mapped { path: path.to_owned(), map });
        Ok(())
    }

    /// The files, in the order in which they are hashed.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.files.iter().map(|file| file.path.clone()).collect()
    }

    /// The path of the file with a tensor.
    pub fn path(&self, tensor_ref: &TensorRef) -> &Path {
        &self.files[tensor_ref.file].path
    }

    /// The tensor with this name.
    pub fn get(&self, name: &str) -> Option<&TensorRef> {
        self.tensors.get(name)
    }

    /// Every tensor with its name, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &TensorRef)> {
        self.tensors.iter().map(|(name, tensor_ref)| (name.as_str(), tensor_ref))
    }

    /// Removes the prefixes that training programs put before the name of every tensor. Errors still show the names in
    /// the file.
    pub(crate) fn without_prefixes(mut self) -> Self {
        let shared = |tensors: &BTreeMap<String, TensorRef>| {
            let of_all =
                |prefix: &&str| tensors.keys().all(|name| name.len() > prefix.len() && name.starts_with(prefix));
            PREFIXES.into_iter().filter(|_| !tensors.is_empty()).find(of_all)
        };
        while let Some(prefix) = shared(&self.tensors) {
            self.tensors = self
                .tensors
                .into_iter()
                .map(|(name, tensor_ref)| (name[prefix.len()..].to_owned(), tensor_ref))
                .collect();
        }
        self
    }

    /// The same files with other names for the tensors.
    pub(crate) fn renamed(self, tensors: BTreeMap<String, TensorRef>) -> Self {
        Self { tensors, ..self }
    }

    /// Calls `read` with the bytes from a tensor's first element to its last. Their pages are released afterwards.
    pub fn with_bytes<T>(&self, tensor_ref: &TensorRef, read: impl FnOnce(&[u8]) -> T) -> T {
        let map = &self.files[tensor_ref.file].map;
        let length = tensor_ref.span() * tensor_ref.element.bytes();
        let value = read(&map[tensor_ref.offset..tensor_ref.offset + length]);
        // SAFETY: the mapping is a read-only file, so a released page is read again when it is needed. Without the
        // release, data that has been copied would stay resident twice. A failure to release is harmless.
        let _ = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, tensor_ref.offset, length) };
        value
    }
}

fn safetensors(bytes: &[u8], file: usize) -> Result<Vec<TensorRef>, safetensors::SafeTensorError> {
    let (header, metadata) = SafeTensors::read_metadata(bytes)?;
    let data = header + 8; // after the length of the header
    let tensor_ref = |(name, info): (String, &safetensors::tensor::TensorInfo)| TensorRef {
        name,
        file,
        offset: data + info.data_offsets.0,
        element: match info.dtype {
            Dtype::F32 => Element::F32,
            Dtype::F16 => Element::F16,
            Dtype::BF16 => Element::BF16,
            Dtype::F64 => Element::Other("F64"),
            Dtype::I64 => Element::Other("I64"),
            Dtype::I32 => Element::Other("I32"),
            _ => Element::Other("neither F32, F16 nor BF16"),
        },
        strides: TensorRef::dense(&info.shape),
        shape: info.shape.clone(),
    };
    Ok(metadata.tensors().into_iter().map(tensor_ref).collect())
}
