//! The service's use of the machine: its memory, and the space on the disk of its state directory.

use nix::sys::statvfs::statvfs;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// How long a disk may take to report its free space. 1 s [choice].
const PATIENCE: Duration = Duration::from_secs(1);

/// Measures on request. Clones share one query of the disk, so that a disk that hangs blocks only one thread.
#[derive(Clone, Debug)]
pub struct Footprint {
    state_dir: PathBuf,
    looking: Arc<Mutex<()>>,
}

/// Result of one measurement; a value that is unknown is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Resident memory of this process, B.
    pub memory_bytes: Option<u64>,
    /// Space on the disk of the state directory: free for this user, and in total, B.
    pub disk: Option<Disk>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    pub free_bytes: u64,
    pub size_bytes: u64,
}

impl Footprint {
    pub fn new(state_dir: PathBuf) -> Self {
        Self { state_dir, looking: Arc::default() }
    }

    pub async fn look(&self) -> Taken {
        Taken { memory_bytes: memory(), disk: self.disk().await }
    }

    async fn disk(&self) -> Option<Disk> {
        let (dir, looking) = (self.state_dir.clone(), Arc::clone(&self.looking).try_lock_owned().ok()?);
        let look = tokio::task::spawn_blocking(move || {
            let found = disk_of(&dir);
            drop(looking);
            found
        });
        timeout(PATIENCE, look).await.ok()?.ok()?
    }
}

fn disk_of(dir: &Path) -> Option<Disk> {
    let disk = statvfs(dir).ok()?;
    let bytes = |blocks: u64| blocks * disk.fragment_size() as u64;
    Some(Disk { free_bytes: bytes(disk.blocks_available() as u64), size_bytes: bytes(disk.blocks() as u64) })
}

/// proc_pid_statm(5): the second number is the count of resident pages.
fn memory() -> Option<u64> {
    let pages: u64 = fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    Some(pages * page as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_and_disk_are_found() {
        let footprint = Footprint::new(std::env::temp_dir());
        let taken = footprint.look().await;
        let disk = taken.disk.unwrap();
        assert!(0 < disk.size_bytes && disk.free_bytes <= disk.size_bytes, "{disk:?}");
        // A test program with an async runtime uses megabytes, but not terabytes.
        assert!((1 << 20..1 << 40).contains(&taken.memory_bytes.unwrap()), "{taken:?}");
    }

    #[tokio::test]
    async fn a_disk_that_hangs_is_not_asked_twice() {
        let footprint = Footprint::new(std::env::temp_dir());
        let hangs = footprint.looking.lock().await;
        assert_eq!(footprint.clone().look().await.disk, None);
        drop(hangs);
        assert!(footprint.look().await.disk.is_some());
    }
}
