//! Watched directories: kernel notices and periodic scans in, "this file has settled" out.
//!
//! One thread a source, so that a file system that hangs holds up nobody else. Nothing is opened here, not even for
//! reading, and nothing is remembered of files that have settled: a scan reports every file again, and whoever listens
//! knows which ones are old. What is in a file is for `ingest`.

mod scan;
mod settle;

use crate::sighting::{Sighting, Stamp};
use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, ModifyKind, RenameMode};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use serde::Deserialize;
use settle::Settling;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc;

/// `[[source]]` of the configuration: a directory whose images are taken in, with everything below it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Source {
    pub path: PathBuf,
    /// How long a file must look the same before it counts as written, where nobody was seen closing it; "10ms" or more.
    /// "2s" [choice].
    #[serde(default = "default_quiet_period", with = "humantime_serde")]
    pub quiet_period: Duration,
    /// How often the whole directory is looked through, for what the kernel does not report (network file systems,
    /// overflows, files that could not be stored before); "1s" or more. "10m" [choice].
    #[serde(default = "default_rescan_interval", with = "humantime_serde")]
    pub rescan_interval: Duration,
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
    Settled(Sighting),
    /// The file or the directory with all below it is not there any more.
    Gone(PathBuf),
    /// Whether the source can be watched, told once at the start and then at each change.
    Source { path: PathBuf, problem: Option<String> },
}

/// Watches until it is dropped.
pub struct Watch {
    sources: Vec<SyncSender<Input>>,
}

/// Starts watching; every source is scanned first.
///
/// A full `notices` channel slows the watching down and loses nothing.
pub fn start(sources: &[Source], notices: &mpsc::Sender<Notice>) -> io::Result<Watch> {
    let mut inputs = Vec::new();
    for source in sources {
        let (sender, receiver) = sync_channel(INPUTS);
        let watched = Watched::new(source.clone(), notices.clone(), sender.clone());
        thread::Builder::new().name("watch".into()).spawn(move || watched.run(&receiver))?;
        inputs.push(sender);
    }
    Ok(Watch { sources: inputs })
}

impl Watch {
    /// Looks through every source again, now.
    pub fn rescan(&self) {
        for source in &self.sources {
            // A full channel means that the source is about to scan anyway or will overflow into a scan.
            let _ = source.try_send(Input::Rescan);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        for source in &self.sources {
            let _ = source.try_send(Input::Stop);
        }
    }
}

/// Kernel notices that may wait for a source; more of them wait in the kernel, and what overflows there causes a scan.
const INPUTS: usize = 4096;
/// How often an idle source checks that its directory is still the same one.
const IDLE_TICK: Duration = Duration::from_secs(1);

enum Input {
    Kernel(notify::Result<notify::Event>),
    Rescan,
    Stop,
}

/// Nobody listens any more.
struct Closed;

struct Watched {
    source: Source,
    notices: mpsc::Sender<Notice>,
    /// Given to each kernel watcher.
    inputs: SyncSender<Input>,
    attached: Option<Attached>,
    settling: Settling,
    next_scan: Instant,
    /// Directories that appeared, to be looked through when the kernel surely watches them.
    appeared: HashMap<PathBuf, Instant>,
    scan_problem: Option<String>,
    told: Option<Option<String>>,
}

/// A directory that exists and is being watched.
struct Attached {
    root: PathBuf,
    /// Device and inode: another directory may be mounted or moved in its place.
    identity: (u64, u64),
    /// Keeps the kernel's notices coming; without it there are only scans.
    _watcher: Option<RecommendedWatcher>,
    problem: Option<String>,
}

impl Watched {
    fn new(source: Source, notices: mpsc::Sender<Notice>, inputs: SyncSender<Input>) -> Self {
        let settling = Settling::new(source.quiet_period);
        Self {
            source,
            notices,
            inputs,
            attached: None,
            settling,
            next_scan: Instant::now(),
            appeared: HashMap::new(),
            scan_problem: None,
            told: None,
        }
    }

