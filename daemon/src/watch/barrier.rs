//! Explains why a source cannot be found or entered: names the first directory on the path that blocks it, and the
//! remedy.

use super::mounts::{self, Mount};
use super::problems::plain;
use coft_core::shown::shown_path;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The text for a source that cannot be accessed.
pub fn explain(source: &Path, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => not_found(source, &mounts::read().unwrap_or_default()),
        ErrorKind::NotADirectory => "not a directory; correct the source's path".into(),
        ErrorKind::PermissionDenied => {
            let Some(dir) = barred(source) else { return format!("cannot be looked at: {}", plain(error)) };
            let mode = fs::symlink_metadata(dir)
                .map_or(String::new(), |metadata| format!(", mode {:04o}", metadata.mode() & 0o7777));
            let user = user();
            format!(
                "the directory {} above it may not be entered by the service's user ({user}{mode}); allow it, for example with: setfacl \
                 -m u:{user}:x {0}",
                shown_path(dir)
            )
        }
        _ => format!("cannot be looked at: {}", plain(error)),
    }
}

fn not_found(source: &Path, mounts: &[Mount]) -> String {
    if mounts::is_private_tmp(mounts, source) {
        return "the directory does not exist for the service, whose unit gives it a /tmp and /var/tmp of its own (PrivateTmp=); use \
                another directory"
            .into();
    }
    let hidden =
        ["/home", "/root", "/run/user"].iter().find(|home| source.starts_with(home) && mounts::is_hidden(mounts, home));
    if let Some(home) = hidden {
        return format!(
            "the directory does not exist for the service, whose unit hides {home} from it (ProtectHome=); use another directory, or \
             set ProtectHome=read-only"
        );
    }
    match source.ancestors().skip(1).find(|above| fs::symlink_metadata(above).is_ok()) {
        Some(above) if Some(above) != source.parent() => format!(
            "the directory does not exist; create it or correct its path (what exists of it is {})",
            shown_path(above)
        ),
        _ => "the directory does not exist; create it or correct its path".into(),
    }
}

/// The highest directory that may not be entered.
fn barred(source: &Path) -> Option<&Path> {
    let above: Vec<&Path> = source.ancestors().skip(1).collect();
    let barred = |dir: &&&Path| {
        let inside = fs::symlink_metadata(dir.join("."));
        inside.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    };
    above.iter().rev().find(barred).copied()
}

fn user() -> String {
    let uid = nix::unistd::geteuid();
    nix::unistd::User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exists_of_a_missing_path_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let missing = |below: &str| explain(&dir.path().join(below), &ErrorKind::NotFound.into());
        assert_eq!(missing("in"), "the directory does not exist; create it or correct its path");
        let text = missing("in/day/x");
        assert!(text.ends_with(&format!("what exists of it is {})", dir.path().display())), "{text}");
    }
}
