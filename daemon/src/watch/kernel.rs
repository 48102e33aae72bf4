//! The kernel's notices of one source: a watch for each directory, and whether anything was mounted.
//!
//! Which directories there are is for the caller to find out: each watch ends at a directory's own files, so that one
//! that cannot be watched costs the others nothing.

use super::problems::Limit;
use super::{Shared, mounts};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use notify::event::{AccessKind, AccessMode};
use notify::{Config, ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Notices that may wait for a source's thread. The watcher's own thread never waits for it: it has to answer when a
/// directory is to be watched. What does not fit causes a scan.
const INPUTS: usize = 16_384;

/// What wakes a source's thread.
pub enum Input {
    Event(notify::Result<Event>),
    Wake,
}

/// Both ends of a source's inputs.
pub fn inputs() -> (SyncSender<Input>, Receiver<Input>) {
    sync_channel(INPUTS)
}

pub struct Kernel {
    /// None where the limit of instances is reached; then nothing is told.
    watcher: Option<RecommendedWatcher>,
    /// None where `/proc` is not there.
    mounts: Option<File>,
    /// The directories that are watched.
    dirs: BTreeSet<PathBuf>,
    inputs: Receiver<Input>,
    shared: Arc<Shared>,
}

impl Kernel {
    pub fn new(inputs: Receiver<Input>, shared: Arc<Shared>) -> Self {
        let mounts = File::open(mounts::TABLE).ok();
        Self { watcher: None, mounts, dirs: BTreeSet::new(), inputs, shared }
    }

    /// Drops every watch and begins anew.
    ///
    /// # Errors
    /// Where the kernel grants no instance.
    pub fn restart(&mut self) -> Result<(), Limit> {
        self.stop();
        let shared = Arc::clone(&self.shared);
        let handler = move |event: notify::Result<Event>| {
            if !event.as_ref().is_ok_and(is_noise) && shared.inputs.try_send(Input::Event(event)).is_err() {
                shared.overflow.store(true, Ordering::Relaxed);
            }
        };
        let watcher = RecommendedWatcher::new(handler, Config::default().with_follow_symlinks(false));
        self.watcher = Some(watcher.map_err(|error| match raw(&error) {
            // The kernel has one error for two limits.
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

    /// Watches a directory, also one that was watched before and may have been exchanged since.
    ///
    /// # Errors
    /// Where the kernel does not watch it, for another reason than that it is not there or may not be read.
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
            // Whoever looks through it is told so.
            (ErrorKind::PathNotFound, _) | (_, Some(libc::EACCES | libc::ENOENT | libc::ENOTDIR)) => Ok(()),
            _ => Err(Limit::Other(error.to_string())),
        }
    }

    pub fn is_watched(&self, dir: &Path) -> bool {
        self.dirs.contains(dir)
    }

    /// Ends the watch of a directory and of all below it.
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

    /// Waits for so long, or until there is something to hear or to do.
    pub fn wait(&self, patience: Duration) -> Option<notify::Result<Event>> {
        match self.inputs.recv_timeout(patience) {
            Ok(Input::Event(event)) => Some(event),
            // The thread itself keeps the other end.
            Ok(Input::Wake) | Err(_) => None,
        }
    }

    /// What else there is to hear.
    pub fn next(&self) -> Option<notify::Result<Event>> {
        self.inputs.try_iter().find_map(|input| match input {
            Input::Event(event) => Some(event),
            Input::Wake => None,
        })
    }

    /// Whether anything was mounted or unmounted since this was last asked.
    pub fn mounts_changed(&self) -> bool {
        let Some(mounts) = &self.mounts else { return false };
        let mut descriptors = [PollFd::new(mounts.as_fd(), PollFlags::POLLPRI)];
        poll(&mut descriptors, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }
}

/// Reads of files, those of the daemon itself above all.
fn is_noise(event: &Event) -> bool {
    matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write))
}

fn raw(error: &notify::Error) -> Option<i32> {
    match &error.kind {
        ErrorKind::Io(error) => io::Error::raw_os_error(error),
        _ => None,
    }
}
