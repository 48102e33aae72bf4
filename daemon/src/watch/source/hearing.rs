//! Handling of the kernel's notices.

use super::{Closed, Leaving, Watched, fingerprint};
use crate::observed_file::FileFingerprint;
use crate::watch::Notice;
use crate::watch::problems::Limit;
use notify::Event;
use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, ModifyKind, RemoveKind, RenameMode};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long after the first half of a rename the second half may come. [choice]
pub const RENAME: Duration = Duration::from_millis(20);
/// Most notices that are handled in a row before other work gets its turn.
const NOTICES: usize = 4096;

impl Watched {
    pub(super) fn hear(&mut self, first: Option<notify::Result<Event>>) -> Result<(), Closed> {
        let mut next = first;
        for _ in 0..NOTICES {
            match next.take().or_else(|| self.kernel.next()) {
                Some(Ok(event)) => self.heard(event)?,
                Some(Err(error)) => {
                    self.problems.limit = Some(Limit::Other(error.to_string()));
                    self.next_scan = Some(Instant::now());
                }
                None => break,
            }
        }
        if self.shared.overflow.swap(false, Ordering::Relaxed) {
            self.next_scan = Some(Instant::now());
        }
        match &self.leaving {
            Some(leaving) if leaving.since.elapsed() >= RENAME => self.left(),
            _ => Ok(()),
        }
    }

    fn heard(&mut self, event: Event) -> Result<(), Closed> {
        if event.need_rescan() {
            self.next_scan = Some(Instant::now());
            return Ok(());
        }
        let (kind, cookie) = (event.kind, event.tracker());
        let Some(path) = event.paths.into_iter().last() else { return Ok(()) };
        let has_gone = matches!(kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)));
        self.root_changed |= has_gone && self.root.as_ref().is_some_and(|root| root.path == path);
        match kind {
            // Both ends of a rename together; each end was already reported on its own.
            EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => Ok(()),
            EventKind::Modify(ModifyKind::Name(RenameMode::From)) => {
                self.left()?;
                let is_directory = self.kernel.is_watched(&path);
                // A notice without a cookie comes from the renamed directory itself; the directory above reports the
                // same rename.
                let Some(cookie) = cookie.filter(|_| self.is_taken(&path, is_directory)) else { return Ok(()) };
                self.forget(&path);
                self.leaving = Some(Leaving { cookie, path, since: Instant::now() });
                Ok(())
            }
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
                let arrived = |leaving: &mut Leaving| Some(leaving.cookie) == cookie;
                let from = self.leaving.take_if(arrived).map(|leaving| leaving.path);
                self.left()?;
                self.arrived(from, path)
            }
            EventKind::Remove(kind) => {
                self.left()?;
                match self.is_taken(&path, kind != RemoveKind::File) {
                    true => self.gone(path),
                    false => Ok(()),
                }
            }
            EventKind::Create(CreateKind::Folder) => {
                self.left()?;
                self.arrived(None, path)
            }
            kind => {
                self.left()?;
                let is_closed = matches!(kind, EventKind::Access(AccessKind::Close(AccessMode::Write)));
                let is_new = matches!(kind, EventKind::Create(_));
                self.changed(path, is_closed, is_new)
            }
        }
    }

    /// Whether a file may be an image, or a directory may hold images. False for the source's own directory.
    fn is_taken(&self, path: &Path, is_directory: bool) -> bool {
        let below = self.root.as_ref().and_then(|root| path.strip_prefix(&root.path).ok());
        below.is_some_and(|below| self.names.take(below, is_directory))
    }

    /// A file or directory was renamed to `path`; `from` is its old name, if that was in the source.
    fn arrived(&mut self, from: Option<PathBuf>, path: PathBuf) -> Result<(), Closed> {
        let Ok(metadata) = fs::symlink_metadata(&path) else { return from.map_or(Ok(()), |from| self.gone(from)) };
        if !self.is_taken(&path, metadata.is_dir()) {
            return from.map_or(Ok(()), |from| self.gone(from));
        }
        self.forget(&path);
        if let Some(from) = from {
            self.tell(Notice::Moved { from, to: path.clone() })?;
        }
        if metadata.is_dir() {
            self.queue.insert(path);
        } else if metadata.is_file() {
            self.seen.files += 1;
            self.settled(path, FileFingerprint::of(&metadata))?;
        } else {
            self.seen.links += u64::from(metadata.is_symlink());
        }
        self.look_at_links();
        Ok(())
    }

    /// A file was created, written or closed, or the rights of a file or directory were changed.
    fn changed(&mut self, path: PathBuf, is_closed: bool, is_new: bool) -> Result<(), Closed> {
        let Some(root) = &self.root else { return Ok(()) };
        let is_root = root.path == path;
        let Ok(metadata) = fs::symlink_metadata(&path) else { return Ok(()) };
        if metadata.is_dir() {
            if is_root || self.is_taken(&path, true) {
                self.rights_changed(path);
            }
            return Ok(());
        }
        if !self.is_taken(&path, false) {
            return Ok(());
        }
        match fingerprint(&path) {
            Some(fingerprint) if is_closed => {
                self.seen.files += 1;
                self.settling.forget(&path);
                self.settled(path, fingerprint)?;
            }
            Some(fingerprint) => self.settling.touched(path, fingerprint, Instant::now()),
            None => self.seen.links += u64::from(is_new && metadata.is_symlink()),
        }
        self.look_at_links();
        Ok(())
    }

    /// A directory may have become readable or unreadable.
    fn rights_changed(&mut self, dir: PathBuf) {
        let was_readable = self.kernel.is_watched(&dir) && !self.problems.unreadable.contains_key(&dir);
        let is_readable = fs::read_dir(&dir).is_ok() && fs::symlink_metadata(dir.join(".")).is_ok();
        if was_readable != is_readable {
            self.queue.insert(dir);
        }
    }

    /// The second half of a rename did not come, so the file or directory has left the source.
    fn left(&mut self) -> Result<(), Closed> {
        self.leaving.take().map_or(Ok(()), |leaving| self.gone(leaving.path))
    }

    fn gone(&mut self, path: PathBuf) -> Result<(), Closed> {
        self.forget(&path);
        self.tell(Notice::Gone(path))
    }

    /// Removes all that is known about a path and everything below it.
    pub(super) fn forget(&mut self, path: &Path) {
        self.kernel.forget(path);
        self.problems.forget(path);
        self.settling.forget(path);
        for queue in [&mut self.queue, &mut self.rest] {
            queue.remove(path);
        }
    }
}
