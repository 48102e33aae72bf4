//! Explains why the state directory cannot be used: what blocks access, and how to allow it.
//!
//! The kernel's own message, "Permission denied" or "Read-only file system", does not name the parent directory that
//! may not be entered. Nor does it mention the systemd unit, in which the service sees another file system than users
//! see.

use coft_core::shown::shown_path;
use nix::unistd::{AccessFlags, User, access, geteuid};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// Most links that are followed; the kernel has the same limit.
const LINKS: usize = 40;

/// Explains why the service cannot write its own directory, after writing has failed with `error`.
pub fn explain_unwritable(dir: &Path, error: &io::Error) -> String {
    use io::ErrorKind::{AlreadyExists, NotADirectory, PermissionDenied, ReadOnlyFilesystem, StorageFull};
    let (shown, user) = (shown_path(dir), user());
    match (error.kind(), find(dir, LINKS)) {
        (ReadOnlyFilesystem, _) => format!(
            "its file system is read-only for the service; a unit of systemd may write only what it names: create the \
             directory, owned by {user}, then with systemctl edit coftd add ReadWritePaths={shown} to [Service]; where the \
             disk itself is read-only, mount it writable"
        ),
        (PermissionDenied, Some(Barrier::Closed(closed, found))) => refusal(&closed, &found),
        (PermissionDenied, Some(Barrier::Missing(missing))) => format!(
            "the user {user} may not create {}; create {shown} for the service: install -d -m 0700 -o {user} {shown}",
            shown_path(&missing)
        ),
        (PermissionDenied, None) => {
            let found = fs::metadata(dir).map(|found| (found.mode() & 0o7777, found.uid()));
            let found = found.map_or_else(
                |_| String::new(),
                |(mode, owner)| format!(", which has the mode {mode:04o} and the owner {owner}"),
            );
            format!("the user {user} may not write it{found}; give it to the service: chown -R {user} {shown}")
        }
        (AlreadyExists | NotADirectory, Some(Barrier::File(file))) => {
            format!("{} is not a directory; name another one", shown_path(&file))
        }
        (StorageFull, _) => "its disk is full; free some space there".into(),
        _ => error.to_string(),
    }
}

/// Explains that the service's user may not enter a directory, and how to allow it.
fn refusal(dir: &Path, found: &Metadata) -> String {
    let (shown, user) = (shown_path(dir), user());
    let (mode, owner) = (found.mode() & 0o7777, found.uid());
    if mode & 0o777 == 0 && owner == 0 {
        return format!(
            "the service may not enter {shown}, which has the mode 0000; where its unit hides it (ProtectHome=, \
             InaccessiblePaths=), change that: systemctl edit coftd"
        );
    }
    format!(
        "the user {user} may not enter {shown}, which has the mode {mode:04o} and the owner {owner}; allow that, for \
         example: setfacl -m u:{user}:x {shown}"
    )
}

enum Barrier {
    /// The first part of the path that does not exist.
    Missing(PathBuf),
    /// A directory that may not be entered.
    Closed(PathBuf, Metadata),
    /// A part of the path that is not a directory.
    File(PathBuf),
}

/// Follows a path and its links, one part after the other.
fn find(path: &Path, links: usize) -> Option<Barrier> {
    let mut way = PathBuf::new();
    let mut steps = path.components();
    while let Some(step) = steps.next() {
        let above = way.clone();
        way.push(step);
        let found = match fs::symlink_metadata(&way) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(Barrier::Missing(way)),
            Err(_) => return None,
        };
        if found.is_symlink() {
            let target = above.join(fs::read_link(&way).ok()?).join(steps.as_path());
            return find(&target, links.checked_sub(1)?);
        }
        if !found.is_dir() {
            return Some(Barrier::File(way));
        }
        let last = steps.clone().next().is_none();
        if !last && step != Component::RootDir && access(&way, AccessFlags::X_OK).is_err() {
            return Some(Barrier::Closed(way, found));
        }
    }
    None
}

/// Name of the user that the service runs as, or the user id where it has no name.
fn user() -> String {
    let id = geteuid();
    User::from_uid(id).ok().flatten().map_or_else(|| id.to_string(), |user| user.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coft_harness::user;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    use tempfile::TempDir;

    #[test]
    fn a_directory_that_cannot_be_written_says_how_it_could_be() {
        let dir = TempDir::new().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let told = explain_unwritable(&file, &fs::create_dir(&file).unwrap_err());
        assert!(told.contains("/file is not a directory"), "{told}");
        let told = explain_unwritable(dir.path(), &io::Error::from(io::ErrorKind::ReadOnlyFilesystem));
        assert!(told.contains(&format!("add ReadWritePaths={}", dir.path().display())), "{told}");

        let [mine, new, home] = ["mine", "new", "home"].map(|name| dir.path().join(name));
        let inside = home.join("coft");
        fs::create_dir(&mine).unwrap();
        fs::create_dir_all(&inside).unwrap();
        fs::set_permissions(&home, Permissions::from_mode(0o750)).unwrap();
        let refused = || {
            let written = explain_unwritable(&mine, &fs::write(mine.join("lock"), "").unwrap_err());
            let made = explain_unwritable(&new, &fs::create_dir(&new).unwrap_err());
            (written, made, explain_unwritable(&inside, &fs::write(inside.join("lock"), "").unwrap_err()))
        };
        let Some((written, made, entered)) = user::as_nobody(refused) else { return };
        assert!(entered.contains("may not enter") && entered.contains("/home, which has the mode 0750"), "{entered}");
        assert!(
            written.contains("may not write it, which has the mode 07") && written.contains("chown -R"),
            "{written}"
        );
        assert!(made.contains("may not create") && made.contains("install -d"), "{made}");
    }
}
