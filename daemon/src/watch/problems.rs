//! The present problems of a source, one by one, and the one sentence about them that people read. A problem that is
//! solved is removed.

use coft_core::shown::shown_path;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The limit that keeps the kernel from watching a directory. Each has its own remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Limit {
    Watches,
    Instances,
    OpenFiles,
    Other(String),
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Problems {
    /// A problem of the source as a whole; the other fields are then empty.
    pub source: Option<String>,
    /// Directories that cannot be scanned, or that have a file whose attributes cannot be read, and why.
    pub unreadable: BTreeMap<PathBuf, String>,
    /// Directories that are scanned but not watched by the kernel.
    pub unwatched: BTreeSet<PathBuf>,
    /// The reason why the kernel does not watch them.
    pub limit: Option<Limit>,
    /// A state directory of coft that lies inside the source.
    pub state_dir: Option<PathBuf>,
    /// Number of symbolic links in a source that has no files.
    pub links: Option<u64>,
}

impl Problems {
    pub fn cannot_read(&mut self, dir: &Path, error: &io::Error) {
        self.unreadable.insert(dir.to_owned(), plain(error));
    }

    /// Removes the problems of a directory that has gone, and of all below it.
    pub fn forget(&mut self, dir: &Path) {
        let from = (Bound::Included(dir), Bound::Unbounded);
        let unreadable = self.unreadable.range::<Path, _>(from).map(|(path, _)| path);
        let gone: Vec<PathBuf> = unreadable.take_while(|path| path.starts_with(dir)).cloned().collect();
        for path in gone {
            self.unreadable.remove(&path);
        }
        let unwatched = self.unwatched.range::<Path, _>(from);
        let gone: Vec<PathBuf> = unwatched.take_while(|path| path.starts_with(dir)).cloned().collect();
        for path in gone {
            self.unwatched.remove(&path);
        }
        if self.state_dir.as_ref().is_some_and(|state_dir| state_dir.starts_with(dir)) {
            self.state_dir = None;
        }
    }

    /// The sentence about all problems; `None` where there are none.
    pub fn text(&self, interval: Duration) -> Option<String> {
        if let Some(problem) = &self.source {
            return Some(problem.clone());
        }
        let mut texts = Vec::new();
        if let Some(dir) = &self.state_dir {
            let dir = shown_path(dir).into_owned();
            texts.push(format!(
                "{dir} is a state directory of coft and is passed over; keep state-dir out of the source"
            ));
        }
        if let Some((dir, problem)) = self.unreadable.first_key_value() {
            let more = more(self.unreadable.len());
            texts.push(format!("{}{more} cannot be looked through: {problem}", shown_path(dir)));
        }
        let found = format!("new files are found there only every {}", humane(interval));
        match (&self.limit, self.unwatched.first()) {
            (Some(limit), Some(dir)) => {
                let more = more(self.unwatched.len());
                texts.push(format!("the kernel does not watch {}{more}: {}; {found}", shown_path(dir), limit.text()));
            }
            (Some(limit), None) => texts.push(format!("the kernel does not watch it: {}; {found}", limit.text())),
            (None, _) => {}
        }
        if let Some(links) = self.links {
            texts.push(format!(
                "there is no file in it, but {links} symbolic link{}: links are not followed; put the files themselves there, or name \
                 the directory that holds them as a source",
                if links == 1 { "" } else { "s" }
            ));
        }
        (!texts.is_empty()).then(|| texts.join("; "))
    }
}

impl Limit {
    fn text(&self) -> String {
        let now = |key: &str| {
            let path = format!("/proc/sys/{}", key.replace('.', "/"));
            fs::read_to_string(path).map_or_else(|_| key.to_owned(), |value| format!("{key} (now {})", value.trim()))
        };
        match self {
            Self::Watches => format!(
                "the limit of watched directories is reached; raise {}, and in a container {} as well, with sysctl",
                now("fs.inotify.max_user_watches"),
                now("user.max_inotify_watches")
            ),
            Self::Instances => format!(
                "the limit of inotify instances is reached; raise {}, and in a container {} as well, with sysctl",
                now("fs.inotify.max_user_instances"),
                now("user.max_inotify_instances")
            ),
            Self::OpenFiles => "the service has too many files open; raise LimitNOFILE= of its unit".into(),
            Self::Other(problem) => problem.clone(),
        }
    }
}

/// The text of an error for people, with what to do.
pub fn plain(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::PermissionDenied => "permission denied; let the service's user read it".into(),
        _ if error.raw_os_error() == Some(libc::ENOTCONN) => {
            "the program behind its file system has ended; mount it again".into()
        }
        _ => format!("{error}; it is tried again every few seconds"),
    }
}

fn more(count: usize) -> String {
    if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() }
}

/// The interval as the configuration writes it: `10m`.
pub fn humane(interval: Duration) -> String {
    humantime_serde::re::humantime::format_duration(interval).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(600);

    fn denied() -> io::Error {
        ErrorKind::PermissionDenied.into()
    }

    /// A problem was still reported after its cause was gone.
    #[test]
    fn what_is_mended_is_not_told_any_more() {
        let mut problems = Problems::default();
        assert_eq!(problems.text(INTERVAL), None);
        problems.cannot_read(Path::new("/in/b"), &denied());
        problems.cannot_read(Path::new("/in/a/x"), &denied());
        problems.unwatched.insert("/in/a".into());
        problems.limit = Some(Limit::Watches);
        let text = problems.text(INTERVAL).unwrap();
        assert!(
            text.contains("/in/a/x (and 1 more) cannot be looked through: permission denied; let the service"),
            "{text}"
        );
        assert!(text.contains("does not watch /in/a: the limit of watched directories"), "{text}");
        assert!(text.contains("fs.inotify.max_user_watches") && text.contains("only every 10m"), "{text}");
        problems.forget(Path::new("/in/a"));
        assert!(problems.unwatched.is_empty());
        assert_eq!(problems.unreadable.len(), 1);
        problems.forget(Path::new("/in/b"));
        problems.limit = None;
        assert_eq!(problems.text(INTERVAL), None);
    }

    #[test]
    fn a_tree_of_links_is_told() {
        let problems = Problems { links: Some(5), ..Problems::default() };
        assert!(problems.text(INTERVAL).unwrap().contains("5 symbolic links: links are not followed"));
    }
}
