//! The lane of one source: it takes the source's files into the catalogue. It has a task and a place to read of its
//! own, so that a source that hangs holds up no other. Of many files that arrive at once, the latest is looked at
//! first.

use super::IntakeStatus;
use super::backoff::Backoff;
use super::refusals::Refusals;
use super::waiting::Waiting;
use crate::catalog::{Catalog, CatalogError, Entry};
use crate::ingest::{Ingest, Rejection, Unready};
use crate::observed_file::{Arrival, ImageRecord, ObservedFile};
use crate::telemetry::events;
use crate::watch::{Notice, Watch};
use coft_core::ids::ImageId;
use coft_core::shown::shown_path;
use std::collections::HashMap;
use std::fs;
use std::future::ready;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// A file that takes longer to read gives its place to another file. [choice]
const PLACE: Duration = Duration::from_secs(2);
/// If a file system does not answer for longer than this, that is reported as the source's problem. [choice]
pub const SLOW: Duration = Duration::from_secs(10);
/// Maximum number of such slow files that make room for others; the source waits for any more of them.
const MOST_SLOW: usize = 4;
/// How long work that has begun may still take when the service stops; a file that takes longer to read is taken in at
/// the next start. [choice]
const LAST_WORK: Duration = Duration::from_secs(3);
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of waiting files, with what is known of them: 30 MB. If there are more, those that were there first
/// are looked at first. 100000 [choice].
const MOST_WAITING: usize = 100_000;

/// What a lane sends to be stored in the catalogue.
pub enum Finding {
    Entry(Entry),
    /// An entry that is stored before the lane goes on.
    Now(Entry, oneshot::Sender<()>),
    /// The reason why something could not be stored.
    NotStored(String),
}

/// What all lanes share.
#[derive(Clone)]
pub struct Shared {
    pub ingest: Ingest,
    pub catalog: Catalog,
    pub findings: mpsc::Sender<Finding>,
    pub status: Arc<watch::Sender<IntakeStatus>>,
    /// Places to read, beside the one that each lane has of its own.
    pub places: Arc<Semaphore>,
}

pub struct Lane {
    source: PathBuf,
    watch: Watch,
    shared: Shared,
    own_place: Arc<Semaphore>,
    waiting: Waiting,
    /// The number of waiting files that was last reported.
    told_waiting: usize,
    working: JoinSet<(ObservedFile, Arrival, IngestOutcome)>,
    in_work: HashMap<PathBuf, Work>,
    refusals: Refusals,
    /// Files that each scan tries again, and why they were refused.
    barred: HashMap<PathBuf, String>,
    /// Back-off for files that could not be read.
    backoff: Backoff,
    problems: Problems,
    told: Option<Option<String>>,
}

/// A file in work.
struct Work {
    reading: Arc<Reading>,
    /// A later observation of the file, to be looked at afterwards.
    later: Option<(ObservedFile, Arrival)>,
    /// The file has another name by now, or has gone.
    is_void: bool,
}

/// Why files of a source are not taken in as they should be.
#[derive(Default)]
struct Problems {
    watch: Option<String>,
    /// The file system does not answer.
    silent: Option<String>,
    slow: Option<String>,
    unreadable: Option<String>,
}

enum IngestOutcome {
    Accepted(ImageRecord),
    /// The content is a known image.
    Known(ImageId),
    Unready(Unready),
    Failed(CatalogError),
}

impl Lane {
    pub fn new(watch: Watch, shared: Shared) -> Self {
        Self {
            source: watch.source.clone(),
            watch,
            shared,
            own_place: Arc::new(Semaphore::new(1)),
            waiting: Waiting::default(),
            told_waiting: 0,
            working: JoinSet::new(),
            in_work: HashMap::new(),
            refusals: Refusals::default(),
            barred: HashMap::new(),
            backoff: Backoff::none(),
            problems: Problems::default(),
            told: None,
        }
    }

