//! Files and directories that are there whole or not at all, also after a loss of power; digests of files, and the room
//! on a disk.
//!
//! Every change follows one order: write something new, sync it, rename it, sync the directory.

#![warn(missing_docs, clippy::missing_errors_doc)]

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::statvfs::statvfs;
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// How the names of what is not finished begin. A loss of power may leave such a file or directory behind; see
/// [`remove_unfinished`].
const UNFINISHED: &str = ".new-";

/// Puts a file with this content in the place of the one at `path`, if there is one. Its owner alone may read and write
/// it.
///
/// # Errors
/// The file cannot be written; what was there is there still.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    replace_with(path, |new| fs::write(new, content))
}

/// The same with what `write` writes into the new file, whose path it is given; it may give the file other permissions.
///
/// # Errors
/// The file cannot be written, or `write` fails; what was there is there still, and of the new file nothing.
pub fn replace_with(path: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let dir = parent(path);
    let new = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(dir)?.into_temp_path();
    write(&new)?;
    File::open(&new)?.sync_all()?;
    new.persist(path)?;
    sync_dir(dir)
}

/// Puts a directory, with the files that `fill` writes into it, in the place of the one at `path`, if there is one.
/// `fill` syncs what it writes, as [`write_synced`] does.
///
/// # Errors
/// The directory cannot be made, `fill` fails, or `path` is not a directory; nothing of the new directory is left.
pub fn replace_dir(path: &Path, fill: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok_and(|found| !found.is_dir()) {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let dir = parent(path);
    let new = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(dir)?;
    fill(new.path())?;
    sync_dir(new.path())?;
    let unfinished = new.keep();
    let done = exchange(&unfinished, path).and_then(|()| sync_dir(dir));
    // What was there before, or what could not be put in its place.
    done.and(remove_tree(&unfinished))
}

/// Renames a directory to `path`. A directory that is there takes the old name of the new one, at the same moment
/// (renameat2(2)). If the file system cannot exchange names, as NFS, the old directory is removed first.
fn exchange(new: &Path, path: &Path) -> io::Result<()> {
    match renameat2(AT_FDCWD, new, AT_FDCWD, path, RenameFlags::RENAME_EXCHANGE) {
        Err(Errno::ENOENT) => fs::rename(new, path),
        Err(Errno::EINVAL | Errno::ENOSYS) => {
            remove_tree(path)?;
            fs::rename(new, path)
        }
        exchanged => Ok(exchanged?),
    }
}

/// Removes what [`replace`] and [`replace_dir`] have left in a directory when the power went. Nobody may be at work
/// there.
///
/// # Errors
/// Something cannot be removed. A directory that is not there is fine.
pub fn remove_unfinished(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if is_unfinished(&path) {
            remove_tree(&path)?;
        }
    }
    Ok(())
}

/// Whether a path is one of those that [`remove_unfinished`] removes.
fn is_unfinished(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes()))
}

/// Writes a file and waits until its content is on the disk. Its name is there for certain once the directory is synced
/// ([`sync_dir`]): this is for the files of a directory that is renamed afterwards.
///
/// # Errors
/// The file cannot be written.
pub fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Waits until the names in a directory are on the disk.
///
/// # Errors
/// The directory cannot be opened or synced.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Removes a file, a link, or a directory with everything in it, whether its files may be written or not; nothing there
/// is fine.
///
/// # Errors
/// Something of it cannot be removed.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => {
            open_up(path)?;
            fs::remove_dir_all(path)
        }
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Lets the owner remove what is in a directory, however deep.
fn open_up(dir: &Path) -> io::Result<()> {
    fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a directory at once, whatever happens while its files go: it is renamed first. Nothing there is fine.
///
/// # Errors
/// It cannot be renamed, and is there as before; or not all of it can be removed, and [`remove_unfinished`] removes the
/// rest.
pub fn remove_dir_at_once(path: &Path) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut away = OsString::from(UNFINISHED);
    away.push(name);
    let away = path.with_file_name(away);
    // The rest of an earlier one.
    remove_tree(&away)?;
    match fs::rename(path, &away) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => remove_tree(&away),
    }
}