    fn run(mut self, inputs: &Receiver<Input>) {
        let mut next_tick = Instant::now();
        loop {
            let done = match inputs.recv_timeout(next_tick.saturating_duration_since(Instant::now())) {
                Ok(Input::Kernel(Ok(event))) => self.heard(event),
                Ok(Input::Kernel(Err(error))) => {
                    self.failed(&error);
                    Ok(())
                }
                Ok(Input::Rescan) => {
                    self.next_scan = Instant::now();
                    Ok(())
                }
                Ok(Input::Stop) | Err(RecvTimeoutError::Disconnected) => Err(Closed),
                Err(RecvTimeoutError::Timeout) => Ok(()),
            };
            if done.is_err() {
                return;
            }
            if Instant::now() >= next_tick || self.next_scan <= Instant::now() {
                if self.tick().is_err() {
                    return;
                }
                next_tick = Instant::now() + self.pause();
            }
        }
    }

    /// Time to the next tick.
    fn pause(&self) -> Duration {
        match self.settling.next() {
            None if self.appeared.is_empty() => IDLE_TICK,
            _ => (self.source.quiet_period / 4).clamp(Duration::from_millis(5), IDLE_TICK),
        }
    }

    fn tick(&mut self) -> Result<(), Closed> {
        self.attach();
        self.tell_problem()?;
        let root = self.attached.as_ref().map(|attached| attached.root.clone());
        if let Some(root) = root {
            let now = Instant::now();
            if self.next_scan <= now {
                self.next_scan = now + self.source.rescan_interval;
                self.appeared.clear();
                self.scan_problem = self.scan(&root, &root)?;
            }
            let due: Vec<_> = self.appeared.iter().filter(|(_, at)| **at <= now).map(|(dir, _)| dir.clone()).collect();
            for dir in due {
                self.appeared.remove(&dir);
                self.scan(&root, &dir)?;
            }
            for path in self.settling.quiet(now) {
                match scan::stamp(&path) {
                    Some(stamp) if self.settling.looked(&path, stamp, now) => self.settled(path, stamp)?,
                    Some(_) => {}
                    None => self.settling.forget(&path),
                }
            }
        }
        self.tell_problem()
    }

    /// Starts watching a directory that has appeared, and lets go of one that has gone or been replaced.
    fn attach(&mut self) {
        let found = fs::metadata(&self.source.path).and_then(|metadata| match metadata.is_dir() {
            true => Ok(((metadata.dev(), metadata.ino()), fs::canonicalize(&self.source.path)?)),
            false => Err(io::ErrorKind::NotADirectory.into()),
        });
        let (identity, root) = match found {
            Ok(found) => found,
            Err(error) => {
                self.attached = None;
                self.next_scan = Instant::now();
                self.scan_problem = Some(match error.kind() {
                    io::ErrorKind::NotFound => "the directory does not exist; create it or correct its path".into(),
                    io::ErrorKind::NotADirectory => "not a directory; correct the source's path".into(),
                    _ => format!("cannot be looked at: {error}"),
                });
                return;
            }
        };
        if self.attached.as_ref().is_some_and(|attached| attached.identity == identity && attached.root == root) {
            return;
        }
        // Watch first, scan second: what appears in between is then seen twice, not never.
        let inputs = self.inputs.clone();
        let handler = move |event: notify::Result<notify::Event>| {
            if !event.as_ref().is_ok_and(is_noise) {
                let _ = inputs.send(Input::Kernel(event));
            }
        };
        let config = notify::Config::default().with_follow_symlinks(false);
        let watcher = RecommendedWatcher::new(handler, config).and_then(|mut watcher| {
            watcher.watch(&root, RecursiveMode::Recursive)?;
            Ok(watcher)
        });
        let problem = watcher.as_ref().err().map(|error| self.watch_problem(error));
        self.attached = Some(Attached { root, identity, _watcher: watcher.ok(), problem });
        self.scan_problem = None;
        self.next_scan = Instant::now();
    }