    pub async fn run(mut self, stop: CancellationToken) {
        let mut clock = interval(LOOK_INTERVAL);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut cleared, mut ended) =
            (Some(cleared(self.shared.catalog.clone(), self.source.clone(), self.watch.dir.clone())), false);
        loop {
            if self.has_next()
                && let Some((observed, came)) = self.waiting.next()
            {
                self.begin(observed, came).await;
            }
            self.tell_end_of_waiting();
            let (room, is_busy) = (!ended && self.waiting.len() < MOST_WAITING, self.is_busy());
            let handle = self.watch.handle();
            tokio::select! {
                () = stop.cancelled() => break,
                notice = self.watch.notices.recv(), if room => match notice {
                    Some(notice) => self.noticed(notice).await,
                    None => {
                        ended = true;
                        self.problems.watch = Some("its watch has failed; restart the service and report this".into());
                    }
                },
                Some(done) = self.working.join_next() => {
                    let (observed, came, outcome) = done.expect("taking a file in neither panics nor is aborted");
                    self.done(observed, came, outcome).await;
                }
                () = ready(()), if self.has_next() => {}
                paths = async { cleared.as_mut().expect("there is one").await }, if cleared.is_some() => {
                    cleared = None;
                    for path in paths.unwrap_or_default() {
                        self.found(self.gone(path)).await;
                    }
                }
                _ = clock.tick(), if is_busy => self.look(),
                () = handle.silent() => self.look(),
            }
        }
        self.finish().await;
    }

    /// Takes no new files, finishes those in work, and gives up those that cannot be read in time.
    async fn finish(mut self) {
        self.watch.notices.close();
        let end = Instant::now() + LAST_WORK;
        while let Ok(Some(done)) = timeout_at(end, self.working.join_next()).await {
            let (observed, came, outcome) = done.expect("taking a file in neither panics nor is aborted");
            self.in_work.values_mut().for_each(|work| work.later = None);
            self.done(observed, came, outcome).await;
        }
        self.count_refusals(true);
    }

    /// Whether the lane has to act as time passes; it does not if nothing is in work and nothing is wrong.
    fn is_busy(&self) -> bool {
        let Problems { silent, slow, .. } = &self.problems;
        let is_wrong = silent.is_some() || slow.is_some() || self.backoff.is_there();
        is_wrong
            || !self.in_work.is_empty()
            || !self.waiting.is_empty()
            || self.refusals.is_waiting()
            || self.watch.handle().unanswered() > Duration::ZERO
    }

    /// Whether a file waits and there is room for it.
    fn has_next(&self) -> bool {
        !self.waiting.is_empty() && self.in_work.len() < self.most()
    }

    /// Maximum number of files in work: a file that cannot be read makes room for another, up to a limit.
    fn most(&self) -> usize {
        2 * self.shared.ingest.threads() + self.slow().count().min(MOST_SLOW)
    }

    fn slow(&self) -> impl Iterator<Item = &PathBuf> {
        self.in_work.iter().filter(|(_, work)| work.reading.lasted() >= SLOW).map(|(path, _)| path)
    }

    async fn noticed(&mut self, notice: Notice) {
        match notice {
            Notice::Settled(observed) => self.sighted(observed, Arrival::now()),
            Notice::Gone(path) => {
                self.void(&path);
                self.found(self.gone(path)).await;
            }
            Notice::Moved { from, to } => {
                self.void(&from);
                self.void(&to);
                let (written, answer) = oneshot::channel();
                let moved = Finding::Now(Entry::Moved { source: self.source.clone(), from, to }, written);
                if self.shared.findings.send(moved).await.is_ok() {
                    // If the move cannot be stored, the files are read again.
                    let _ = answer.await;
                }
            }
            Notice::Problem(problem) => {
                self.problems.watch = problem;
                self.tell_problem();
            }
            Notice::Remark(remark) => {
                let source = shown_path(&self.source).into_owned();
                info!(message_id = events::SOURCE_WATCHED, %source, "{remark}");
            }
        }
    }

    fn sighted(&mut self, observed: ObservedFile, came: Arrival) {
        match self.in_work.get_mut(&observed.path) {
            Some(work) => work.later = Some((observed, came)),
            None => self.waiting.add(observed, came),
        }
    }

    /// Begins to look at a file that is not in work.
    async fn begin(&mut self, observed: ObservedFile, came: Arrival) {
        match self.shared.catalog.knows(&observed, self.shared.ingest.canonical_px()).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => return self.fail(error.to_string()).await,
        }
        let reading = Arc::new(Reading::default());
        let work = Work { reading: Arc::clone(&reading), later: None, is_void: false };
        self.in_work.insert(observed.path.clone(), work);
        let (shared, own_place) = (self.shared.clone(), Arc::clone(&self.own_place));
        self.working.spawn(async move {
            let outcome = take(&shared, own_place, observed.clone(), &reading).await;
            (observed, came, outcome)
        });
    }

    async fn done(&mut self, observed: ObservedFile, came: Arrival, outcome: IngestOutcome) {
        let Some(Work { later, is_void, .. }) = self.in_work.remove(&observed.path) else { return };
        let path = shown_path(&observed.path).into_owned();
        match outcome {
            _ if is_void => debug!(%path, "{path} has gone while it was looked at"),
            IngestOutcome::Accepted(record) => {
                self.barred.remove(&observed.path);
                debug!(%path, image = %record.id, "{path} is taken in as image {}", record.id);
                self.read_again();
                self.found(Entry::Image { observed, record, came }).await;
            }
            IngestOutcome::Known(image) => {
                self.barred.remove(&observed.path);
                debug!(%path, %image, "{path} is image {image}, which is known");
                self.read_again();
                self.found(Entry::Seen { observed, image, came }).await;
            }
            IngestOutcome::Unready(Unready::Rejected(rejection)) => self.rejected(observed, rejection).await,
            IngestOutcome::Unready(Unready::Changed) => debug!(%path, "{path} changed while it was looked at"),
            IngestOutcome::Unready(Unready::RetryLater(error)) if error.is_sources() => {
                if self.backoff.met(&error.to_string(), Instant::now()) {
                    self.problems.unreadable = Some(error.to_string());
                    self.tell_problem();
                }
            }
            IngestOutcome::Unready(Unready::RetryLater(error)) => self.fail(error.to_string()).await,
            IngestOutcome::Failed(error) => self.fail(error.to_string()).await,
        }
        if let Some((later, came)) = later {
            self.sighted(later, came);
        }
    }

    async fn rejected(&mut self, mut observed: ObservedFile, Rejection { reason, lasts }: Rejection) {
        if lasts {
            self.barred.remove(&observed.path);
        } else if self.barred.insert(observed.path.clone(), reason.clone()).as_ref() == Some(&reason) {
            return;
        } else {
            // No file has such a fingerprint, so each scan tries the file again.
            observed.fingerprint.changed_ns = 0;
        }
        let path = shown_path(&observed.path).into_owned();
        self.count_refusals(false);
        if self.refusals.refused(&observed.path, &reason, Instant::now()) {
            warn!(message_id = events::QUARANTINED, %path, reason, "{path} is no usable image: {reason}");
        } else {
            debug!(%path, reason, "{path} is no usable image: {reason}");
        }
        self.found(Entry::Quarantined { observed, reason }).await;
    }

    /// Records that a file was read: the source's file system works again.
    fn read_again(&mut self) {
        if self.backoff.stored(Instant::now()) {
            self.problems.unreadable = None;
            self.tell_problem();
        }
    }

    fn gone(&self, path: PathBuf) -> Entry {
        Entry::Gone { source: self.source.clone(), path }
    }

    async fn found(&self, entry: Entry) {
        // If the intake has failed, nobody receives this.
        let _ = self.shared.findings.send(Finding::Entry(entry)).await;
    }

    async fn fail(&self, problem: String) {
        let _ = self.shared.findings.send(Finding::NotStored(problem)).await;
    }

    /// Drops what waits or is in work under a path, or below it: there is nothing to be stored any more.
    fn void(&mut self, path: &Path) {
        self.waiting.forget(path);
        for (_, work) in self.in_work.iter_mut().filter(|(in_work, _)| in_work.starts_with(path)) {
            work.is_void = true;
            work.later = None;
        }
        if !self.barred.is_empty() {
            self.barred.retain(|barred, _| !barred.starts_with(path));
        }
    }

    /// Checks what depends on the time that has passed.
    fn look(&mut self) {
        self.in_work.values().for_each(|work| work.reading.give_place());
        let limit = SLOW.as_secs();
        self.problems.slow = self.slow().min().map(|path| {
            let more = match self.slow().count() {
                1 => String::new(),
                count => format!(" (and {} more)", count - 1),
            };
            format!(
                "{}{more} has been read for more than {limit} s: its file system is slow or hangs",
                shown_path(path)
            )
        });
        let silent = self.watch.handle().unanswered() >= SLOW;
        self.problems.silent = silent.then(|| {
            format!("its file system has not answered for more than {limit} s; look at what it is mounted from")
        });
        let now = Instant::now();
        if self.backoff.is_due(now) {
            self.watch.handle().rescan();
        }
        if self.backoff.has_passed(now) {
            self.problems.unreadable = None;
        }
        self.count_refusals(false);
        self.tell_problem();
        self.tell_waiting();
    }

    fn tell_waiting(&mut self) {
        let waiting = self.waiting.len();
        if std::mem::replace(&mut self.told_waiting, waiting) != waiting {
            self.shared.status.send_modify(|status| {
                status.waiting.insert(self.source.clone(), waiting as u64);
            });
        }
    }

    /// Reports at once that no file waits any more; that files wait is reported once a second.
    fn tell_end_of_waiting(&mut self) {
        if self.waiting.is_empty() {
            self.tell_waiting();
        }
    }

    fn count_refusals(&mut self, last: bool) {
        let source = shown_path(&self.source).into_owned();
        for rest in self.refusals.due(Instant::now(), last) {
            let (count, path, reason) = (rest.count, shown_path(&rest.path).into_owned(), rest.reason);
            warn!(
                message_id = events::QUARANTINED,
                %source,
                files = count,
                %path,
                reason,
                "{count} more files in {source} are no usable images, the last one {path}: {reason}"
            );
        }
    }

    fn tell_problem(&mut self) {
        let Problems { watch, silent, slow, unreadable } = &self.problems;
        // The watch's problem comes first: it may be that the source does not exist at all.
        let problems: Vec<&str> = [watch, silent, slow, unreadable].into_iter().flatten().map(String::as_str).collect();
        let problem = (!problems.is_empty()).then(|| problems.join("; "));
        if self.told.as_ref() == Some(&problem) {
            return;
        }
        let source = shown_path(&self.source).into_owned();
        match &problem {
            Some(problem) => warn!(message_id = events::SOURCE_PROBLEM, %source, problem, "{source}: {problem}"),
            None => info!(message_id = events::SOURCE_WATCHED, %source, "{source} is watched"),
        }
        self.told = Some(problem.clone());
        self.shared.status.send_modify(|status| {
            status.sources.insert(self.source.clone(), problem);
        });
    }
}

