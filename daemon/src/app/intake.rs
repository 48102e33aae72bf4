//! From settled files to the catalogue: the one place where `watch`, `ingest` and `catalog` meet.
//!
//! A task of its own. It slows the watching down rather than pile up work, writes entries down in groups, and on the way
//! out finishes what it has begun.

mod trouble;

use crate::catalog::{Catalog, Counts, Entry};
use crate::ingest::{Ingest, Taken};
use crate::sighting::Sighting;
use crate::telemetry::events;
use crate::watch::{Notice, Watch};
use coft_core::ids::ImageId;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, error, info, warn};
use trouble::Trouble;

/// What the rest of the service hears of the intake.
#[derive(Debug)]
pub enum News {
    Counts(Counts),
    Source {
        path: PathBuf,
        problem: Option<String>,
    },
    /// What keeps images from being stored; none once it does not any more.
    Problem(Option<String>),
}

/// The running intake.
pub struct Intake {
    requests: mpsc::Sender<Request>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
enum Request {
    Rescan,
}

/// Entries that are written down together at most, and the longest that one waits.
const GROUP: usize = 64;
const FLUSH_INTERVAL: Duration = Duration::from_millis(250);
/// Once this share more than `ingest.most-images` are kept, the oldest images are let go, down to half of that: a round that starts,
/// or is to be continued, finds its images while others come in. 1/4 [choice].
const SURPLUS: u64 = 4;

impl Intake {
    pub fn start(
        watch: Watch,
        notices: mpsc::Receiver<Notice>,
        ingest: Ingest,
        catalog: Catalog,
        news: mpsc::Sender<News>,
    ) -> Self {
        let (requests, inbox) = mpsc::channel(4);
        let desk = Desk {
            ingest,
            catalog,
            news,
            working: JoinSet::new(),
            in_work: HashMap::new(),
            entries: Vec::new(),
            trouble: Trouble::none(),
        };
        Self { requests, task: tokio::spawn(desk.run(watch, notices, inbox)) }
    }

    /// Looks at every file of every source again, quarantined or not.
    pub async fn rescan(&self) {
        // An intake that has ended has nothing to look at.
        let _ = self.requests.send(Request::Rescan).await;
    }

    /// Takes no new files, finishes those in work and writes them down.
    pub async fn stop(self) {
        drop(self.requests);
        if let Err(error) = self.task.await {
            error!(%error, "the intake failed: {error}");
        }
    }
}

struct Desk {
    ingest: Ingest,
    catalog: Catalog,
    news: mpsc::Sender<News>,
    working: JoinSet<(Sighting, Taken)>,
    /// The files in work; a value is a later sighting of the same file, to be looked at afterwards.
    in_work: HashMap<PathBuf, Option<Sighting>>,
    entries: Vec<Entry>,
    trouble: Trouble,
}

impl Desk {
    async fn run(mut self, watch: Watch, mut notices: mpsc::Receiver<Notice>, mut requests: mpsc::Receiver<Request>) {
        let mut flush = interval(FLUSH_INTERVAL);
        flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.doubt_quarantine().await;
        self.let_go().await;
        self.clear_cache().await;
        let mut counted = false;
        loop {
            let idle = counted && self.entries.is_empty() && !self.trouble.is_there();
            let room = self.working.len() < 2 * self.ingest.threads() && self.entries.len() < 2 * GROUP;
            tokio::select! {
                request = requests.recv() => match request {
                    Some(Request::Rescan) => {
                        self.trouble.looked_at(Instant::now());
                        self.doubt_quarantine().await;
                        watch.rescan();
                    }
                    None => break,
                },
                Some(notice) = notices.recv(), if room => self.noticed(notice).await,
                Some(done) = self.working.join_next() => {
                    let (sighting, taken) = done.expect("taking a file in neither panics nor is aborted");
                    self.taken(sighting, taken).await;
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
                    if self.trouble.is_due(Instant::now()) {
                        match self.ingest.room().await {
                            Ok(()) => watch.rescan(),
                            // Every file would only be put off again.
                            Err(trouble) => self.met(&trouble.to_string()).await,
                        }
                    }
                    if self.trouble.has_passed(Instant::now()) {
                        self.tell_end_of_trouble().await;
                    }
                }
            }
        }
        drop(watch);
        drop(notices);
        while let Some(done) = self.working.join_next().await {
            let (sighting, taken) = done.expect("taking a file in neither panics nor is aborted");
            self.in_work.clear();
            self.taken(sighting, taken).await;
        }
        self.flush().await;
        self.tell_counts().await;
    }

