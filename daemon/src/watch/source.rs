//! The thread of one source. It first handles the kernel's notices, then scans one directory at a time, and reports
//! what it finds.
//!
//! A directory is watched before it is scanned, so that a file that appears in between is seen twice rather than never.
//! In the whole source, files named like images come before all others.

mod hearing;
mod looking;

use super::kernel::Kernel;
use super::mounts::{self, Mount};
use super::names::Names;
use super::problems::Problems;
use super::settle::Settling;
use super::{Notice, Shared, Source, barrier, resolved};
use crate::observed_file::FileFingerprint;
use coft_core::shown::shown_path;
use hearing::RENAME;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How often a source checks its directory while it has a problem or work to do. [choice]
const TICK: Duration = Duration::from_secs(1);
/// How often an idle source checks that its directory is still the same one: the kernel does not report that a link on
/// the path has changed. 2 min [choice].
const IDLE_TICK: Duration = Duration::from_secs(120);
/// How often a directory that could not be read or watched is tried again. [choice]
const RETRY: Duration = Duration::from_secs(5);
/// Most unreadable directories that are tried again at a time.
const RETRIED: usize = 64;

/// The receiver of the notices has gone, or the watch was dropped.
pub struct Closed;

pub struct Watched {
    source: Source,
    names: Names,
    state_dir: PathBuf,
    notices: mpsc::Sender<Notice>,
    shared: Arc<Shared>,
    root: Option<Root>,
    kernel: Kernel,
    /// Directories to scan for images; `rest` has those to scan for other files after all of these.
    queue: BTreeSet<PathBuf>,
    rest: BTreeSet<PathBuf>,
    settling: Settling,
    /// The first half of a rename, while the second half may follow.
    leaving: Option<Leaving>,
    /// The kernel has reported a change of the source's own directory.
    root_changed: bool,
    problems: Problems,
    told: Option<Option<String>>,
    /// Whether a scan of the whole source is going on.
    scanning: bool,
    /// None while a scan goes on and no other scan was requested.
    next_scan: Option<Instant>,
    next_retry: Instant,
    seen: Seen,
    /// The part of [`Seen`] that was last reported as a remark.
    remarked: Option<Seen>,
}

/// A directory that exists and is being watched.
struct Root {
    path: PathBuf,
    /// Device and inode; they differ if another directory was mounted or moved to this path.
    identity: (u64, u64),
    /// The mount that it lies on. The same file system may be mounted anew, and then has no watches.
    mount: Option<u64>,
    /// The mounts below it.
    mounts: BTreeMap<PathBuf, u64>,
    /// Device numbers of the file systems met so far.
    devices: HashSet<u64>,
}

struct Leaving {
    cookie: usize,
    path: PathBuf,
    since: Instant,
}

/// What a scan has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    files: u64,
    links: u64,
    passed_over: u64,
}

impl Watched {
    pub fn new(
        source: Source,
        state_dir: PathBuf,
        notices: mpsc::Sender<Notice>,
        kernel: Kernel,
        shared: Arc<Shared>,
    ) -> Self {
        let now = Instant::now();
        Self {
            names: Names::new(source.exclude.clone(), source.include.clone()),
            settling: Settling::new(source.quiet_period),
            kernel,
            source,
            state_dir,
            notices,
            shared,
            root: None,
            queue: BTreeSet::new(),
            rest: BTreeSet::new(),
            leaving: None,
            root_changed: false,
            problems: Problems::default(),
            told: None,
            scanning: false,
            next_scan: Some(now),
            next_retry: now,
            seen: Seen::default(),
            remarked: None,
        }
    }

    pub fn run(mut self) {
        let mut next_tick = Instant::now();
        while self.turn(&mut next_tick).is_ok() {}
    }

    fn turn(&mut self, next_tick: &mut Instant) -> Result<(), Closed> {
        let patience = match (self.queue.is_empty() && self.rest.is_empty(), &self.leaving) {
            (false, _) => Duration::ZERO,
            (true, Some(_)) => RENAME,
            (true, None) => next_tick.saturating_duration_since(Instant::now()),
        };
        let first = self.kernel.wait(patience);
        if self.shared.stop.load(Ordering::Relaxed) || self.notices.is_closed() {
            return Err(Closed);
        }
        if self.shared.rescan.swap(false, Ordering::Relaxed) {
            self.next_scan = Some(Instant::now());
        }
        self.shared.busy();
        self.hear(first)?;
        let now = Instant::now();
        let is_told = std::mem::take(&mut self.root_changed) || self.kernel.is_remounted();
        if now >= *next_tick || is_told || self.is_scan_due(now) {
            self.tick()?;
            *next_tick = Instant::now() + self.pause();
        }
        self.step()?;
        // After the kernel's notices, files may have to settle, or a problem may exist.
        if !self.is_idle() {
            *next_tick = (*next_tick).min(Instant::now() + TICK);
        }
        self.shared.idle();
        Ok(())
    }

    /// Time until the next tick.
    fn pause(&self) -> Duration {
        if !self.settling.is_empty() {
            return (self.source.quiet_period / 4).clamp(Duration::from_millis(5), TICK);
        }
        // A problem may be solved at any time, so it is checked at every tick.
        let pause = if self.is_idle() { IDLE_TICK } else { TICK };
        let scan = self.next_scan.filter(|_| !self.scanning);
        scan.map_or(pause, |at| pause.min(at.saturating_duration_since(Instant::now())))
    }

