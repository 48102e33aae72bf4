//! From settled files to the catalogue: the one place where `watch`, `ingest` and `catalog` meet.
//!
//! Each source has a lane, a task of its own that reads its files; one intake task stores in groups what all lanes
//! find. A lane waits for the intake task, and the intake task for the catalogue; neither waits for the receivers of
//! the status, since a new status replaces the old one. When the intake stops, it finishes the files in work, except
//! those whose file system does not answer.

mod backoff;
mod lane;
mod refusals;
mod waiting;

use crate::catalog::{Catalog, Counts, Entry};
use crate::ingest::Ingest;
use crate::telemetry::events;
use crate::watch::{Handle, Watch};
use backoff::Backoff;
use coft_core::ids::ImageId;
use lane::{Finding, Lane};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, info, warn};

/// The present status of the intake, for the rest of the service.
#[derive(Clone, Debug, Default)]
pub struct IntakeStatus {
    /// None before the first count.
    pub counts: Option<Counts>,
    /// The problem of each source that has reported; none if all is well.
    pub sources: HashMap<PathBuf, Option<String>>,
    /// Number of waiting files of each source.
    pub waiting: HashMap<PathBuf, u64>,
    /// Why images cannot be stored; none if they can.
    pub problem: Option<String>,
}

/// The running intake.
pub struct Intake {
    /// Counts the requests to scan everything again.
    rescans: watch::Sender<u64>,
    handles: Vec<Handle>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Maximum number of entries that are stored together, and the longest time that one waits.
const GROUP: usize = 64;
const FLUSH_INTERVAL: Duration = Duration::from_millis(250);
/// How often the catalogue deletes records that nobody needs any more, while it grows. 1 h [choice].
const PRUNE_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// If this share more than `ingest.most-images` are kept, the oldest images are evicted, down to half of that surplus:
/// a round that starts, or is to be continued, finds its images while others arrive. 1/4 [choice].
const SURPLUS: u64 = 4;

impl Intake {
    pub fn start(watches: Vec<Watch>, ingest: Ingest, catalog: Catalog) -> (Self, watch::Receiver<IntakeStatus>) {
        let (rescans, requests) = watch::channel(0);
        let (sender, findings) = mpsc::channel(GROUP);
        let (status, heard) = watch::channel(IntakeStatus::default());
        let (stop, status) = (CancellationToken::new(), Arc::new(status));
        let handles: Vec<Handle> = watches.iter().map(Watch::handle).collect();
        let shared = lane::Shared {
            ingest: ingest.clone(),
            catalog: catalog.clone(),
            findings: sender,
            status: Arc::clone(&status),
            places: Arc::new(Semaphore::new(2 * ingest.threads())),
        };
        let (entries, prune_at) = (Vec::new(), Instant::now());
        let intake = IntakeTask {
            ingest,
            catalog,
            status,
            handles: handles.clone(),
            entries,
            prune_at,
            backoff: Backoff::none(),
        };
        let lanes = watches.into_iter().map(|watch| Lane::new(watch, shared.clone())).collect();
        let task = tokio::spawn(intake.run(lanes, findings, requests, stop.clone()).in_current_span());
        (Self { rescans, handles, stop, task }, heard)
    }

    /// Requests a scan of every source now, without waiting for it.
    pub fn rescan(&self) {
        self.rescans.send_modify(|rescans| *rescans += 1);
    }

    /// Finds sources without work whose file system does not answer. Has to be called now and then.
    pub fn look(&self) {
        self.handles.iter().for_each(|handle| handle.remind(lane::SLOW));
    }

    /// Takes no new files, finishes those in work and stores them.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            error!(%error, "the intake failed: {error}");
        }
    }
}

/// Stores what the lanes find.
struct IntakeTask {
    ingest: Ingest,
    catalog: Catalog,
    status: Arc<watch::Sender<IntakeStatus>>,
    handles: Vec<Handle>,
    entries: Vec<Entry>,
    prune_at: Instant,
    backoff: Backoff,
}

impl IntakeTask {
    async fn run(
        mut self,
        lanes: Vec<Lane>,
        mut findings: mpsc::Receiver<Finding>,
        mut requests: watch::Receiver<u64>,
        stop: CancellationToken,
    ) {
        let mut flush = interval(FLUSH_INTERVAL);
        flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.doubt_quarantine().await;
        self.evict().await;
        self.clear_cache().await;
        for lane in lanes {
            tokio::spawn(lane.run(stop.clone()).in_current_span());
        }
        let mut counted = false;
        loop {
            let idle = counted && self.entries.is_empty() && !self.backoff.is_there();
            let room = self.entries.len() < 2 * GROUP;
            tokio::select! {
                () = stop.cancelled() => break,
                Ok(()) = requests.changed() => {
                    self.backoff.looked_at(Instant::now());
                    self.doubt_quarantine().await;
                    self.rescan();
                }
                Some(finding) = findings.recv(), if room => {
                    self.found(finding).await;
                    if self.entries.len() >= GROUP {
                        self.flush().await;
                        counted = false;
                    }
                }
                _ = flush.tick(), if !idle => {
                    if !self.entries.is_empty() {
                        self.flush().await;
                        counted = false;
                    }
                    if !counted {
                        counted = self.tell_counts().await;
                    }
                    if self.backoff.is_due(Instant::now()) {
                        match self.ingest.disk_space().await {
                            Ok(()) => self.rescan(),
                            // Every file would only be put off again.
                            Err(error) => self.met(&error.to_string()),
                        }
                    }
                    if self.backoff.has_passed(Instant::now()) {
                        self.tell_end_of_backoff();
                    }
                }
            }
        }
        // The channel closes when the last lane has ended.
        while let Some(finding) = findings.recv().await {
            self.found(finding).await;
        }
        self.flush().await;
        self.tell_counts().await;
    }