    async fn noticed(&mut self, notice: Notice) {
        match notice {
            Notice::Settled(sighting) => self.sighted(sighting).await,
            Notice::Gone(path) => self.entries.push(Entry::Gone(path)),
            Notice::Source { path, problem } => {
                let source = path.display();
                match &problem {
                    Some(problem) => {
                        warn!(message_id = events::SOURCE_PROBLEM, %source, problem, "{source} cannot be watched: {problem}")
                    }
                    None => info!(message_id = events::SOURCE_WATCHED, %source, "{source} is watched"),
                }
                // Nobody listens while the service stops.
                let _ = self.news.send(News::Source { path, problem }).await;
            }
        }
    }

    async fn sighted(&mut self, sighting: Sighting) {
        if let Some(later) = self.in_work.get_mut(&sighting.path) {
            *later = Some(sighting);
            return;
        }
        match self.catalog.knows(&sighting, self.ingest.canonical_px()).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => return self.met(&error.to_string()).await,
        }
        self.in_work.insert(sighting.path.clone(), None);
        let ingest = self.ingest.clone();
        self.working.spawn(async move {
            let taken = ingest.take(sighting.clone()).await;
            (sighting, taken)
        });
    }

    async fn taken(&mut self, sighting: Sighting, taken: Taken) {
        let later = self.in_work.remove(&sighting.path).flatten();
        let path = sighting.path.display();
        match taken {
            Taken::Image(record) => {
                debug!(%path, image = %record.id, "{path} is taken in as image {}", record.id);
                self.entries.push(Entry::Image { sighting, record });
            }
            Taken::Refused(reason) => {
                warn!(message_id = events::QUARANTINED, %path, reason, "{path} is no usable image: {reason}");
                self.entries.push(Entry::Quarantined { sighting, reason });
            }
            Taken::Moving => debug!(%path, "{path} changed while it was looked at"),
            Taken::Deferred(trouble) => self.met(&trouble.to_string()).await,
        }
        if let Some(later) = later {
            self.sighted(later).await;
        }
    }

    /// Writes the entries down; they stay, and hold up what follows, while that fails.
    async fn flush(&mut self) {
        if self.entries.is_empty() {
            return;
        }
        match self.catalog.record(self.entries.clone()).await {
            Ok(()) => {
                let stored = self.entries.iter().any(|entry| matches!(entry, Entry::Image { .. }));
                self.entries.clear();
                self.let_go().await;
                if stored && self.trouble.stored(Instant::now()) {
                    self.tell_end_of_trouble().await;
                }
            }
            Err(error) => self.met(&error.to_string()).await,
        }
    }

    /// What was wrong with quarantined files may have been mended in the configuration or by the rights of the service.
    async fn doubt_quarantine(&mut self) {
        if let Err(error) = self.catalog.doubt_quarantine().await {
            self.met(&error.to_string()).await;
        }
    }

    /// Bounds what is kept for training. What the catalogue says comes first: of pixels that it does not count any more, those
    /// that outlive a crash are removed at the next start.
    async fn let_go(&mut self) {
        let (px, most) = (self.ingest.canonical_px(), self.ingest.most_images());
        match self
            .catalog
            .let_go(px, most.saturating_add(most / SURPLUS), most.saturating_add(most / SURPLUS / 2))
            .await
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
            Err(error) => self.met(&error.to_string()).await,
        }
    }

    /// Removes pixels that were let go and are still there.
    async fn clear_cache(&mut self) {
        let cached = self.ingest.cached().await;
        match self.catalog.let_go_among(cached).await {
            Ok(images) => self.discard(images).await,
            Err(error) => self.met(&error.to_string()).await,
        }
    }

    async fn discard(&self, images: Vec<ImageId>) {
        if let Err(trouble) = self.ingest.discard(images).await {
            warn!("{trouble}; it is tried again when the service starts");
        }
    }

    async fn tell_counts(&mut self) -> bool {
        match self.catalog.counts().await {
            Ok(counts) => self.news.send(News::Counts(counts)).await.is_ok(),
            Err(error) => {
                self.met(&error.to_string()).await;
                false
            }
        }
    }

    /// Trouble is told once, not once a file.
    async fn met(&mut self, problem: &str) {
        if !self.trouble.is_there() {
            error!(
                message_id = events::INTAKE_TROUBLE,
                problem, "images cannot be stored, trying again until they can: {problem}"
            );
        }
        if self.trouble.met(problem, Instant::now()) {
            self.tell_problem(Some(problem.to_owned())).await;
        }
    }

    async fn tell_end_of_trouble(&self) {
        info!("images can be stored again");
        self.tell_problem(None).await;
    }

    async fn tell_problem(&self, problem: Option<String>) {
        // Nobody listens while the service stops.
        let _ = self.news.send(News::Problem(problem)).await;
    }
}

#[cfg(test)]
mod tests;
