//! Watched directories: kernel notices and periodic scans in, "this file has settled" out.
//!
//! One thread and one channel a source, so that a file system that hangs holds up nobody else. No file is opened here,
//! and nothing is remembered of files that have settled: a scan reports every file again, and whoever listens knows
//! which ones are old. What is in a file is for `ingest`.

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
    /// What it is called; its path where it has no name. Two sources of one path have one each.
    #[serde(default)]
    pub name: Option<String>,
    /// How long a file must look the same before it counts as written, where nobody was seen closing it; "10ms" or more.
    /// "2s" [choice].
    #[serde(default = "default_quiet_period", with = "humantime_serde")]
    pub quiet_period: Duration,
    /// How often the whole directory is looked through, for what the kernel does not report (network file systems,
    /// overflows, files that could not be stored before); "1s" or more. "10m" [choice].
    #[serde(default = "default_rescan_interval", with = "humantime_serde")]
    pub rescan_interval: Duration,
    /// Files and directories that are passed over, beside hidden ones and what programs keep for themselves.
    #[serde(default)]
    pub exclude: Patterns,
    /// Where there are any, only files that match one are taken in.
    #[serde(default)]
    pub include: Patterns,
    /// Whether its pictures are answered as they come. true [choice].
    #[serde(default = "default_classify")]
    pub classify: bool,
    /// When its latest pictures make a state.
    #[serde(default)]
    pub state: StateRule,
    /// The part of its pictures that is looked at; all of them where there is none.
    #[serde(default)]
    pub crop: Option<Region>,
}

impl Source {
    /// What tells the source from others, here and in the catalogue: its name, or its path where it has none. Paths are
    /// absolute and names have no slash, so that one is never taken for the other.
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
    /// The file is complete, as far as can be told. It may be one that was reported before.
    Settled(ObservedFile),
    /// The file or the directory with all below it is not there any more.
    Gone(PathBuf),
    /// The file or the directory with all below it has another name now. A directory's files are reported again.
    Moved { from: PathBuf, to: PathBuf },
    /// What is wrong with the source, told once at the start and then at each change.
    Problem(Option<String>),
    /// Something that people should know and that is not wrong.
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

/// The way to a source's thread for those who do not listen to it.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

/// Notices of a source that may wait; more of them wait in the kernel, and what overflows there causes a scan.
const NOTICES: usize = 64;

/// Starts watching; the source is scanned first. A state directory that lies in it is passed over.
///
/// A full channel slows the watching down and loses nothing.
///
/// # Errors
/// Where there are no more threads or descriptors to be had.
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

/// Whether a source and the state directory are the same or one lies in the other, by whichever links and mounts. False
/// where that cannot be known, since a file system does not answer; the source's own thread finds it out later.
pub fn overlaps(source: &Path, state_dir: &Path) -> bool {
    let (reply, answer) = sync_channel(1);
    let (source, state_dir) = (source.to_owned(), state_dir.to_owned());
    let look = move || {
        // Nobody waits for a late answer.
        let _ = reply.send(
            mounts::read().is_ok_and(|mounts| mounts::overlap(&mounts, &resolved(&source), &resolved(&state_dir))),
        );
    };
    let started = thread::Builder::new().name("overlaps".into()).spawn(look);
    started.is_ok() && answer.recv_timeout(ANSWER).unwrap_or(false)
}

/// How long a file system may take to answer before the service starts without it. [choice]
const ANSWER: Duration = Duration::from_secs(2);

/// The path without links, as far as it exists.
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
    /// Looks through the source again, now, or once more after the scan that goes on.
    pub fn rescan(&self) {
        self.shared.rescan.store(true, Ordering::Relaxed);
        self.shared.inputs.ring();
    }

    /// How long the source's file system has owed an answer.
    pub fn unanswered(&self) -> Duration {
        match self.shared.busy_since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => self.shared.start.elapsed().saturating_sub(Duration::from_millis(since)),
        }
    }

    /// Has whoever waits for [`Handle::silent`] look, where the file system has owed an answer for so long.
    pub fn remind(&self, limit: Duration) {
        if self.unanswered() >= limit {
            self.shared.silent.notify_one();
        }
    }

    /// Ready when the file system was found to owe an answer.
    pub async fn silent(&self) {
        self.shared.silent.notified().await;
    }
}

/// What a source's thread shares with its [`Handle`]s.
struct Shared {
    inputs: kernel::Sender,
    /// Not everything that the kernel told could be kept.
    overflow: AtomicBool,
    rescan: AtomicBool,
    stop: AtomicBool,
    start: Instant,
    /// When the thread last turned to the file system, ms since `start`; 0 while it does not wait for that.
    busy_since: AtomicU64,
    silent: Notify,
}

impl Shared {
    /// The thread turns to the file system, which may not answer.
    fn busy(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.busy_since.store(now.max(1), Ordering::Relaxed);
    }

    /// The thread waits for something else.
    fn idle(&self) {
        self.busy_since.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
pub mod namespace;
#[cfg(test)]
mod tests;
