//! Scanning of directories, one at a time.

use super::{Closed, Seen, Watched};
use crate::clock;
use crate::observed_file::{FileFingerprint, ObservedFile};
use crate::watch::problems::humane;
use crate::watch::{Notice, mounts, names};
use coft_core::shown::shown_path;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// What a scan looks for in a directory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Files named like images, and directories.
    Images,
    Rest,
}

impl Watched {
    /// Scans the next directory.
    pub(super) fn step(&mut self) -> Result<(), Closed> {
        if let Some(dir) = self.queue.pop_first() {
            return self.visit(&dir, Part::Images);
        }
        if let Some(dir) = self.rest.pop_first() {
            return self.visit(&dir, Part::Rest);
        }
        if std::mem::take(&mut self.scanning) {
            return self.scanned();
        }
        Ok(())
    }

    fn visit(&mut self, dir: &Path, part: Part) -> Result<(), Closed> {
        let Some(root) = self.root.as_ref().map(|root| root.path.clone()) else { return Ok(()) };
        // Before anything else is asked: it shows below whether the answers were about one and the same directory.
        let mount = (part == Part::Images).then(|| mounts::rooted_at(dir)).flatten();
        let metadata = match fs::symlink_metadata(dir) {
            Ok(metadata) if metadata.is_dir() => metadata,
            Ok(_) => {
                self.forget(dir);
                return Ok(());
            }
            Err(error) => {
                self.cannot_read(dir, &error);
                return Ok(());
            }
        };
        if is_state_dir(dir) {
            self.forget(dir);
            self.problems.state_dir = Some(dir.to_owned());
            return self.tell_problem();
        }
        if part == Part::Images {
            self.watch(dir);
            // Something was mounted or unmounted here meanwhile: the directory that is watched may be another one.
            if mounts::rooted_at(dir) != mount {
                self.queue.insert(dir.to_owned());
                return Ok(());
            }
            self.note_mount(dir, mount);
            self.meet(dir, metadata.dev())?;
        }
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) => {
                self.cannot_read(dir, &error);
                return Ok(());
            }
        };
        let (mut others, mut failed) = (false, None);
        for entry in entries {
            self.shared.busy();
            let looked = entry.and_then(|entry| Ok((entry.file_type()?, entry)));
            let (kind, entry) = match looked {
                Ok(looked) => looked,
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            };
            let path = entry.path();
            let below = path.strip_prefix(&root).unwrap_or(&path);
            if !self.names.take(below, kind.is_dir()) {
                self.seen.passed_over += u64::from(part == Part::Images);
            } else if kind.is_dir() {
                if part == Part::Images {
                    self.queue.insert(path);
                }
            } else if kind.is_symlink() {
                self.seen.links += u64::from(part == Part::Images);
            } else if !kind.is_file() {
                self.seen.passed_over += u64::from(part == Part::Images);
            } else if names::is_pictures(&path) != (part == Part::Images) {
                others = true;
            } else {
                match entry.metadata() {
                    Ok(metadata) => {
                        self.seen.files += 1;
                        self.found(path, FileFingerprint::of(&metadata))?;
                    }
                    // A file may disappear at any time.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => failed = Some(error),
                }
            }
        }
        match failed {
            Some(error) => self.cannot_read(dir, &error),
            None => drop(self.problems.unreadable.remove(dir)),
        }
        if others && part == Part::Images {
            self.rest.insert(dir.to_owned());
        }
        self.look_at_links();
        Ok(())
    }

    fn watch(&mut self, dir: &Path) {
        let Err(limit) = self.kernel.watch(dir) else {
            if self.problems.unwatched.remove(dir) {
                self.queue.append(&mut self.problems.unwatched);
                self.problems.limit = None;
            }
            return;
        };
        self.problems.unwatched.insert(dir.to_owned());
        self.problems.limit = Some(limit);
    }

    /// Records the file system that is mounted at a watched directory. The file system may be unmounted before the
    /// table of mounts is read, and renaming a directory with a mount in it does not change the table. Without this
    /// record, the end of the watch would go unnoticed.
    fn note_mount(&mut self, dir: &Path, mount: Option<u64>) {
        let root = self.root.as_mut().filter(|root| root.path != dir);
        if let Some((root, id)) = root.zip(mount) {
            root.mounts.insert(dir.to_owned(), id);
        }
    }

    /// Reports, once for each file system, that the kernel does not report all changes there.
    fn meet(&mut self, dir: &Path, device: u64) -> Result<(), Closed> {
        let Some(root) = &mut self.root else { return Ok(()) };
        if root.devices.contains(&device) {
            return Ok(());
        }
        // A file system that cannot be asked now is asked at the next scan.
        let Ok(found) = nix::sys::statfs::statfs(dir) else { return Ok(()) };
        root.devices.insert(device);
        let Some(name) = mounts::without_notices(found.filesystem_type().0) else { return Ok(()) };
        let (dir, interval) = (shown_path(dir).into_owned(), humane(self.source.rescan_interval));
        self.tell(Notice::Remark(format!(
            "{dir} is watched, but lies on a file system ({name}) whose changes from elsewhere the kernel does not report: those are \
             found every {interval} (rescan-interval), and at coftctl rescan"
        )))
    }

    pub(super) fn cannot_read(&mut self, dir: &Path, error: &io::Error) {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => self.forget(dir),
            _ => self.problems.cannot_read(dir, error),
        }
    }

    /// Ends a scan of the whole source.
    fn scanned(&mut self) -> Result<(), Closed> {
        self.next_scan.get_or_insert(Instant::now() + self.source.rescan_interval);
        let Seen { links, passed_over, .. } = self.seen;
        let seen = Seen { files: 0, links, passed_over };
        if self.remarked.as_ref() != Some(&seen) && (links > 0 || passed_over > 0) {
            let source = shown_path(&self.source.path).into_owned();
            let text = format!(
                "passed over in {source}: {passed_over} by name (hidden, unfinished, excluded, or what programs keep for \
                 themselves), {links} symbolic links, which are not followed"
            );
            self.tell(Notice::Remark(text))?;
        }
        self.remarked = Some(seen);
        if self.problems.state_dir.as_ref().is_some_and(|dir| !is_state_dir(dir)) {
            self.problems.state_dir = None;
        }
        self.look_at_links();
        self.tell_problem()
    }

    pub(super) fn look_at_links(&mut self) {
        if self.scanning {
            return;
        }
        let Seen { files, links, .. } = self.seen;
        self.problems.links = (files == 0 && links > 0).then_some(links);
    }

    fn found(&mut self, path: PathBuf, fingerprint: FileFingerprint) -> Result<(), Closed> {
        if is_old(&fingerprint, self.source.quiet_period) {
            self.settling.forget(&path);
            return self.settled(path, fingerprint);
        }
        self.settling.seen(path, fingerprint, Instant::now());
        Ok(())
    }

    pub(super) fn settled(&self, path: PathBuf, fingerprint: FileFingerprint) -> Result<(), Closed> {
        self.tell(Notice::Settled(ObservedFile { source: self.source.key(), path, fingerprint }))
    }
}

/// Whether a directory is the state directory of this service or of another one, through whatever link or mount it is
/// reached.
fn is_state_dir(dir: &Path) -> bool {
    ["catalog.sqlite", "generations"].iter().all(|name| fs::symlink_metadata(dir.join(name)).is_ok())
}

/// Whether the file was not changed for `period`. The kernel's change time counts as well as the modification time,
/// because copying tools set the latter back. False where the clock was set within `period`, because then a file that
/// is being written may look years old.
fn is_old(fingerprint: &FileFingerprint, period: Duration) -> bool {
    if clock::was_set_within(period) {
        return false;
    }
    let touched = Duration::from_nanos(u64::try_from(fingerprint.modified_ns.max(fingerprint.changed_ns)).unwrap_or(0));
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + touched).is_ok_and(|age| age >= period)
}
