//! The jobs under way, and what they report.

use super::Supervisor;
use crate::app::coordination::SlotGuard;
use crate::app::promoter::PromotionOutcome;
use crate::app::training::TrainingEvent;
use crate::job_status::JobStatus;
use crate::round::Outcome;
use crate::telemetry::events;
use coft_core::event::{Event as TrainerEvent, Failure, FailureKind, Progress};
use coft_core::ids::{GenerationId, JobId};
use coft_core::job::Trigger;
use coft_core::lifecycle::Event;
use std::path::PathBuf;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Share of a job after which its progress is stored again, in case the service dies before the end. 0.01 [choice].
const NOTED: f64 = 0.01;

/// The outcome of judging a candidate, and the permit for judging.
pub(super) struct Judged {
    pub(super) outcome: Result<PromotionOutcome, Failure>,
    pub(super) place: Option<OwnedSemaphorePermit>,
}

/// A job under way.
pub(super) struct Job {
    pub(super) trigger: Trigger,
    pub(super) status: JobStatus,
    /// Stops the trainer, the copying or the judging.
    pub(super) stop: CancellationToken,
    pub(super) candidate: PathBuf,
    /// The generation to activate, if the job is an activation.
    pub(super) generation: Option<GenerationId>,
    /// Whether an import is to serve whatever it answers.
    pub(super) force: bool,
    pub(super) outcome: Option<Result<PromotionOutcome, Failure>>,
    /// The permit for judging; it is kept until what the job has left is cleared up.
    pub(super) judging: Option<OwnedSemaphorePermit>,
    /// The place among the classifiers' jobs; it is kept until the job is dropped.
    pub(super) _slot: Option<SlotGuard>,
    /// The progress that was last stored.
    pub(super) noted: Option<Progress>,
}

impl Job {
    pub(super) fn new(trigger: Trigger, status: JobStatus) -> Self {
        let (stop, candidate) = (CancellationToken::new(), PathBuf::new());
        Self {
            trigger,
            status,
            stop,
            candidate,
            generation: None,
            force: false,
            outcome: None,
            judging: None,
            _slot: None,
            noted: None,
        }
    }

    /// Logs a warning and adds it to the job's own.
    fn warn(&mut self, warning: String) -> &JobStatus {
        let name = self.status.name();
        warn!(message_id = events::JOB_WARNING, coft.job = self.status.id.0, warning, "{name}: {warning}");
        self.status.warnings.push(warning);
        &self.status
    }
}

impl Supervisor {
    /// Takes in what a job of the trainer, or an import that is being copied, reports.
    pub(super) async fn on_training_event(&mut self, id: JobId, event: TrainingEvent) {
        let Some(job) = self.jobs.iter_mut().find(|job| job.status.id == id) else { return };
        let name = job.status.name();
        match event {
            TrainingEvent::Gathered { images } => {
                job.status.images = images;
                let status = job.status.clone();
                self.record(status);
            }
            TrainingEvent::Event(TrainerEvent::Progress(progress)) => {
                job.status.progress = Some(progress.clone());
                let known = job.noted.as_ref();
                if known
                    .is_none_or(|known| known.stage != progress.stage || progress.fraction >= known.fraction + NOTED)
                {
                    job.noted = Some(progress.clone());
                    let (catalog, progress) = (self.training.catalog.clone(), progress.clone());
                    // Nobody waits for this, and it does not overwrite the end of the job.
                    tokio::spawn(async move {
                        if let Err(error) = catalog.save_progress(id, &progress).await {
                            warn!(problem = %error, "the progress of {name} cannot be written down: {error}");
                        }
                    });
                }
                self.history.progress(id, progress.clone());
                self.publisher.progress(id, progress);
            }
            TrainingEvent::Event(TrainerEvent::Warning { message: warning }) => {
                let status = job.warn(warning).clone();
                self.record(status);
            }
            TrainingEvent::Event(TrainerEvent::Started { device, threads, .. }) => {
                info!(coft.job = id.0, device, threads, "{name} works on {device} with {threads} threads");
            }
            // The end is reported again, with an explanation, when the process has ended.
            TrainingEvent::Event(TrainerEvent::Finished | TrainerEvent::Failed(_)) => {}
            TrainingEvent::Ended(Outcome::Candidate(candidate)) => {
                job.candidate = candidate;
                self.tell(Event::CandidateLeft(id)).await;
            }
            TrainingEvent::Ended(Outcome::Failed(failure)) => {
                job.outcome = Some(Err(failure));
                self.tell(Event::Failed(id)).await;
            }
            TrainingEvent::Ended(Outcome::Cancelled) => {
                let hint = if job.trigger.adapts() { "start the round again" } else { "it is tried again by itself" };
                job.outcome =
                    Some(Err(Failure::new(FailureKind::Cancelled, "the trainer was stopped from outside", hint)));
                self.tell(Event::Failed(id)).await;
            }
        }
    }

    /// Takes in the outcome of judging a candidate.
    pub(super) async fn judged(&mut self, id: JobId, judged: Judged) {
        let Judged { outcome, place } = judged;
        let event = if outcome.is_ok() { Event::Judged(id) } else { Event::Failed(id) };
        if let Some(job) = self.job(id) {
            (job.outcome, job.judging) = (Some(outcome), place);
        }
        self.tell(event).await;
    }

    /// Records and publishes that a job started, was prepared or ended.
    pub(super) fn record(&mut self, status: JobStatus) {
        self.history.record(status);
        self.publisher.jobs(self.history.jobs());
    }

    /// Adds a warning to a job under way; it is stored with the job's end.
    pub(super) fn warn_of(&mut self, id: JobId, warning: String) {
        if let Some(job) = self.job(id) {
            job.warn(warning);
        }
    }

    pub(super) fn job(&mut self, id: JobId) -> Option<&mut Job> {
        self.jobs.iter_mut().find(|job| job.status.id == id)
    }
}