    fn watch_problem(&self, error: &notify::Error) -> String {
        let interval = self.source.rescan_interval;
        match error.kind {
            notify::ErrorKind::MaxFilesWatch => format!(
                "the kernel's limit of watched directories is reached: new files are found only every {interval:?}; \
                 raise fs.inotify.max_user_watches"
            ),
            _ => format!("the kernel does not watch it: new files are found only every {interval:?}: {error}"),
        }
    }

    fn failed(&mut self, error: &notify::Error) {
        let problem = self.watch_problem(error);
        if let Some(attached) = &mut self.attached {
            attached.problem = Some(problem);
        }
        self.next_scan = Instant::now();
    }

    fn scan(&mut self, root: &Path, dir: &Path) -> Result<Option<String>, Closed> {
        let found = scan::scan(root, dir);
        for (path, stamp) in found.files {
            if is_old(&stamp, self.source.quiet_period) {
                self.settled(path, stamp)?;
            } else {
                self.settling.touched(path, stamp, Instant::now());
            }
        }
        Ok(found.problem)
    }

    fn heard(&mut self, event: notify::Event) -> Result<(), Closed> {
        if event.need_rescan() {
            self.next_scan = Instant::now();
            return Ok(());
        }
        let Some(root) = self.attached.as_ref().map(|attached| attached.root.clone()) else { return Ok(()) };
        let Some(path) = event.paths.into_iter().last().filter(|path| scan::is_candidate(&root, path)) else {
            return Ok(());
        };
        match event.kind {
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => {
                self.settling.forget(&path);
                self.appeared.remove(&path);
                self.notices.blocking_send(Notice::Gone(path)).map_err(|_| Closed)
            }
            EventKind::Create(CreateKind::Folder) => {
                self.directory_appeared(path);
                Ok(())
            }
            // Both ends of a rename, after each was told on its own.
            EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => Ok(()),
            kind => {
                let vouched = matches!(
                    kind,
                    EventKind::Access(AccessKind::Close(AccessMode::Write))
                        | EventKind::Modify(ModifyKind::Name(RenameMode::To))
                );
                match scan::stamp(&path) {
                    Some(stamp) if vouched => {
                        self.settling.forget(&path);
                        self.settled(path, stamp)?;
                    }
                    Some(stamp) => self.settling.touched(path, stamp, Instant::now()),
                    None if fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) && vouched => {
                        self.directory_appeared(path);
                    }
                    None => {}
                }
                Ok(())
            }
        }
    }

    /// The kernel may not watch a new directory before files appear in it; so it is looked through a little later.
    fn directory_appeared(&mut self, dir: PathBuf) {
        self.appeared.insert(dir, Instant::now() + self.source.quiet_period);
    }

    fn settled(&self, path: PathBuf, stamp: Stamp) -> Result<(), Closed> {
        let sighting = Sighting { source: self.source.path.clone(), path, stamp };
        self.notices.blocking_send(Notice::Settled(sighting)).map_err(|_| Closed)
    }

    fn tell_problem(&mut self) -> Result<(), Closed> {
        let attached = self.attached.as_ref().and_then(|attached| attached.problem.clone());
        let problem = attached.or_else(|| self.scan_problem.clone());
        if self.told.as_ref() != Some(&problem) {
            self.told = Some(problem.clone());
            let notice = Notice::Source { path: self.source.path.clone(), problem };
            self.notices.blocking_send(notice).map_err(|_| Closed)?;
        }
        Ok(())
    }
}

/// Reads of files, those of the daemon itself above all.
fn is_noise(event: &notify::Event) -> bool {
    matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write))
}

/// Whether nobody has touched the file for `period`. The kernel's own time counts, too: copying tools set the other back.
fn is_old(stamp: &Stamp, period: Duration) -> bool {
    let touched = Duration::from_nanos(u64::try_from(stamp.modified_ns.max(stamp.changed_ns)).unwrap_or(0));
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + touched).is_ok_and(|age| age >= period)
}

#[cfg(test)]
mod tests;
