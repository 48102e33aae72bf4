//! The lane of one source: it takes the source's files into the catalogue. It has a task and a place to read of its
//! own, so that a source that hangs holds up no other. Of many files that arrive at once, the latest is looked at
//! first.

mod cleared;
mod reading;
mod reports;

use super::IntakeStatus;
use super::backoff::Backoff;
use super::refusals::Refusals;
use super::waiting::Waiting;
use crate::catalog::{Catalog, Entry};
use crate::ingest::{Ingest, Rejection, Unready};
use crate::observed_file::{Arrival, ObservedFile};
use crate::telemetry::events;
use crate::watch::{Notice, Watch};
use cleared::cleared;
use coft_core::shown::shown_path;
use reading::{IngestOutcome, Reading, take};
use reports::Problems;
use std::collections::HashMap;
use std::future::ready;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

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
        self.log_refusal(&observed.path, &reason);
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
}