/// The directory of a path; `.` for a bare name.
pub fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// SHA-256, 64 hex digits, of the files' contents one behind the other.
///
/// # Errors
/// A file cannot be read.
pub fn sha256_files(files: &[PathBuf]) -> io::Result<String> {
    let mut hash = Sha256::new();
    for file in files {
        // A buffer of this size keeps the disk and the hash busy alike.
        let mut reader = io::BufReader::with_capacity(1 << 20, File::open(file)?);
        io::copy(&mut reader, &mut hash)?;
    }
    Ok(hex(&hash.finalize()))
}

/// SHA-256 of one file, 64 hex digits.
///
/// # Errors
/// The file cannot be read.
pub fn sha256_file(file: &Path) -> io::Result<String> {
    sha256_files(&[file.to_owned()])
}

/// SHA-256 of these bytes, 64 hex digits.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes as hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes that may still be written to the disk of a directory, which need not be there yet.
///
/// # Errors
/// The file system does not say.
pub fn free_space(dir: &Path) -> io::Result<u64> {
    let disk = statvfs(dir.ancestors().find(|dir| dir.exists()).unwrap_or(dir))?;
    Ok(disk.blocks_available() as u64 * disk.fragment_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().expect("the tests use plain names"))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        let fails = |new: &Path| {
            fs::write(new, "half of it")?;
            Err(io::Error::other("the disk is full"))
        };
        assert_eq!(replace_with(&path, fails).unwrap_err().to_string(), "the disk is full");
        assert_eq!((fs::read(&path).unwrap(), names(dir.path())), (b"two".to_vec(), vec!["state.json".to_owned()]));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(replace(&dir.path().join("nowhere/state.json"), b"three").is_err());
    }

    #[test]
    fn a_directory_is_replaced_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        let fill = |name: &'static str| move |new: &Path| write_synced(&new.join(name), b"weights");
        replace_dir(&path, fill("a")).unwrap();
        replace_dir(&path, fill("b")).unwrap();
        assert!(replace_dir(&path, |_| Err(io::Error::other("the disk is full"))).is_err());
        let file = path.join("b");
        assert_eq!(replace_dir(&file, fill("c")).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        assert_eq!(fs::read(&file).unwrap(), b"weights");
        assert_eq!((names(dir.path()), names(&path)), (vec!["model".to_owned()], vec!["b".to_owned()]));
    }

    #[test]
    fn what_a_loss_of_power_leaves_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(format!("{UNFINISHED}x")), "half").unwrap();
        fs::create_dir(dir.path().join(format!("{UNFINISHED}y"))).unwrap();
        fs::write(dir.path().join("labels.csv"), "image,class\n").unwrap();
        remove_unfinished(dir.path()).unwrap();
        assert_eq!(names(dir.path()), ["labels.csv"]);
        remove_unfinished(&dir.path().join("nowhere")).unwrap();
    }

    /// Purging a classifier met generations that nobody may write to. As root, permissions stop nobody.
    #[test]
    fn a_tree_that_may_not_be_written_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("generations/1");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("model.onnx"), "").unwrap();
        fs::set_permissions(&inner, Permissions::from_mode(0o500)).unwrap();
        let link = dir.path().join("active");
        std::os::unix::fs::symlink(&inner, &link).unwrap();
        remove_tree(&link).unwrap();
        assert!(inner.is_dir(), "a link goes, not what it names");
        remove_tree(&dir.path().join("generations")).unwrap();
        remove_tree(&dir.path().join("generations")).unwrap();
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn a_directory_is_removed_at_once_and_so_is_what_was_left_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lamps");
        fs::create_dir_all(path.join("generations")).unwrap();
        fs::create_dir_all(dir.path().join(format!("{UNFINISHED}lamps/generations"))).unwrap();
        remove_dir_at_once(&path).unwrap();
        remove_dir_at_once(&path).unwrap();
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn digests_are_those_of_sha256sum() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("abc");
        fs::write(&file, "abc").unwrap();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!((sha256_file(&file).unwrap().as_str(), sha256(b"abc").as_str()), (abc, abc));
        assert_eq!(sha256_files(&[file.clone(), file]).unwrap(), sha256(b"abcabc"));
    }

    #[test]
    fn a_directory_that_is_not_there_yet_has_the_room_of_its_disk() {
        let dir = tempfile::tempdir().unwrap();
        assert!(free_space(&dir.path().join("not/yet")).unwrap() > 0);
        assert_eq!(parent(Path::new("bare")), Path::new("."));
    }
}
