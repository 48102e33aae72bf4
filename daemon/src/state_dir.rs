//! The directory of everything that the service writes: created, closed to other users, and locked by one service at a
//! time.

mod barrier;

use coft_core::shown::shown_path;
use nix::unistd::geteuid;
use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;
use tracing::{info, warn};

/// File that a running service locks.
const LOCK: &str = "lock";
/// File by which a state directory is recognised.
pub const CATALOG: &str = "catalog.sqlite";

#[derive(Debug, Error)]
pub enum StateDirError {
    #[error("the state directory {} cannot be used: {}", shown_path(path), barrier::explain_unwritable(path, source))]
    Unusable { path: PathBuf, source: io::Error },
    #[error("the state directory {} is in use by another coftd; stop it or use another --state-dir", shown_path(path))]
    InUse { path: PathBuf },
}

/// Creates the state directory and locks it, because two services would damage each other's files.
///
/// # Errors
/// The directory cannot be created or written, or another service has locked it.
pub fn take(dir: &Path) -> Result<File, StateDirError> {
    let failed = |source| StateDirError::Unusable { path: dir.to_owned(), source };
    let path = dir.join(LOCK);
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir).and_then(|()| close_to_others(dir));
    // If the disk cannot be written now, the file from an earlier start is opened.
    let lock = made.and_then(|()| File::create(&path)).or_else(|error| File::open(&path).map_err(|_| error));
    let lock = lock.map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => {
            if let Err(error) = coft_fs::remove_unfinished(dir) {
                warn!(problem = %error, "what a loss of power has left cannot be removed: {error}");
            }
            Ok(lock)
        }
        Err(TryLockError::WouldBlock) => Err(StateDirError::InUse { path: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Checks that the directory can be written: writes a file there and removes it.
///
/// # Errors
/// The directory cannot be written; the error has the reason and the remedy.
pub fn try_writing(dir: &Path) -> Result<(), StateDirError> {
    let failed = |source| StateDirError::Unusable { path: dir.to_owned(), source };
    let mut file = tempfile::Builder::new().prefix(".trial-").tempfile_in(dir).map_err(failed)?;
    file.write_all(b"trial").map_err(failed)
}

/// Removes the rights of other users, because pixels, models and the catalogue are for the service alone. A directory
/// that contains other files instead, or that everybody may write, such as /tmp, is left unchanged: others may use it.
fn close_to_others(dir: &Path) -> io::Result<()> {
    let found = fs::metadata(dir)?;
    let mode = found.mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let shown = shown_path(dir);
    let is_ours = dir.join(CATALOG).exists() || fs::read_dir(dir)?.next().is_none();
    if is_ours && mode & 0o1002 == 0 && found.uid() == geteuid().as_raw() {
        fs::set_permissions(dir, Permissions::from_mode(mode & !0o077))?;
        info!("the state directory {shown} had the mode {mode:04o}; it is closed to other users now");
    } else {
        warn!(
            "other users may enter the state directory {shown}, which has the mode {mode:04o}; the service's own new files \
             in it are closed to them"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn mode(dir: &Path) -> u32 {
        fs::metadata(dir).unwrap().mode() & 0o7777
    }

    /// The group of the service could read the catalogue, the pixels and the models.
    #[test]
    fn the_state_directory_is_closed_to_others() {
        let dir = TempDir::new().unwrap();
        let new = dir.path().join("of/coft");
        let lock = take(&new).unwrap();
        assert_eq!(mode(&new), 0o700);
        assert!(matches!(take(&new).unwrap_err(), StateDirError::InUse { .. }));
        drop(lock);
        fs::write(new.join(CATALOG), "").unwrap();
        fs::set_permissions(&new, Permissions::from_mode(0o750)).unwrap();
        take(&new).unwrap();
        assert_eq!(mode(&new), 0o700, "one of an earlier version, too");

        let empty = dir.path().join("empty");
        fs::create_dir(&empty).unwrap();
        fs::set_permissions(&empty, Permissions::from_mode(0o755)).unwrap();
        take(&empty).unwrap();
        assert_eq!(mode(&empty), 0o700);
    }

    #[test]
    fn a_directory_that_others_use_stays_as_it_is() {
        let dir = TempDir::new().unwrap();
        let (home, tmp) = (dir.path().join("home"), dir.path().join("tmp"));
        for (shared, bits, file) in [(&home, 0o755, "letter"), (&tmp, 0o1777, CATALOG)] {
            fs::create_dir(shared).unwrap();
            fs::write(shared.join(file), "").unwrap();
            fs::set_permissions(shared, Permissions::from_mode(bits)).unwrap();
            take(shared).unwrap();
            assert_eq!(mode(shared), bits);
        }
    }

    #[test]
    fn a_trial_leaves_nothing_behind() {
        let dir = TempDir::new().unwrap();
        try_writing(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let told = try_writing(&dir.path().join("not/there")).unwrap_err().to_string();
        assert!(told.contains("cannot be used"), "{told}");
    }

    #[test]
    fn a_state_directory_that_cannot_be_used_says_why() {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let told = take(&file).unwrap_err().to_string();
        assert!(told.contains("cannot be used") && told.contains("is not a directory; name another one"), "{told}");
    }
}