    /// Whether there is no problem and no work.
    fn is_idle(&self) -> bool {
        self.told == Some(None) && self.problems == Problems::default() && !self.scanning && self.settling.is_empty()
    }

    fn tick(&mut self) -> Result<(), Closed> {
        let mounts_changed = self.kernel.mounts_changed();
        self.attach(mounts_changed)?;
        let now = Instant::now();
        if let Some(root) = self.root.as_ref().map(|root| root.path.clone()) {
            if self.is_scan_due(now) {
                self.scanning = true;
                self.next_scan = None;
                self.seen = Seen::default();
                self.queue.insert(root);
            }
            if self.next_retry <= now {
                self.next_retry = now + RETRY;
                self.retry();
            }
            for path in self.settling.quiet(now) {
                match fingerprint(&path) {
                    Some(fingerprint) if self.settling.looked(&path, fingerprint, now) => {
                        self.settled(path, fingerprint)?
                    }
                    Some(_) => {}
                    None => self.settling.forget(&path),
                }
            }
        }
        self.tell_problem()
    }

    fn is_scan_due(&self, now: Instant) -> bool {
        !self.scanning && self.next_scan.is_none_or(|at| at <= now)
    }

    /// Starts watching a directory that has appeared, and stops watching one that has gone or was replaced.
    fn attach(&mut self, mounts_changed: bool) -> Result<(), Closed> {
        let found = fs::metadata(&self.source.path).and_then(|metadata| match metadata.is_dir() {
            true => Ok((identity(&metadata), fs::canonicalize(&self.source.path)?)),
            false => Err(io::ErrorKind::NotADirectory.into()),
        });
        let (identity, path) = match found {
            Ok(found) => found,
            Err(error) => {
                self.detach(Some(barrier::explain(&self.source.path, &error)));
                return Ok(());
            }
        };
        let is_same = self.root.as_ref().is_some_and(|root| root.identity == identity && root.path == path);
        if is_same && !mounts_changed {
            return Ok(());
        }
        let mounts = mounts::read().unwrap_or_default();
        let mount = mounts::of(&mounts, &path);
        if is_same && self.root.as_ref().is_some_and(|root| root.mount == mount) {
            return self.mounts_changed(&mounts);
        }
        let state_dir = resolved(&self.state_dir);
        if mounts::overlap(&mounts, &path, &state_dir) {
            let (path, state_dir) = (shown_path(&path).into_owned(), shown_path(&state_dir).into_owned());
            self.detach(Some(format!(
                "overlaps with state-dir through a link or a mount: {path} and {state_dir}; nothing of it is taken in; keep them apart"
            )));
            return Ok(());
        }
        self.detach(None);
        self.problems.limit = self.kernel.restart().err();
        let mounts = mounts::below(&mounts, &path);
        self.root = Some(Root { path, identity, mount, mounts, devices: HashSet::new() });
        self.next_scan = Some(Instant::now());
        self.tell_problem()
    }

    fn detach(&mut self, problem: Option<String>) {
        self.kernel.stop();
        self.queue.clear();
        self.rest.clear();
        self.scanning = false;
        self.root = None;
        self.remarked = None;
        self.problems = Problems { source: problem, ..Problems::default() };
        self.next_scan = Some(Instant::now());
    }

    /// Tries again the directories that could not be read or watched.
    fn retry(&mut self) {
        if !self.kernel.is_there() {
            self.problems.limit = self.kernel.restart().err();
            if self.problems.limit.is_none() {
                self.next_scan = Some(Instant::now());
            }
        }
        // Only the first unwatched directory is tried; if it can be watched now, the others follow.
        self.queue.extend(self.problems.unwatched.first().cloned());
        self.queue.extend(self.problems.unreadable.keys().take(RETRIED).cloned());
    }

    /// Scans again the directories below the source where something was mounted or unmounted.
    fn mounts_changed(&mut self, mounts: &[Mount]) -> Result<(), Closed> {
        let Some(root) = &mut self.root else { return Ok(()) };
        let now = mounts::below(mounts, &root.path);
        let before = std::mem::replace(&mut root.mounts, now.clone());
        let path = root.path.clone();
        let changed: BTreeSet<PathBuf> = before
            .iter()
            .filter(|(point, id)| now.get(*point) != Some(id))
            .chain(now.iter().filter(|(point, id)| before.get(*point) != Some(id)))
            .map(|(point, _)| point.clone())
            .collect();
        for point in changed {
            self.forget(&point);
            if point.strip_prefix(&path).is_ok_and(|below| self.names.take_all(below)) {
                self.queue.insert(point);
            }
        }
        self.tell_problem()
    }

    fn tell_problem(&mut self) -> Result<(), Closed> {
        let problem = self.problems.text(self.source.rescan_interval);
        if self.told.as_ref() != Some(&problem) {
            self.told = Some(problem.clone());
            self.tell(Notice::Problem(problem))?;
        }
        Ok(())
    }

    fn tell(&self, notice: Notice) -> Result<(), Closed> {
        self.shared.idle();
        let sent = self.notices.blocking_send(notice).map_err(|_| Closed);
        self.shared.busy();
        sent
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// The fingerprint of a regular file; `None` for anything else, or where the path does not exist any more.
fn fingerprint(path: &Path) -> Option<FileFingerprint> {
    fs::symlink_metadata(path).ok().filter(Metadata::is_file).map(|metadata| FileFingerprint::of(&metadata))
}
