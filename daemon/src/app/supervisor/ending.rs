//! How a job ends: its candidate is judged, the outcome is carried out, and the end is stored.

use super::jobs::{Job, Judged};
use super::reviewing::Undecided;
use super::starting::told_given_up;
use super::{Supervisor, blocking};
use crate::app::promoter::{self, PromotionOutcome};
use crate::app::training::TrainingRunner;
use crate::catalog::CatalogError;
use crate::job_status::{DetailedState, JobStatus};
use crate::telemetry::events;
use coft_core::continuation::Next;
use coft_core::event::{Failure, FailureKind};
use coft_core::ids::JobId;
use coft_core::job::Trigger;
use coft_core::lifecycle::Event;
use coft_core::near_duplicates;
use std::path::PathBuf;
use std::sync::Arc;
use tracing::{Instrument, error, info, warn};

/// Maximum number of images of this service that an imported generation is judged by. 256 [choice].
const IMPORT_SAMPLE: usize = 256;

/// Images that an import is judged by; none if it is imported by force.
async fn sample(training: &TrainingRunner, force: bool) -> Result<Vec<PathBuf>, CatalogError> {
    if force { Ok(Vec::new()) } else { training.sample(IMPORT_SAMPLE).await }
}

impl Supervisor {
    /// Has the candidate judged on another thread, one candidate at a time; the outcome comes back to the loop.
    pub(super) fn judge(&mut self, id: JobId) {
        let Some(job) = self.job(id) else { return };
        let (candidate, stop) = (job.candidate.clone(), job.stop.clone());
        let (trigger, generation, force) = (job.trigger, job.generation, job.force);
        let seed = job.status.seed.unwrap_or_default();
        let (promoter, training, outcomes) =
            (self.promoter.clone(), self.training.clone(), self.outcomes.sender.clone());
        let (judging, events) = (Arc::clone(&self.judging), self.training_events.sender.clone());
        tokio::spawn(
            async move {
                // A kept generation is in the store already, so its activation waits for nobody.
                let place = match generation {
                    Some(_) => None,
                    None => stop.run_until_cancelled(judging.acquire_owned()).await.and_then(Result::ok),
                };
                let outcome = match generation {
                    Some(generation) => {
                        blocking(move || promoter.judge_kept(generation, id, &training.base, &stop)).await
                    }
                    None if place.is_none() => Err(promoter::stopped()),
                    None if trigger != Trigger::Import => {
                        let (judge, stopped) = (promoter.clone(), stop.clone());
                        let near_duplicates = near_duplicates::file(&candidate);
                        let mut outcome = blocking(move || judge.judge(&candidate, &stopped)).await;
                        if let Ok(PromotionOutcome::Keep { candidate: Some(refused), .. }) = &mut outcome
                            && let Some(candidate) = refused.contender()
                        {
                            let undecided = Undecided { round: id, seed, candidate, near_duplicates };
                            refused.review = Some(undecided.review(&training, &promoter, &stop, events).await);
                        }
                        outcome
                    }
                    None => match sample(&training, force).await {
                        Ok(images) => {
                            blocking(move || promoter.judge_import(&candidate, id, &training.base, &images, &stop))
                                .await
                        }
                        Err(error) => {
                            let hint = "the active generation keeps serving; import it again";
                            Err(Failure::new(FailureKind::Internal, error.to_string(), hint))
                        }
                    },
                };
                // If the service has ended, nobody needs the outcome.
                let _ = outcomes.send((id, Judged { outcome, place })).await;
            }
            .in_current_span(),
        );
    }

    /// Carries out the outcome, or stores why there is none.
    pub(super) async fn conclude(&mut self, id: JobId) {
        let outcome = self.job(id).and_then(|job| job.outcome.take());
        let outcome = outcome.unwrap_or_else(|| Err(promoter::unexplained()));
        let (promoter, wanted) = (self.promoter.clone(), self.jobs.iter().find_map(|job| job.generation));
        let state = match outcome {
            Ok(PromotionOutcome::Promote(promotion)) => {
                match blocking(move || promoter.promote(*promotion, wanted)).await {
                    Ok(generation) => DetailedState::Promoted(generation),
                    Err(failure) => DetailedState::Failed(failure),
                }
            }
            Ok(PromotionOutcome::Keep { reason, candidate: None }) => DetailedState::Kept { reason, candidate: None },
            Ok(PromotionOutcome::Keep { reason, candidate: Some(mut refused) }) => {
                let (told, review) = (reason.clone(), refused.review.take());
                let kept = match blocking(move || promoter.keep(*refused, told, wanted)).await {
                    Ok(kept) => {
                        if let Some(review) = review {
                            self.open_review(id, review).await;
                        }
                        Some(kept)
                    }
                    Err(Failure { message: problem, .. }) => {
                        self.warn_of(id, format!("its candidate cannot be kept: {problem}"));
                        None
                    }
                };
                DetailedState::Kept { reason, candidate: kept }
            }
            Err(failure) => DetailedState::Failed(failure),
        };
        self.close(id, state).await;
    }