/// Reads a file, and decodes it if its content is not known.
async fn take(shared: &Shared, own_place: Arc<Semaphore>, observed: ObservedFile, reading: &Reading) -> IngestOutcome {
    let Shared { ingest, catalog, places, .. } = shared;
    let place = tokio::select! {
        biased;
        place = own_place.acquire_owned() => place,
        place = Arc::clone(places).acquire_owned() => place,
    };
    reading.begin(place.expect("the semaphores are never closed"));
    let content = ingest.read(observed).await;
    reading.end();
    let content = match content {
        Ok(content) => content,
        Err(unready) => return IngestOutcome::Unready(unready),
    };
    match catalog.canonical_px(&content.id).await {
        // The pixels were evicted.
        Ok(Some(0)) => return IngestOutcome::Known(content.id),
        Ok(Some(px)) if px == ingest.canonical_px() && ingest.has_pixels(&content.id) => {
            return IngestOutcome::Known(content.id);
        }
        Ok(_) => {}
        Err(error) => return IngestOutcome::Failed(error),
    }
    ingest.keep(content).await.map_or_else(IngestOutcome::Unready, IngestOutcome::Accepted)
}

/// Quarantined files of a source that were removed while nobody watched: they are no problem any more. The search runs
/// on a thread of its own, since their file system may not answer.
fn cleared(catalog: Catalog, source: PathBuf, dir: PathBuf) -> oneshot::Receiver<Vec<PathBuf>> {
    let (reply, answer) = oneshot::channel();
    tokio::spawn(async move {
        // If the catalogue cannot be read, that is reported elsewhere.
        let Ok(paths) = catalog.quarantined_in(&source).await else { return };
        let has_gone =
            |path: &PathBuf| fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound);
        let look = move || {
            let gone = if dir.is_dir() { paths.into_iter().filter(has_gone).collect() } else { Vec::new() };
            // While the service stops, nobody receives this.
            let _ = reply.send(gone);
        };
        if thread::Builder::new().name("cleared".into()).spawn(look).is_err() {
            debug!("quarantined files that have gone are looked for at the next start");
        }
    });
    answer
}

/// The state of reading a file, for the task that reads and the lane that waits.
#[derive(Default)]
struct Reading {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    since: Option<Instant>,
    place: Option<OwnedSemaphorePermit>,
}

impl Reading {
    fn begin(&self, place: OwnedSemaphorePermit) {
        *self.state() = State { since: Some(Instant::now()), place: Some(place) };
    }

    /// Records that the file is read; the place stays taken until the content has been dealt with.
    fn end(&self) {
        self.state().since = None;
    }

    /// How long the file has been read; zero if it waits or is done.
    fn lasted(&self) -> Duration {
        self.state().since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Gives the place to another file if reading takes long.
    fn give_place(&self) {
        let mut state = self.state();
        if state.since.is_some_and(|since| since.elapsed() >= PLACE) {
            state.place = None;
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds it")
    }
}
