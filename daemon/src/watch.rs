//! Watched directories: the kernel's notices and periodic scans go in, "this file has settled" comes out.
//!
//! Each source has its own thread and channel, so that a file system that hangs delays no other source. No file is
//! opened here, and settled files are not remembered: a scan reports every file again, and the receiver of the notices
//! knows which files are old. The content of files is for `ingest`.

mod barrier;
mod kernel;
mod mounts;
mod names;
mod problems;
mod settle;
mod source;

pub use barrier::explain;
pub use names::Patterns;

use crate::observed_file::ObservedFile;
use coft_core::answer::StateRule;
use coft_vision::Region;
use kernel::Kernel;
use serde::Deserialize;
use source::Watched;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};

/// `[[source]]` of the configuration: a directory whose images are taken in, with everything below it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Source {
    pub path: PathBuf,
    /// Name of the source; its path if absent. Two sources with the same path need a name each.
    #[serde(default)]
    pub name: Option<String>,
    /// How long a file must look unchanged before it counts as complete, where the kernel did not report that its
    /// writer closed it; "10ms" or more. "2s" [choice].
    #[serde(default = "default_quiet_period", with = "humantime_serde")]
    pub quiet_period: Duration,
    /// Interval between scans of the whole directory. A scan finds what the kernel does not report (network file
    /// systems, overflows, files that could not be stored before); "1s" or more. "10m" [choice].
    #[serde(default = "default_rescan_interval", with = "humantime_serde")]
    pub rescan_interval: Duration,
    /// Files and directories to skip, in addition to hidden ones and those that programs keep for themselves.
    #[serde(default)]
    pub exclude: Patterns,
    /// If not empty, only files that match one of these patterns are taken in.
    #[serde(default)]
    pub include: Patterns,
    /// Whether its pictures are classified as they arrive. true [choice].
    #[serde(default = "default_classify")]
    pub classify: bool,
    /// Rule by which the source's latest pictures make a state.
    #[serde(default)]
    pub state: StateRule,
    /// The part of each picture that is used; the whole picture if absent.
    #[serde(default)]
    pub crop: Option<Region>,
}

impl Source {
    /// Identifies the source, here and in the catalogue: its name, or its path where it has no name. Paths are absolute
    /// and names have no slash, so that a name never equals a path.
    pub fn key(&self) -> PathBuf {
        self.name.as_ref().map_or_else(|| self.path.clone(), PathBuf::from)
    }
}

fn default_classify() -> bool {
    true
}

fn default_quiet_period() -> Duration {
    Duration::from_secs(2)
}

fn default_rescan_interval() -> Duration {
    Duration::from_secs(10 * 60)
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The file is complete, as far as the service can know. The same file may have been reported before.
    Settled(ObservedFile),
    /// The file, or the directory with all below it, does not exist any more.
    Gone(PathBuf),
    /// The file, or the directory with all below it, was renamed. The files in a renamed directory are reported again.
    Moved { from: PathBuf, to: PathBuf },
    /// What is wrong with the source, `None` if nothing is. Sent once at the start and then at each change.
    Problem(Option<String>),
    /// Information for people about something that is not wrong.
    Remark(String),
}

/// Watches one source until it is dropped.
pub struct Watch {
    /// [`Source::key`].
    pub source: PathBuf,
    pub dir: PathBuf,
    pub notices: mpsc::Receiver<Notice>,
    handle: Handle,
}

/// Access to a source's thread for code that does not receive its notices.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

/// Most notices of a source that wait in the channel. Further ones wait in the kernel; if the kernel's queue overflows,
/// a scan follows.
const NOTICES: usize = 64;

/// Starts watching; the source is scanned first. A state directory inside the source is skipped.
///
/// A full channel delays the watching thread but loses nothing.
///
/// # Errors
/// No thread or descriptor is available.
pub fn start(source: &Source, state_dir: &Path) -> io::Result<Watch> {
    let (sender, notices) = mpsc::channel(NOTICES);
    let (inputs, events) = kernel::inputs()?;
    let shared = Arc::new(Shared {
        inputs,
        overflow: AtomicBool::new(false),
        rescan: AtomicBool::new(false),
        stop: AtomicBool::new(false),
        start: Instant::now(),
        busy_since: AtomicU64::new(0),
        silent: Notify::new(),
    });
    let kernel = Kernel::new(events, Arc::clone(&shared));
    let watched = Watched::new(source.clone(), state_dir.to_owned(), sender, kernel, Arc::clone(&shared));
    thread::Builder::new().name("watch".into()).spawn(move || watched.run())?;
    Ok(Watch { source: source.key(), dir: source.path.clone(), notices, handle: Handle { shared } })
}

/// Whether a source and the state directory are the same or one lies in the other, also through links and mounts. False
/// where a file system does not answer, so that this cannot be known; the source's own thread finds it out later.
pub fn overlaps(source: &Path, state_dir: &Path) -> bool {
    let (reply, answer) = sync_channel(1);
    let (source, state_dir) = (source.to_owned(), state_dir.to_owned());
    let look = move || {
        // If the answer comes too late, there is no receiver any more.
        let _ = reply.send(
            mounts::read().is_ok_and(|mounts| mounts::overlap(&mounts, &resolved(&source), &resolved(&state_dir))),
        );
    };
    let started = thread::Builder::new().name("overlaps".into()).spawn(look);
    started.is_ok() && answer.recv_timeout(ANSWER).unwrap_or(false)
}

/// How long a file system may take to answer before the service starts without its answer. [choice]
const ANSWER: Duration = Duration::from_secs(2);

/// The path with all links resolved, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    let found = |above: &Path| Some(fs::canonicalize(above).ok()?.join(path.strip_prefix(above).ok()?));
    path.ancestors().find_map(found).unwrap_or_else(|| path.to_owned()).components().collect()
}

impl Watch {
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.handle.shared.stop.store(true, Ordering::Relaxed);
        self.handle.shared.inputs.ring();
    }
}

impl Handle {
    /// Scans the source now, or once more after the current scan.
    pub fn rescan(&self) {
        self.shared.rescan.store(true, Ordering::Relaxed);
        self.shared.inputs.ring();
    }

    /// How long the source's thread has waited for an answer of its file system.
    pub fn unanswered(&self) -> Duration {
        match self.shared.busy_since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => self.shared.start.elapsed().saturating_sub(Duration::from_millis(since)),
        }
    }

    /// Wakes the task that waits in [`Handle::silent`], if the file system has not answered for at least `limit`.
    pub fn remind(&self, limit: Duration) {
        if self.unanswered() >= limit {
            self.shared.silent.notify_one();
        }
    }

    /// Waits until [`Handle::remind`] finds that the file system does not answer.
    pub async fn silent(&self) {
        self.shared.silent.notified().await;
    }
}

/// What a source's thread shares with its [`Handle`]s.
struct Shared {
    inputs: kernel::Sender,
    /// The channel was full, so that notices of the kernel were lost.
    overflow: AtomicBool,
    rescan: AtomicBool,
    stop: AtomicBool,
    start: Instant,
    /// When the thread last called the file system, ms since `start`; 0 while it does not wait for the file system.
    busy_since: AtomicU64,
    silent: Notify,
}

impl Shared {
    /// To be called before the thread calls the file system, which may not answer.
    fn busy(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.busy_since.store(now.max(1), Ordering::Relaxed);
    }

    /// To be called when the thread does not wait for the file system any more.
    fn idle(&self) {
        self.busy_since.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
pub mod namespace;
#[cfg(test)]
mod tests;
