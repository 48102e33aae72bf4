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
use std::io::{self, Read, Write};
use std::ops::Bound;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Notices that may wait for a source's thread. The watcher's own thread never waits for it: it has to answer when a
/// directory is to be watched. What does not fit causes a scan.
const INPUTS: usize = 16_384;

/// To a source's thread, from the kernel and from others.
pub struct Sender {
    events: SyncSender<notify::Result<Event>>,
    bell: UnixStream,
}

impl Sender {
    /// Answers whether there was room.
    fn send(&self, event: notify::Result<Event>) -> bool {
        let taken = self.events.try_send(event).is_ok();
        self.ring();
        taken
    }

    /// Wakes the thread.
    pub fn ring(&self) {
        // Where there is no room, it has not heard the earlier rings yet.
        let _ = (&self.bell).write(&[0]);
    }
}

/// What the thread hears.
pub struct Inputs {
    events: Receiver<notify::Result<Event>>,
    bell: UnixStream,
}

/// Both ends of a source's inputs. The thread waits for a socket rather than for the channel, so that it can wait for
/// the table of mounts as well.
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
    /// None where the limit of instances is reached; then nothing is told.
    watcher: Option<RecommendedWatcher>,
    /// None where `/proc` is not there.
    mounts: Option<File>,
    /// The directories that are watched.
    dirs: BTreeSet<PathBuf>,
    inputs: Inputs,
    /// Something was mounted or unmounted, and nobody has asked since.
    remounted: bool,
    shared: Arc<Shared>,
}

impl Kernel {
    pub fn new(inputs: Inputs, shared: Arc<Shared>) -> Self {
        let mounts = File::open(mounts::TABLE).ok();
        Self { watcher: None, mounts, dirs: BTreeSet::new(), inputs, remounted: false, shared }
    }

    /// Drops every watch and begins anew.
    ///
    /// # Errors
    /// Where the kernel grants no instance.
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

    /// Waits for so long, or until there is something to hear or to do, or something was mounted.
    pub fn wait(&mut self, patience: Duration) -> Option<notify::Result<Event>> {
        let heard = self.next();
        if heard.is_some() || patience.is_zero() {
            return heard;
        }
        // Rounded up, so that it does not look again and again in the last millisecond.
        let patience = PollTimeout::try_from(patience + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        let bell = PollFd::new(self.inputs.bell.as_fd(), PollFlags::POLLIN);
        let mounts = self.mounts.as_ref().map(|mounts| PollFd::new(mounts.as_fd(), PollFlags::POLLPRI));
        let mut descriptors: Vec<PollFd<'_>> = [bell].into_iter().chain(mounts).collect();
        if poll(&mut descriptors, patience).is_ok() {
            // The kernel tells of it once.
            self.remounted |= descriptors.get(1).is_some_and(|mounts| mounts.any().unwrap_or(true));
        }
        let mut rings = [0; 4096];
        while self.inputs.bell.read(&mut rings).is_ok_and(|count| count > 0) {}
        self.next()
    }

    /// What else there is to hear.
    pub fn next(&self) -> Option<notify::Result<Event>> {
        self.inputs.events.try_recv().ok()
    }

    /// Whether something was mounted or unmounted while the thread waited, and nobody has asked since.
    pub fn is_remounted(&self) -> bool {
        self.remounted
    }

    /// Whether anything was mounted or unmounted since this was last asked.
    pub fn mounts_changed(&mut self) -> bool {
        let Some(mounts) = &self.mounts else { return false };
        let mut descriptors = [PollFd::new(mounts.as_fd(), PollFlags::POLLPRI)];
        let now = poll(&mut descriptors, PollTimeout::ZERO).is_ok_and(|ready| ready > 0);
        std::mem::take(&mut self.remounted) || now
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
