//! A generation's directory: what its files say, and whether they are as they were made.

use super::{StoreError, at};
use coft_core::ids::{GenerationId, JobId};
use coft_core::manifest::{FORMAT, MANIFEST, Manifest, REPORT};
use coft_core::report::Report;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

pub(super) const RECORD: &str = "generation.json";

/// A generation in the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    pub id: GenerationId,
    pub dir: PathBuf,
    pub manifest: Manifest,
    pub report: Report,
    pub record: Record,
}

impl Generation {
    /// The job of this service that made or imported the generation.
    pub fn job(&self) -> JobId {
        self.record.imported_by.unwrap_or(self.manifest.round)
    }

    /// Compares the digest of every file with the manifest.
    pub fn verify(&self) -> Result<(), StoreError> {
        verified(&self.dir).map(|_| ())
    }
}

/// `generation.json`: what the store adds to a candidate.
///
/// Unknown fields are ignored. So an earlier version of coftd can still use the generation that serves, after a
/// downgrade.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Record {
    /// Unix time of the promotion, s; for a refused candidate, the time when it was kept.
    pub created: i64,
    /// Largest difference of a probability between torch and ONNX Runtime on the probe.
    pub parity_max_abs_diff: f64,
    /// The generation that was active just before this one, the last time this one was activated.
    pub replaces: Option<GenerationId>,
    /// The job of this service that imported the generation, where another service made it.
    #[serde(default)]
    pub imported_by: Option<JobId>,
    /// The job that activated the generation again, where one did.
    #[serde(default)]
    pub activated_by: Option<JobId>,
    /// The reason, in words, why the rules refused the generation. `None` where they did not, or where it was activated
    /// since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

impl Record {
    /// The record of a candidate that is added to the store now.
    pub(super) fn new(parity_max_abs_diff: f64, imported_by: Option<JobId>) -> Self {
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
        Self { created, parity_max_abs_diff, replaces: None, imported_by, activated_by: None, refused: None }
    }
}

/// A verified candidate that is in the store but does not serve.
#[derive(Debug)]
pub struct Staged {
    pub id: GenerationId,
    pub dir: PathBuf,
    pub manifest: Manifest,
    pub report: Report,
}

/// The manifest and report of a directory, after checking that all files have the digests in the manifest.
pub(super) fn verified(dir: &Path) -> Result<(Manifest, Report), StoreError> {
    let manifest = read_manifest(dir)?;
    for (name, digest) in &manifest.files {
        let path = dir.join(name);
        if Path::new(name).file_name() != Some(name.as_ref()) {
            return Err(StoreError::Name { path });
        }
        if coft_fs::sha256_file(&path).map_err(at(&path))? != *digest {
            return Err(StoreError::Digest { path });
        }
    }
    Ok((manifest, read_json(&dir.join(REPORT))?))
}

pub(super) fn read_generation(id: GenerationId, dir: &Path) -> Result<Generation, StoreError> {
    let (manifest, report) = (read_manifest(dir)?, read_json(&dir.join(REPORT))?);
    Ok(Generation { id, dir: dir.to_owned(), manifest, report, record: read_json(&dir.join(RECORD))? })
}

fn read_manifest(dir: &Path) -> Result<Manifest, StoreError> {
    let path = dir.join(MANIFEST);
    let manifest: Manifest = read_json(&path)?;
    if manifest.format != FORMAT {
        return Err(StoreError::Format { path, found: manifest.format });
    }
    Ok(manifest)
}

pub(super) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, StoreError> {
    let bytes = fs::read(path).map_err(at(path))?;
    serde_json::from_slice(&bytes).map_err(|cause| StoreError::Json { path: path.to_owned(), cause })
}

pub(super) fn pretty(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(value).expect("a record is plain data")
}
