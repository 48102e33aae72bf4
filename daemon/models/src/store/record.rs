//! `model.json`: the files and the origin of a model in the store.

use super::StoreError;
use crate::model::Model;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Name of the file with the [`Record`].
pub const RECORD: &str = "model.json";
const FORMAT: u32 = 1;

/// The content of `model.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Record {
    /// Version of the file's format; only 1 is read.
    pub format: u32,
    /// Its origin: a directory, or `owner/name@revision`.
    pub source: String,
    /// SHA-256 of the weights alone, hex, which the manifests of generations state.
    pub weights: String,
    /// Files by name, except `model.json`.
    pub files: BTreeMap<String, FileRecord>,
    /// The pickles that the weights were converted from, by name; empty if the weights came as safetensors. They are
    /// not in the store, and are no part of the model's digest: the same model may come in other archives.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub converted_from: BTreeMap<String, FileRecord>,
}

/// The record of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FileRecord {
    /// Size, bytes.
    pub size: u64,
    /// SHA-256 of the file, hex.
    pub sha256: String,
}

impl Record {
    /// Makes the record of a recognised model; reads all its files.
    ///
    /// # Errors
    /// [`StoreError::Io`] where a file cannot be read; [`StoreError::Damaged`] where the directory holds something
    /// other than plain files.
    pub fn make(model: &Model, source: &str) -> Result<Self, StoreError> {
        let mut files = BTreeMap::new();
        for (path, name) in super::children(&model.dir)? {
            if name == RECORD {
                continue;
            }
            let at = StoreError::at(&path);
            let metadata = fs::symlink_metadata(&path).map_err(&at)?;
            if !metadata.is_file() {
                return Err(StoreError::Damaged { path, problem: "only plain files make a model".to_owned() });
            }
            let sha256 = coft_fs::sha256_file(&path).map_err(&at)?;
            files.insert(name, FileRecord { size: metadata.len(), sha256 });
        }
        let weights = match &model.weights.paths()[..] {
            [one] if one.parent() == Some(&model.dir) => {
                let name = one.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                files.get(name).map(|file| file.sha256.clone())
            }
            _ => None,
        };
        let weights = match weights {
            Some(digest) => digest,
            None => model.digest().map_err(StoreError::at(&model.dir))?,
        };
        Ok(Self { format: FORMAT, source: source.to_owned(), weights, files, converted_from: BTreeMap::new() })
    }

    /// Reads the record in a model's directory, but not the files that it lists.
    ///
    /// # Errors
    /// [`StoreError::Io`] where `model.json` cannot be read; [`StoreError::Damaged`] where it is not valid, has another
    /// format, or names a file outside the directory.
    pub fn read(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(RECORD);
        let text = fs::read(&path).map_err(StoreError::at(&path))?;
        let damaged = |problem: String| StoreError::Damaged { path: path.clone(), problem };
        let record: Self = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        if record.format != FORMAT {
            return Err(damaged(format!("format {}; this coft reads {FORMAT}", record.format)));
        }
        // The verification of a model joins these names to a path.
        match record.files.keys().find(|name| name.contains('/') || name.starts_with('.')) {
            Some(name) => Err(damaged(format!("{name:?} is no name of a file in it"))),
            None => Ok(record),
        }
    }

    /// The record of a directory in a store, if every file still has its recorded size; otherwise `None`.
    ///
    /// The name of such a directory is the digest of its list of files, which were written once and are read-only.
    pub fn installed(dir: &Path) -> Option<Self> {
        let digest = dir.file_name()?.to_str()?.strip_prefix(super::PREFIX)?;
        let record = Self::read(dir).ok().filter(|record| record.digest() == digest)?;
        let whole = |(name, file): (&String, &FileRecord)| {
            fs::metadata(dir.join(name)).is_ok_and(|metadata| metadata.len() == file.size)
        };
        record.files.iter().all(whole).then_some(record)
    }

    pub(super) fn write(&self, dir: &Path) -> Result<(), StoreError> {
        let path = dir.join(RECORD);
        let text = serde_json::to_vec_pretty(self).expect("a record is plain data");
        let written = File::create(&path).and_then(|mut file| {
            file.write_all(&text)?;
            file.write_all(b"\n")
        });
        written.map_err(StoreError::at(&path))
    }

    /// SHA-256, hex, over a list with one line per file: its digest, two spaces, its name; sorted by name. `sha256sum *
    /// | sha256sum` gives the same for the files in that order.
    pub fn digest(&self) -> String {
        let lines = self.files.iter().map(|(name, file)| format!("{}  {name}\n", file.sha256)).collect::<String>();
        coft_fs::sha256(lines.as_bytes())
    }

    /// Total size of the files, bytes.
    pub fn size(&self) -> u64 {
        self.files.values().map(|file| file.size).sum()
    }
}

// In this module and not with the model, which does not know the store.
impl Model {
    /// SHA-256 of the weights, hex: over the bytes of their file, or of all shards in order.
    ///
    /// For a single file in the store, the record has the digest (`coftctl model verify` compares the files with it).
    /// Otherwise all weights are read.
    ///
    /// # Errors
    /// The weights cannot be read.
    pub fn digest(&self) -> io::Result<String> {
        let paths = self.weights.paths();
        let name = match &paths[..] {
            [one] if one.parent() == Some(&self.dir) => one.file_name().and_then(|name| name.to_str()),
            _ => None,
        };
        let recorded = |name| Some(Record::installed(&self.dir)?.files.get(name)?.sha256.clone());
        match name.and_then(recorded) {
            Some(digest) => Ok(digest),
            None => coft_fs::sha256_files(&paths),
        }
    }
}
