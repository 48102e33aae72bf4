//! A file on its way: it is read, and decoded if its content is not known. A file that takes long to read gives its
//! place to another one.

use super::Shared;
use crate::catalog::CatalogError;
use crate::ingest::Unready;
use crate::observed_file::{ImageRecord, ObservedFile};
use coft_core::ids::ImageId;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// A file that takes longer to read gives its place to another file. [choice]
const PLACE: Duration = Duration::from_secs(2);

pub(super) enum IngestOutcome {
    Accepted(ImageRecord),
    /// The content is a known image.
    Known(ImageId),
    Unready(Unready),
    Failed(CatalogError),
}

/// Reads a file, and decodes it if its content is not known.
pub(super) async fn take(
    shared: &Shared,
    own_place: Arc<Semaphore>,
    observed: ObservedFile,
    reading: &Reading,
) -> IngestOutcome {
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

/// The state of reading a file, for the task that reads and the lane that waits.
#[derive(Default)]
pub(super) struct Reading {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    since: Option<Instant>,
    place: Option<OwnedSemaphorePermit>,
}

impl Reading {
    pub(super) fn begin(&self, place: OwnedSemaphorePermit) {
        *self.state() = State { since: Some(Instant::now()), place: Some(place) };
    }

    /// Records that the file is read; the place stays taken until the content has been dealt with.
    pub(super) fn end(&self) {
        self.state().since = None;
    }

    /// How long the file has been read; zero if it waits or is done.
    pub(super) fn lasted(&self) -> Duration {
        self.state().since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Gives the place to another file if reading takes long.
    pub(super) fn give_place(&self) {
        let mut state = self.state();
        if state.since.is_some_and(|since| since.elapsed() >= PLACE) {
            state.place = None;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds it")
    }
}