    pub(super) async fn drop_candidate(&mut self, id: JobId) {
        let outcome = self.job(id).and_then(|job| job.outcome.take());
        if let Some(Ok(outcome)) = outcome {
            let promoter = self.promoter.clone();
            if let Err(error) = blocking(move || promoter.drop_candidate(outcome)).await {
                let problem = error.message;
                warn!(problem, "a candidate that is not wanted cannot be removed: {problem}");
            }
        }
    }

    /// Stores the end of a job and removes what it has left.
    pub(super) async fn close(&mut self, id: JobId, state: DetailedState) {
        let Some(at) = self.jobs.iter().position(|job| job.status.id == id) else { return };
        let Job { trigger, mut status, mut judging, .. } = self.jobs.swap_remove(at);
        let name = status.name();
        match &state {
            DetailedState::Promoted(generation) => info!(
                message_id = events::PROMOTED,
                coft.job = id.0,
                coft.generation = generation.0,
                "{name} promoted generation {generation}"
            ),
            DetailedState::Kept { reason, candidate: None } => info!(
                message_id = events::KEPT,
                coft.job = id.0,
                reason,
                "{name} ended; its candidate is not taken: {reason}"
            ),
            DetailedState::Kept { reason, candidate: Some(kept) } => info!(
                message_id = events::KEPT,
                coft.job = id.0,
                coft.generation = kept.0,
                reason,
                "{name} ended; its candidate is not taken: {reason}; it is kept as generation {kept}, which does not \
                 serve unless somebody activates it"
            ),
            DetailedState::Failed(Failure { message, hint, .. }) => error!(
                message_id = events::JOB_FAILED,
                coft.job = id.0,
                problem = message,
                hint,
                "{name} failed: {message}; {hint}"
            ),
            DetailedState::Cancelled => {
                info!(message_id = events::JOB_CANCELLED, coft.job = id.0, "{name} cancelled");
            }
            DetailedState::Running | DetailedState::Interrupted => {
                info!(message_id = events::JOB_INTERRUPTED, coft.job = id.0, "{name} interrupted");
            }
        }

        (status.state, status.ended) = (state, Some((self.clock)()));
        if trigger.adapts() {
            self.keep_or_forget(&mut status);
        }
        // Clean up first: on a full disk this frees space to store the end.
        if trigger != Trigger::Activation {
            let (promoter, directory) = (self.promoter.clone(), self.training.directory(id));
            // A job that failed was never judged: a candidate of another job may be judged now.
            judging = judging.or_else(|| Arc::clone(&self.judging).try_acquire_owned().ok());
            let none_is_judged = judging.is_some();
            if let Err(error) = blocking(move || promoter.clear_up(&directory, none_is_judged)).await {
                let problem = error.message;
                warn!(problem, "what {name} left behind cannot be removed: {problem}");
            }
        }
        drop(judging);
        self.write_down(&status).await;
        // A promoted generation stays, even if the model's files have changed since the service started.
        let promoted = matches!(status.state, DetailedState::Promoted(_));
        let wanted = self.zero_shot_at.is_some() && !promoted;
        self.review_after(status.id, &status.state).await;
        // Publish the generations and the review first: a client that learns of the end finds the results.
        self.show_generations();
        self.show_review();
        self.record(status);
        match wanted && !self.promoter.is_current(&self.training.base) {
            // Going back to an earlier generation was only the shorter way; a zero-shot job may run beside it.
            true if trigger != Trigger::ZeroShot => {}
            true => self.put_off_zero_shot(),
            false => self.zero_shot_at = None,
        }
        if promoted && trigger != Trigger::ZeroShot {
            self.stop_zero_shot();
        }
    }

    /// Stops the zero-shot job once another generation for the configured classes serves.
    fn stop_zero_shot(&mut self) {
        if !self.promoter.is_current(&self.training.base) {
            return;
        }
        if let Some(job) = self.jobs.iter_mut().find(|job| job.trigger == Trigger::ZeroShot) {
            let (id, name) = (job.status.id, job.status.name());
            let warning = "another generation has come to serve meanwhile, so it is not needed any more";
            info!(coft.job = id.0, "{name} is cancelled: {warning}");
            job.status.warnings.push(warning.into());
            // What the job leaves is dropped, whatever it does until it has ended.
            self.lifecycle.tell(Event::CancelAsked(id));
            job.stop.cancel();
        }
    }

    /// Keeps the work of a round if another round may take it up. The work of a cancelled round is kept as well: the
    /// round may have been cancelled for the sake of what serves, and not because of its images.
    fn keep_or_forget(&self, status: &mut JobStatus) {
        let (id, name) = (status.id.0, status.name());
        match self.history.after(status, &self.schedule) {
            Next::ByItself(_) | Next::WithNextRound | Next::ByHand => return,
            Next::Nothing => {}
            Next::GivenUp(why) => {
                let warning = told_given_up(&why);
                warn!(message_id = events::JOB_WARNING, coft.job = id, warning, "{name}: {warning}");
                status.warnings.push(warning);
            }
        }
        if let Err(error) = self.training.forget_unfinished() {
            warn!(problem = %error, "the journal of {name} cannot be removed: {error}");
        }
    }
}
