//! Access to the stored answers about the sources' pictures, and to the latest sequence number of each source.
//!
//! `app` answers the pictures; this module is the interface between `app` and the bus. A new value replaces the old one
//! in the channel, so that `app` never waits for a client: a client that wants every answer reads on from the last one
//! that it has.

use crate::catalog::{Catalog, CatalogError, DelayCounts};
use crate::observation::{GenerationDiff, Observation, ObservationFilter};
use coft_core::ids::GenerationId;
use coft_core::shown::shown_path;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::watch;

/// `[answers]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// How long an answer is kept. "30d" [choice].
    #[serde(with = "humantime_serde")]
    pub keep: Duration,
    /// Maximum number of answers that are kept of each source, the latest ones; 1000 or more. 100000 [choice]: 45 MB.
    pub most: u64,
    /// How many of the latest pictures of all sources together a generation answers again when it starts to serve; 0:
    /// none. 2000 [choice].
    pub again: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { keep: Duration::from_secs(30 * 24 * 60 * 60), most: 100_000, again: 2000 }
    }
}

/// Why a query for answers failed.
#[derive(Debug, Error)]
pub enum AskError {
    #[error("the service is starting: the catalogue is not open yet")]
    NotReady,
    #[error("the source {} is gone", shown_path(.0))]
    NoSource(PathBuf),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// Queries the answers; clones share the channel.
#[derive(Clone, Debug)]
pub struct Answers(watch::Receiver<Option<There>>);

/// Publishes the answers for every [`Answers`].
#[derive(Clone, Debug)]
pub struct Teller(watch::Sender<Option<There>>);

/// The answers; set once the catalogue is open.
#[derive(Clone, Debug)]
struct There {
    catalog: Catalog,
    sources: Arc<[PathBuf]>,
    /// Sequence number of each source's latest answer when the service started. `latest` is the same now.
    at_start: Arc<[u64]>,
    latest: Arc<[u64]>,
}

/// Sequence number of the latest answer of each source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    pub sources: Arc<[PathBuf]>,
    /// The sequence numbers when the service started.
    pub at_start: Arc<[u64]>,
    pub latest: Arc<[u64]>,
}

/// Creates both ends of the channel; it has no value until [`Teller::open`].
pub fn channel() -> (Teller, Answers) {
    let (sender, receiver) = watch::channel(None);
    (Teller(sender), Answers(receiver))
}

impl Teller {
    /// Publishes the catalogue, the sources whose answers it holds, and the latest sequence number of each.
    pub fn open(&self, catalog: Catalog, sources: Vec<PathBuf>, latest: &[u64]) {
        let (sources, latest): (_, Arc<[u64]>) = (sources.into(), latest.into());
        self.0.send_replace(Some(There { catalog, sources, at_start: Arc::clone(&latest), latest }));
    }

    /// Publishes new sequence numbers, if they differ from the last ones.
    pub fn reach(&self, latest: &[u64]) {
        self.0.send_if_modified(|there| match there {
            Some(there) if *there.latest != *latest => {
                there.latest = latest.into();
                true
            }
            _ => false,
        });
    }
}

impl Answers {
    /// Waits for sequence numbers: the first that are published, then each change. None once the service ends.
    pub async fn next(&mut self) -> Option<Reach> {
        loop {
            self.0.changed().await.ok()?;
            if let Some(There { sources, at_start, latest, .. }) = &*self.0.borrow_and_update() {
                let [at_start, latest] = [at_start, latest].map(Arc::clone);
                return Some(Reach { sources: Arc::clone(sources), at_start, latest });
            }
        }
    }

    /// The answers of a source that follow a sequence number, in their order.
    pub async fn after(&self, source: &Path, after: u64, limit: usize) -> Result<Vec<Observation>, AskError> {
        Ok(self.of(source)?.observations(source, after, limit).await?)
    }

    /// The answers of a source that match a filter, the latest first.
    pub async fn find(
        &self,
        source: &Path,
        filter: ObservationFilter,
        limit: usize,
    ) -> Result<Vec<Observation>, AskError> {
        Ok(self.of(source)?.find_observations(source, filter, limit).await?)
    }

    /// Number of answers for each hour and label; an hour is given by the Unix time of its beginning, s.
    pub async fn count(&self, source: &Path, filter: ObservationFilter) -> Result<Vec<(i64, String, u64)>, AskError> {
        Ok(self.of(source)?.count_observations(source, filter).await?)
    }

    /// Where two generations differ.
    pub async fn compare(
        &self,
        old: GenerationId,
        new: GenerationId,
        limit: usize,
    ) -> Result<GenerationDiff, AskError> {
        let catalog = self.0.borrow().as_ref().ok_or(AskError::NotReady)?.catalog.clone();
        Ok(catalog.compare(old, new, limit).await?)
    }

    /// How long pictures have waited for their answers; none before the catalogue is open.
    pub fn delays(&self) -> Option<DelayCounts> {
        self.0.borrow().as_ref().map(|there| there.catalog.delays())
    }

    fn of(&self, source: &Path) -> Result<Catalog, AskError> {
        let there = self.0.borrow();
        let There { catalog, sources, .. } = there.as_ref().ok_or(AskError::NotReady)?;
        match sources.iter().any(|known| known == source) {
            true => Ok(catalog.clone()),
            false => Err(AskError::NoSource(source.to_owned())),
        }
    }
}
