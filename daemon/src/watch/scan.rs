//! A walk through a watched directory: which files are there, and which names are nobody's image.

use crate::sighting::Stamp;
use std::fs;
use std::path::{Component, Path, PathBuf};
use walkdir::WalkDir;

#[derive(Debug, Default)]
pub struct Found {
    pub files: Vec<(PathBuf, Stamp)>,
    /// The first directory or file that could not be looked at, and how many more.
    pub problem: Option<String>,
}

/// Every regular file under `dir` that [`is_candidate`]; symbolic links are not followed.
pub fn scan(root: &Path, dir: &Path) -> Found {
    let mut found = Found::default();
    let mut problems = 0u64;
    let walk = WalkDir::new(dir).follow_links(false).into_iter();
    for entry in walk.filter_entry(|entry| entry.path() == root || is_candidate(root, entry.path())) {
        let file = entry.and_then(|entry| match entry.file_type().is_file() {
            true => entry.metadata().map(|metadata| Some((entry.into_path(), Stamp::of(&metadata)))),
            false => Ok(None),
        });
        match file {
            Ok(file) => found.files.extend(file),
            // Files come and go while the walk is under way.
            Err(error) if error.io_error().is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound) => {}
            Err(error) => {
                problems += 1;
                found.problem.get_or_insert(format!("{error}; let the service's user read it"));
            }
        }
    }
    if let Some(problem) = found.problem.as_mut().filter(|_| problems > 1) {
        *problem = format!("{problem} (and {} more)", problems - 1);
    }
    found
}

/// The stamp of a regular file; none for anything else, or where nothing is there any more.
pub fn stamp(path: &Path) -> Option<Stamp> {
    fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file).map(|metadata| Stamp::of(&metadata))
}

/// Whether a path below `root` may hold an image: nothing hidden, no name that programs give to files they still write.
pub fn is_candidate(root: &Path, path: &Path) -> bool {
    let Ok(below) = path.strip_prefix(root) else { return false };
    below != Path::new("")
        && below.components().all(|component| match component {
            Component::Normal(name) => {
                let name = name.to_string_lossy().to_lowercase();
                let unfinished = [".part", ".partial", ".tmp", ".temp", ".crdownload", ".filepart", "~"];
                !name.starts_with('.') && !unfinished.iter().any(|suffix| name.ends_with(suffix))
            }
            _ => false,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn hidden_and_unfinished_names_are_no_images() {
        let root = Path::new("/home/.camera");
        for name in ["a.jpg", "day 1/a.JPG", "noextension", "a.part.jpg", "résumé.png"] {
            assert!(is_candidate(root, &root.join(name)), "{name}");
        }
        for name in [".a.jpg", ".thumbs/a.jpg", "a.jpg.part", "a.TMP", "a.jpg~", "b.crdownload", "x.tmp/a.jpg"] {
            assert!(!is_candidate(root, &root.join(name)), "{name}");
        }
        assert!(!is_candidate(root, Path::new("/home/a.jpg")), "outside");
        assert!(!is_candidate(root, root), "the watched directory itself");
    }

    #[test]
    fn links_are_not_followed() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = dir.path();
        fs::write(outside.path().join("secret.png"), "x").unwrap();
        fs::create_dir(root.join("day")).unwrap();
        fs::write(root.join("day/a.png"), "x").unwrap();
        symlink(outside.path(), root.join("linked")).unwrap();
        symlink(outside.path().join("secret.png"), root.join("b.png")).unwrap();
        let found = scan(root, root);
        let paths: Vec<_> = found.files.iter().map(|(path, _)| path.as_path()).collect();
        assert_eq!(paths, [root.join("day/a.png")]);
        assert_eq!(found.problem, None);
        assert_eq!(stamp(&root.join("b.png")), None);
    }
}
