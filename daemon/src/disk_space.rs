//! Free space on the disk of the state directory, and how much of it is reserved for rounds. This one rule applies to
//! everything that fills the disk without being asked.

use bytesize::ByteSize;
use coft_core::shown::shown_path;
use coft_fs::free_space;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use thiserror::Error;

/// Least space that stays free, B, because the catalogue, reports and logs grow, too. 64 MiB [choice].
const LEAST: u64 = 64 << 20;

/// Space that stays free on the disk of the state directory, B, so that a round of the configured model can run. Clones
/// share the value, because a reload of the configuration may change it.
#[derive(Clone, Debug)]
pub struct Reserve(Arc<AtomicU64>);

/// There is less free space than needed.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{} has {free} free, and a round of this model needs {reserve}", shown_path(dir))]
pub struct Shortage {
    pub dir: PathBuf,
    pub free: ByteSize,
    pub reserve: ByteSize,
    /// How much more space must be free.
    pub lacking: ByteSize,
}

impl Reserve {
    /// A reserve for rounds that take so many bytes on the disk.
    pub fn of(round_bytes: u64) -> Self {
        Self(Arc::new(round_bytes.max(LEAST).into()))
    }

    /// Changes the reserve to rounds that take so many bytes on the disk.
    pub fn set(&self, round_bytes: u64) {
        self.0.store(round_bytes.max(LEAST), Ordering::Relaxed);
    }

    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// The space that is missing for `needed` bytes in `dir`, in addition to the reserve. `dir` need not exist yet.
    ///
    /// # Errors
    /// The file system does not report its free space.
    pub fn shortage(&self, dir: &Path, needed: u64) -> io::Result<Option<Shortage>> {
        self.lacking(dir, needed, 0)
    }

    /// The space that is missing for a round whose files already take `taken` bytes in `dir`.
    ///
    /// # Errors
    /// The file system does not report its free space.
    pub fn shortage_of_round(&self, dir: &Path, taken: u64) -> io::Result<Option<Shortage>> {
        self.lacking(dir, 0, taken)
    }

    fn lacking(&self, dir: &Path, needed: u64, taken: u64) -> io::Result<Option<Shortage>> {
        let (free, reserve) = (free_space(dir)?, self.bytes());
        let lacking = needed.saturating_add(reserve.saturating_sub(taken)).saturating_sub(free);
        let [free, reserve, missing] = [free, reserve, lacking].map(ByteSize::b);
        Ok((lacking > 0).then(|| Shortage { dir: dir.to_owned(), free, reserve, lacking: missing }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_stays_free() {
        // /proc never has free space.
        let small = Reserve::of(0);
        let full = small.shortage(Path::new("/proc/nowhere/pixels"), 0).unwrap().unwrap();
        assert_eq!(full.to_string(), "/proc/nowhere/pixels has 0 B free, and a round of this model needs 64.0 MiB");
        assert_eq!(full.lacking, ByteSize::mib(64));
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(small.shortage(&dir.path().join("not/yet"), 0).unwrap(), None, "the tests need 64 MiB themselves");
        assert!(small.shortage(dir.path(), u64::MAX).unwrap().is_some());
        small.clone().set(u64::MAX);
        assert!(small.shortage(dir.path(), 0).unwrap().is_some(), "clones share it");
    }

    #[test]
    fn what_a_round_has_taken_already_counts() {
        let full = Path::new("/proc");
        let lacking =
            |taken| Reserve::of(0).shortage_of_round(full, taken).unwrap().map(|shortage| shortage.lacking.as_u64());
        assert_eq!(lacking(0), Some(64 << 20));
        assert_eq!(lacking(60 << 20), Some(4 << 20));
        assert_eq!(lacking(65 << 20), None);
    }
}
