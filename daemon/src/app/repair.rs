//! Opens what an earlier run of the service has left, and puts it in order: the state directory, the store, the
//! catalogue.
//!
//! Only what the service cannot do without is an error. The service also serves from a disk that is full or read-only.

use super::AppError;
use super::promoter::Promoter;
use crate::catalog::{Catalog, CatalogError, Cut};
use crate::job_status::{DetailedState, JobStatus};
use crate::review::Reviews;
use crate::serve::Controller;
use crate::state_dir;
use crate::store::Store;
use crate::telemetry::events;
use coft_core::moment::Moment;
use std::fs::File;
use std::path::{Path, PathBuf};
use tracing::{info, warn};

/// Locks the state directory, and opens the store of generations and the reviews.
///
/// # Errors
/// The directory cannot be used, or another service uses it.
pub fn open_state(dir: &Path, controller: Controller) -> Result<(File, Promoter, Reviews), AppError> {
    let lock = state_dir::take(dir)?;
    let store = Store::open(dir)?;
    for warning in store.warnings() {
        warn!(warning, "the store of generations has suffered: {warning}");
    }
    if let Err(error) = store.clean_scratch() {
        warn!(problem = %error, "what earlier rounds left cannot be removed: {error}");
    }
    Ok((lock, Promoter::new(store, controller), Reviews::open(dir)))
}

/// Opens the catalogue and closes the rounds that ran when the last service ended; returns all rounds, oldest first.
/// `named` are the directories and names of the sources that have a name, `cuts` the parts of each source's pictures
/// that are used.
///
/// # Errors
/// The catalogue can be neither used nor replaced.
pub async fn open_catalog(
    path: PathBuf,
    named: Vec<(PathBuf, PathBuf)>,
    cuts: Vec<Cut>,
    promoter: &Promoter,
    now: Moment,
) -> Result<(Catalog, Vec<JobStatus>), CatalogError> {
    let opened = tokio::task::spawn_blocking(move || Catalog::open(&path)).await;
    let catalog = opened.expect("opening the catalogue neither panics nor is aborted")?;
    catalog.name_sources(named).await?;
    catalog.cut_as(cuts).await?;
    let mut rounds = catalog.rounds().await?;
    for round in rounds.iter_mut().filter(|round| round.state == DetailedState::Running) {
        close_interrupted(&catalog, promoter, round, now).await;
    }
    Ok((catalog, rounds))
}

/// Closes a round that ran when the last service died. It counts as promoted if its generation is the active one.
async fn close_interrupted(catalog: &Catalog, promoter: &Promoter, round: &mut JobStatus, now: Moment) {
    let (number, promoted) = (round.round, promoter.promoted_by(round.round));
    round.state = promoted.map_or(DetailedState::Interrupted, DetailedState::Promoted);
    round.ended = Some(now);
    if let Err(error) = catalog.save_round(round).await {
        // The next start tries again.
        warn!(problem = %error, "the end of round {number} cannot be written down: {error}");
    }
    let outcome =
        promoted.map_or("is interrupted".into(), |generation| format!("has promoted generation {generation}"));
    info!(
        message_id = events::ROUND_INTERRUPTED,
        coft.round = number.0,
        state = ?round.state,
        "round {number} had not ended when the service last stopped; it {outcome}"
    );
}
