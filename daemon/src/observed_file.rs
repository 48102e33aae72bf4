//! Data types of the intake: a file as it was observed, and the image that it holds.
//!
//! `watch`, `ingest` and `catalog` share these types and do not import each other.

use coft_core::ids::ImageId;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A file in a watched directory that has settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedFile {
    /// Key of the source that has the file, [`crate::watch::Source::key`].
    pub source: PathBuf,
    pub path: PathBuf,
    pub fingerprint: FileFingerprint,
}

/// Identifies the state of a file: any write or replacement changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileFingerprint {
    pub bytes: u64,
    /// Last change of the content, ns since the epoch; programs may set it back.
    pub modified_ns: i64,
    /// Last change of content, name or permissions, ns since the epoch; only the kernel sets it.
    pub changed_ns: i64,
}

impl FileFingerprint {
    pub fn of(metadata: &Metadata) -> Self {
        let ns = |seconds: i64, ns: i64| seconds.saturating_mul(1_000_000_000).saturating_add(ns);
        Self {
            bytes: metadata.len(),
            modified_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// When a picture arrived. Pictures are ordered by this, not by when they were taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// A number that is larger than that of every earlier arrival, whatever the clock says: the Unix time, s, or the
    /// last number plus 1 if that is larger.
    pub order: i64,
    /// Unix time, s.
    pub time: i64,
    /// Monotonic time, for measuring: the Unix time may jump.
    pub at: Instant,
}

/// The latest [`Arrival::order`].
static LATEST: AtomicI64 = AtomicI64::new(0);

impl Arrival {
    pub fn now() -> Self {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
        let after = |latest: i64| time.max(latest.saturating_add(1));
        let next = LATEST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |latest| Some(after(latest)));
        Self { order: next.map_or_else(after, after), time, at: Instant::now() }
    }

    /// Makes every later arrival come after `order`.
    pub fn after(order: i64) {
        LATEST.fetch_max(order, Ordering::Relaxed);
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
