//! A settled file becomes an image: it is opened safely, read, hashed and decoded, and its canonical pixels are kept.
//!
//! Reading and decoding are separate steps, so that a caller that already knows the content can leave out decoding. A
//! file is read on its own thread, because its file system may never answer; decoding uses a bounded set of blocking
//! threads. User files are read and never written. This module knows neither whether an image is already in the
//! catalogue nor where its record goes.

mod criteria;
mod errors;
mod pixels;
mod reading;

pub use errors::{IngestError, Rejection, Unready};
pub use reading::{Content, id_of};

use crate::decode_budget::DecodeBudget;
use crate::disk_space::Reserve;
use bytesize::ByteSize;
use coft_vision::{Preprocess, Region};
use criteria::program_and_settings;
use serde::Deserialize;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// `[ingest]` of the configuration.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Largest file that is read, "1KiB" or more. Each thread holds one whole file in memory. "64MiB" [choice].
    pub file_limit: ByteSize,
    /// Number of files taken in at the same time; 0 for one per core. 0 [choice].
    pub threads: usize,
    /// Number of images whose pixels are kept for training, the latest ones; `round.minimum-images` or more. 10000
    /// [choice].
    pub most_images: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { file_limit: ByteSize::mib(64), threads: 0, most_images: 10_000 }
    }
}

/// Takes in files.
#[derive(Clone)]
pub struct Ingest {
    shared: Arc<Shared>,
}

struct Shared {
    file_limit: u64,
    preprocess: Preprocess,
    pixels: PathBuf,
    permits: Arc<Semaphore>,
    budget: DecodeBudget,
    threads: usize,
    most_images: u64,
    reserve: Reserve,
    criteria: String,
    sources: HashMap<PathBuf, Place>,
}

/// Directory of a source, and the part of its pictures that is used.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    pub dir: PathBuf,
    /// The part of each picture that is used; `None` for the whole picture.
    pub region: Option<Region>,
}

impl Ingest {
    /// `pixels` is the directory of the canonical pixels; it is created when needed.
    pub fn new(settings: &Settings, preprocess: Preprocess, pixels: PathBuf, budget: DecodeBudget) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if settings.threads == 0 { cores } else { settings.threads };
        let permits = Arc::new(Semaphore::new(threads));
        let (file_limit, most_images) = (settings.file_limit.as_u64(), settings.most_images);
        let (reserve, criteria) = (Reserve::of(0), program_and_settings(settings, budget.limit()));
        let sources = HashMap::new();
        let shared = Shared {
            file_limit,
            preprocess,
            pixels,
            permits,
            budget,
            threads,
            most_images,
            reserve,
            criteria,
            sources,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Sets the places of the sources, by source key. For a source that is not among them, the key is the directory.
    pub fn with_sources(self, sources: HashMap<PathBuf, Place>) -> Self {
        let shared = Arc::into_inner(self.shared).expect("it is set before anybody else holds it");
        Self { shared: Arc::new(Shared { sources, ..shared }) }
    }

    pub fn sources(&self) -> &HashMap<PathBuf, Place> {
        &self.shared.sources
    }

    /// Sets how much of the disk stays free.
    pub fn keeping_free(self, reserve: Reserve) -> Self {
        let shared = Arc::into_inner(self.shared).expect("it is set before anybody else holds it");
        Self { shared: Arc::new(Shared { reserve, ..shared }) }
    }

    /// Number of files taken in at the same time; further requests wait.
    pub fn threads(&self) -> usize {
        self.shared.threads
    }

    /// Number of images whose pixels are kept for training, the latest ones.
    pub fn most_images(&self) -> u64 {
        self.shared.most_images
    }

    /// How the canonical pixels are made.
    pub fn preprocess(&self) -> &Preprocess {
        &self.shared.preprocess
    }

    /// Short side of the canonical pixels, px.
    pub fn canonical_px(&self) -> u32 {
        self.shared.preprocess.shortest_edge
    }
}

#[cfg(test)]
mod tests;
