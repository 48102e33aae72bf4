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
        warn!(problem = %error, "what earlier jobs left cannot be removed: {error}");
    }
    Ok((lock, Promoter::new(store, controller), Reviews::open(dir)))
}

/// Opens the catalogue and closes the jobs that ran when the last service ended; returns all jobs, oldest first.
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
    let mut jobs = catalog.jobs().await?;
    for job in jobs.iter_mut().filter(|job| job.state == DetailedState::Running) {
        close_interrupted(&catalog, promoter, job, now).await;
    }
    Ok((catalog, jobs))
}

/// Closes a job that ran when the last service died. It counts as promoted if its generation is the active one.
async fn close_interrupted(catalog: &Catalog, promoter: &Promoter, job: &mut JobStatus, now: Moment) {
    let (name, promoted) = (job.name(), promoter.promoted_by(job.id));
    job.state = promoted.map_or(DetailedState::Interrupted, DetailedState::Promoted);
    job.ended = Some(now);
    if let Err(error) = catalog.save_job(job).await {
        // The next start tries again.
        warn!(problem = %error, "the end of {name} cannot be written down: {error}");
    }
    let outcome =
        promoted.map_or("is interrupted".into(), |generation| format!("has promoted generation {generation}"));
    info!(
        message_id = events::JOB_INTERRUPTED,
        coft.job = job.id.0,
        state = ?job.state,
        "{name} had not ended when the service last stopped; it {outcome}"
    );
}
