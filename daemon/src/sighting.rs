//! The words of the intake: a file as it was seen, and the image that it turned out to hold.
//!
//! `watch`, `ingest` and `catalog` share these and do not know each other.

use coft_core::ids::ImageId;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// A file in a watched directory that has settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The watched directory, as the configuration names it.
    pub source: PathBuf,
    pub path: PathBuf,
    pub stamp: Stamp,
}

/// Tells whether a file is still as it was: any write or replacement changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    pub bytes: u64,
    /// Last change of the content, ns since the epoch; programs may set it back.
    pub modified_ns: i64,
    /// Last change of content, name or permissions, ns since the epoch; only the kernel sets it.
    pub changed_ns: i64,
}

impl Stamp {
    pub fn of(metadata: &Metadata) -> Self {
        let ns = |seconds: i64, ns: i64| seconds.saturating_mul(1_000_000_000).saturating_add(ns);
        Self {
            bytes: metadata.len(),
            modified_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// An image of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRecord {
    pub id: ImageId,
    pub width_px: u32,
    pub height_px: u32,
    /// Size of the file, bytes.
    pub bytes: u64,
    /// Short side of the canonical pixels that were cached, px.
    pub canonical_px: u32,
}
