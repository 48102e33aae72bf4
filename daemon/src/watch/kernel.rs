//! The kernel's notices for one source: a watch for each directory, and whether anything was mounted.
//!
//! The caller finds the directories: each watch covers only the directory's own entries, so that a directory that
//! cannot be watched does not affect the others.

use super::problems::Limit;
use super::{Shared, mounts};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use notify::event::{AccessKind, AccessMode};
use notify::{Config, ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Bound;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Most notices that wait for a source's thread. The watcher's own thread must not wait when this is full, because it
/// has to answer requests to watch a directory. A notice that does not fit is lost and causes a scan.
const INPUTS: usize = 16_384;

/// Sends to a source's thread: notices from the kernel, and wake-ups from other threads.
pub struct Sender {
    events: SyncSender<notify::Result<Event>>,
    bell: UnixStream,
}

impl Sender {
    /// Sends a notice; false where there was no room.
    fn send(&self, event: notify::Result<Event>) -> bool {
        let taken = self.events.try_send(event).is_ok();
        self.ring();
        taken
    }

    /// Wakes the thread.
    pub fn ring(&self) {
        // If the socket is full, earlier wake-ups are still unread, so the thread wakes anyway.
        let _ = (&self.bell).write(&[0]);
    }
}

/// The thread's end of the inputs.
pub struct Inputs {
    events: Receiver<notify::Result<Event>>,
    bell: UnixStream,
}

/// Both ends of a source's inputs. The thread waits for a socket rather than for the channel, so that it can wait for
/// changes of the table of mounts as well.
///
/// # Errors
/// Too many files are open.
pub fn inputs() -> io::Result<(Sender, Inputs)> {
    let (sender, events) = sync_channel(INPUTS);
    let (bell, heard) = UnixStream::pair()?;
    bell.set_nonblocking(true)?;
    heard.set_nonblocking(true)?;
    Ok((Sender { events: sender, bell }, Inputs { events, bell: heard }))
}

pub struct Kernel {
    /// None where the limit of inotify instances is reached; then there are no notices.
    watcher: Option<RecommendedWatcher>,
    /// None where `/proc` does not exist.
    mounts: Option<File>,
    /// The watched directories.
    dirs: BTreeSet<PathBuf>,
    inputs: Inputs,
    /// Something was mounted or unmounted since [`Kernel::mounts_changed`] was last called.
    remounted: bool,
    shared: Arc<Shared>,
}

impl Kernel {
    pub fn new(inputs: Inputs, shared: Arc<Shared>) -> Self {
        let mounts = File::open(mounts::TABLE).ok();
        Self { watcher: None, mounts, dirs: BTreeSet::new(), inputs, remounted: false, shared }
    }

    /// Drops every watch and starts anew.
    ///
    /// # Errors
    /// The kernel grants no inotify instance.
    pub fn restart(&mut self) -> Result<(), Limit> {
        self.stop();
        let shared = Arc::clone(&self.shared);
        let handler = move |event: notify::Result<Event>| {
            if !event.as_ref().is_ok_and(is_noise) && !shared.inputs.send(event) {
                shared.overflow.store(true, Ordering::Relaxed);
            }
        };
        let watcher = RecommendedWatcher::new(handler, Config::default().with_follow_symlinks(false));
        self.watcher = Some(watcher.map_err(|error| match raw(&error) {
            // The kernel has the same error for two limits: opening a file shows which one it is.
            Some(libc::EMFILE) if File::open("/dev/null").is_ok() => Limit::Instances,
            Some(libc::EMFILE | libc::ENFILE) => Limit::OpenFiles,
            _ => Limit::Other(error.to_string()),
        })?);
        Ok(())
    }

    pub fn stop(&mut self) {
        self.watcher = None;
        self.dirs.clear();
    }

    pub fn is_there(&self) -> bool {
        self.watcher.is_some()
    }

    /// Watches a directory. It may have been watched before, and replaced by another one since.
    ///
    /// # Errors
    /// The kernel does not watch it, and the reason is not that the directory does not exist or may not be read.
    pub fn watch(&mut self, dir: &Path) -> Result<(), Limit> {
        let Some(watcher) = &mut self.watcher else { return Ok(()) };
        let Err(error) = watcher.watch(dir, RecursiveMode::NonRecursive) else {
            if !self.dirs.contains(dir) {
                self.dirs.insert(dir.to_owned());
            }
            return Ok(());
        };
        self.dirs.remove(dir);
        match (&error.kind, raw(&error)) {
            (ErrorKind::MaxFilesWatch, _) => Err(Limit::Watches),
            // Scanning the directory reports these errors.
            (ErrorKind::PathNotFound, _) | (_, Some(libc::EACCES | libc::ENOENT | libc::ENOTDIR)) => Ok(()),
            _ => Err(Limit::Other(error.to_string())),
        }
    }

    pub fn is_watched(&self, dir: &Path) -> bool {
        self.dirs.contains(dir)
    }

    /// Ends the watches of a directory and of all directories below it.
    pub fn forget(&mut self, dir: &Path) {
        let from = (Bound::Included(dir), Bound::Unbounded);
        let below = self.dirs.range::<Path, _>(from).take_while(|path| path.starts_with(dir));
        let gone: Vec<PathBuf> = below.cloned().collect();
        for path in gone {
            self.dirs.remove(&path);
            if let Some(watcher) = &mut self.watcher {
                // The watch of a directory that has gone has ended by itself.
                let _ = watcher.unwatch(&path);
            }
        }
    }

    /// Waits until there is a notice, a wake-up or a change of mounts, but no longer than `patience`.
    pub fn wait(&mut self, patience: Duration) -> Option<notify::Result<Event>> {
        let heard = self.next();
        if heard.is_some() || patience.is_zero() {
            return heard;
        }
        // Rounded up: otherwise the last millisecond would be a busy loop.
        let patience = PollTimeout::try_from(patience + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        let bell = PollFd::new(self.inputs.bell.as_fd(), PollFlags::POLLIN);
        let mounts = self.mounts.as_ref().map(|mounts| PollFd::new(mounts.as_fd(), PollFlags::POLLPRI));
        let mut descriptors: Vec<PollFd<'_>> = [bell].into_iter().chain(mounts).collect();
        if poll(&mut descriptors, patience).is_ok() {
            // The kernel reports a change only once, so it is remembered.
            self.remounted |= descriptors.get(1).is_some_and(|mounts| mounts.any().unwrap_or(true));
        }
        let mut rings = [0; 4096];
        while self.inputs.bell.read(&mut rings).is_ok_and(|count| count > 0) {}
        self.next()
    }

    /// The next notice that is available without waiting.
    pub fn next(&self) -> Option<notify::Result<Event>> {
        self.inputs.events.try_recv().ok()
    }

    /// Whether something was mounted or unmounted while the thread waited, since [`Kernel::mounts_changed`] was last
    /// called.
    pub fn is_remounted(&self) -> bool {
        self.remounted
    }

    /// Whether anything was mounted or unmounted since the last call.
    pub fn mounts_changed(&mut self) -> bool {
        let Some(mounts) = &self.mounts else { return false };
        let mut descriptors = [PollFd::new(mounts.as_fd(), PollFlags::POLLPRI)];
        let now = poll(&mut descriptors, PollTimeout::ZERO).is_ok_and(|ready| ready > 0);
        std::mem::take(&mut self.remounted) || now
    }
}

/// Whether a notice is about reading a file; most of these reads are the daemon's own.
fn is_noise(event: &Event) -> bool {
    matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write))
}

fn raw(error: &notify::Error) -> Option<i32> {
    match &error.kind {
        ErrorKind::Io(error) => io::Error::raw_os_error(error),
        _ => None,
    }
}