    async fn found(&mut self, finding: Finding) {
        match finding {
            Finding::Entry(entry) => self.entries.push(entry),
            Finding::Now(entry, written) => {
                self.entries.push(entry);
                self.flush().await;
                // While the service stops, the lane does not wait for this.
                let _ = written.send(());
            }
            Finding::NotStored(problem) => self.met(&problem),
        }
    }

    fn rescan(&self) {
        self.handles.iter().for_each(Handle::rescan);
    }

    /// Stores the entries; if that fails, they stay and hold up later ones.
    async fn flush(&mut self) {
        if self.entries.is_empty() {
            return;
        }
        match self.catalog.record(self.entries.clone()).await {
            Ok(()) => {
                let stored = self.entries.iter().any(|entry| matches!(entry, Entry::Image { .. }));
                self.entries.clear();
                self.evict().await;
                self.prune().await;
                if stored && self.backoff.stored(Instant::now()) {
                    self.tell_end_of_backoff();
                }
            }
            Err(error) => self.met(&error.to_string()),
        }
    }

    /// Has quarantined files looked at again if the program or the settings have changed and may accept them now. Files
    /// that only the service's permissions exclude are tried by every scan.
    async fn doubt_quarantine(&mut self) {
        if !self.ingest.criteria_changed().await {
            return;
        }
        match self.catalog.doubt_quarantine().await {
            Ok(()) => self.ingest.note_criteria().await,
            Err(error) => self.met(&error.to_string()),
        }
    }

    /// Limits what is kept for training. The catalogue is changed first; if the service dies before the pixels are
    /// removed, the next start removes pixels that the catalogue does not count any more.
    async fn evict(&mut self) {
        let (px, most) = (self.ingest.canonical_px(), self.ingest.most_images());
        match self.catalog.evict(px, most.saturating_add(most / SURPLUS), most.saturating_add(most / SURPLUS / 2)).await
        {
            Ok(images) if images.is_empty() => {}
            Ok(images) => {
                let count = images.len();
                info!(
                    images = count,
                    "{count} older images are let go; training keeps the latest {most} (ingest.most-images)"
                );
                self.discard(images).await;
            }
            Err(error) => self.met(&error.to_string()),
        }
    }

    async fn prune(&mut self) {
        let now = Instant::now();
        if self.prune_at > now {
            return;
        }
        match self.catalog.prune().await {
            Ok(more) => self.prune_at = if more { now } else { now + PRUNE_INTERVAL },
            Err(error) => self.met(&error.to_string()),
        }
    }

    /// Removes the pixels of evicted images that are still there.
    async fn clear_cache(&mut self) {
        let cached = self.ingest.cached().await;
        match self.catalog.evict_among(cached).await {
            Ok(images) => self.discard(images).await,
            Err(error) => self.met(&error.to_string()),
        }
    }

    async fn discard(&mut self, images: Vec<ImageId>) {
        if let Err(error) = self.ingest.discard(images.clone()).await {
            return warn!("{error}; it is tried again when the service starts");
        }
        if let Err(error) = self.catalog.forget_overwritten(images).await {
            self.met(&error.to_string());
        }
    }

    async fn tell_counts(&mut self) -> bool {
        match self.catalog.counts().await {
            Ok(counts) => {
                self.status.send_modify(|status| status.counts = Some(counts));
                true
            }
            Err(error) => {
                self.met(&error.to_string());
                false
            }
        }
    }

    /// Reports why images cannot be stored: once, not once for each file.
    fn met(&mut self, problem: &str) {
        if !self.backoff.is_there() {
            error!(
                message_id = events::INTAKE_TROUBLE,
                problem, "images cannot be stored, trying again until they can: {problem}"
            );
        }
        if self.backoff.met(problem, Instant::now()) {
            self.tell_problem(Some(problem.to_owned()));
        }
    }

    fn tell_end_of_backoff(&self) {
        info!(message_id = events::INTAKE_RESUMED, "images can be stored again");
        self.tell_problem(None);
    }

    fn tell_problem(&self, problem: Option<String>) {
        self.status.send_modify(|status| status.problem = problem);
    }
}

#[cfg(test)]
mod tests;
