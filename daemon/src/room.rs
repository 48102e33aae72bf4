//! Room on the disk of the state directory, and how much of it is left to others: the one rule for whatever fills it on its own.

use bytesize::ByteSize;
use nix::sys::statvfs::statvfs;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// What imports and the intake leave free, B: rounds, their journal and the catalogue write there, too. 64 MiB [choice].
const RESERVE: u64 = 64 << 20;

/// There is less room than is needed.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{} has {free} free, and {} are to stay so", dir.display(), ByteSize::b(RESERVE))]
pub struct Shortage {
    pub dir: PathBuf,
    pub free: ByteSize,
    /// How much more has to be free.
    pub lacking: ByteSize,
}

/// What is missing for `needed` bytes in `dir`, which need not be there yet.
pub fn shortage(dir: &Path, needed: u64) -> io::Result<Option<Shortage>> {
    let disk = statvfs(dir.ancestors().find(|dir| dir.exists()).unwrap_or(dir))?;
    let free = disk.blocks_available() as u64 * disk.fragment_size() as u64;
    let lacking = needed.saturating_add(RESERVE).saturating_sub(free);
    let [free, missing] = [free, lacking].map(ByteSize::b);
    Ok((lacking > 0).then(|| Shortage { dir: dir.to_owned(), free, lacking: missing }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_stays_free() {
        // No byte of /proc is ever free.
        let full = shortage(Path::new("/proc/nowhere/pixels"), 0).unwrap().unwrap();
        assert_eq!(full.to_string(), "/proc/nowhere/pixels has 0 B free, and 64.0 MiB are to stay so");
        assert_eq!(full.lacking, ByteSize::mib(64));
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(shortage(&dir.path().join("not/yet"), 0).unwrap(), None, "the tests need 64 MiB themselves");
        assert!(shortage(dir.path(), u64::MAX).unwrap().is_some());
    }
}
