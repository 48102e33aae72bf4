//! How a round ends: its candidate is judged, the outcome carried out, and the end written down.

use super::reviewing::Undecided;
use super::starting::told_given_up;
use super::{Job, Judged, Supervisor, blocking};
use crate::app::promoter::{self, PromotionOutcome};
use crate::app::training::TrainingRunner;
use crate::catalog::CatalogError;
use crate::round_status::{RoundState, RoundStatus};
use crate::telemetry::events;
use coft_core::continuation::Next;
use coft_core::event::{Failure, FailureKind};
use coft_core::ids::RoundId;
use coft_core::job::Trigger;
use coft_core::lifecycle::Event;
use std::path::PathBuf;
use std::sync::Arc;
use tracing::{Instrument, error, info, warn};

/// Images of this service that an imported generation is judged by, at most. 256 [choice].
const IMPORT_SAMPLE: usize = 256;

/// Images that an import is judged by: none where it is to serve by force.
async fn sample(training: &TrainingRunner, force: bool) -> Result<Vec<PathBuf>, CatalogError> {
    if force { Ok(Vec::new()) } else { training.sample(IMPORT_SAMPLE).await }
}

impl Supervisor {
    /// Has the candidate judged on a thread of its own, once no other is; the outcome comes back to the loop.
    pub(super) fn judge(&mut self, round: RoundId) {
        let Some(job) = self.job(round) else { return };
        let (candidate, stop) = (job.candidate.clone(), job.stop.clone());
        let (trigger, generation, force) = (job.trigger, job.generation, job.force);
        let seed = job.status.seed.unwrap_or_default();
        let (promoter, training, outcomes) =
            (self.promoter.clone(), self.training.clone(), self.outcomes.sender.clone());
        let judging = Arc::clone(&self.judging);
        tokio::spawn(
            async move {
                // One that is kept is in the store already: going back to it waits for nobody.
                let place = match generation {
                    Some(_) => None,
                    None => stop.run_until_cancelled(judging.acquire_owned()).await.and_then(Result::ok),
                };
                let outcome = match generation {
                    Some(generation) => {
                        blocking(move || promoter.judge_kept(generation, round, &training.base, &stop)).await
                    }
                    None if place.is_none() => Err(promoter::stopped()),
                    None if trigger != Trigger::Import => {
                        let (judge, stopped) = (promoter.clone(), stop.clone());
                        let mut outcome = blocking(move || judge.judge(&candidate, &stopped)).await;
                        if let Ok(PromotionOutcome::Keep { candidate: Some(refused), .. }) = &mut outcome
                            && let Some(candidate) = refused.contender()
                        {
                            refused.review =
                                Undecided { round, seed, candidate }.review(&training, &promoter, &stop).await;
                        }
                        outcome
                    }
                    None => match sample(&training, force).await {
                        Ok(images) => {
                            blocking(move || promoter.judge_import(&candidate, round, &training.base, &images, &stop))
                                .await
                        }
                        Err(error) => {
                            let hint = "the active generation keeps serving; import it again";
                            Err(Failure::new(FailureKind::Internal, error.to_string(), hint))
                        }
                    },
                };
                // A service that has gone needs no outcome.
                let _ = outcomes.send((round, Judged { outcome, place })).await;
            }
            .in_current_span(),
        );
    }

    /// Carries out the outcome, or writes down why there is none.
    pub(super) async fn conclude(&mut self, round: RoundId) {
        let outcome = self.job(round).and_then(|job| job.outcome.take());
        let outcome = outcome.unwrap_or_else(|| Err(promoter::unexplained()));
        let (promoter, wanted) = (self.promoter.clone(), self.jobs.iter().find_map(|job| job.generation));
        let state = match outcome {
            Ok(PromotionOutcome::Promote(promotion)) => {
                match blocking(move || promoter.promote(*promotion, wanted)).await {
                    Ok(generation) => RoundState::Promoted(generation),
                    Err(failure) => RoundState::Failed(failure),
                }
            }
            Ok(PromotionOutcome::Keep { reason, candidate: None }) => RoundState::Kept { reason, candidate: None },
            Ok(PromotionOutcome::Keep { reason, candidate: Some(mut refused) }) => {
                let (told, review) = (reason.clone(), refused.review.take());
                let kept = match blocking(move || promoter.keep(*refused, told, wanted)).await {
                    Ok(kept) => {
                        if let Some(review) = review {
                            self.open_review(review).await;
                        }
                        Some(kept)
                    }
                    Err(Failure { message: problem, .. }) => {
                        warn!(
                            coft.round = round.0,
                            problem, "the candidate of round {round} cannot be kept: {problem}"
                        );
                        None
                    }
                };
                RoundState::Kept { reason, candidate: kept }
            }
            Err(failure) => RoundState::Failed(failure),
        };
        self.close(round, state).await;
    }

    pub(super) async fn drop_candidate(&mut self, round: RoundId) {
        let outcome = self.job(round).and_then(|job| job.outcome.take());
        if let Some(Ok(outcome)) = outcome {
            let promoter = self.promoter.clone();
            if let Err(error) = blocking(move || promoter.drop_candidate(outcome)).await {
                let problem = error.message;
                warn!(problem, "a candidate that is not wanted cannot be removed: {problem}");
            }
        }
    }

    /// Writes the end of the round down and clears up after it.
    pub(super) async fn close(&mut self, round: RoundId, state: RoundState) {
        let Some(at) = self.jobs.iter().position(|job| job.status.round == round) else { return };
        let Job { trigger, mut status, judging, .. } = self.jobs.swap_remove(at);
        match &state {
            RoundState::Promoted(generation) => info!(
                message_id = events::PROMOTED,
                coft.round = round.0,
                coft.generation = generation.0,
                "round {round} promoted generation {generation}"
            ),
            RoundState::Kept { reason, candidate: None } => info!(
                message_id = events::KEPT,
                coft.round = round.0,
                reason,
                "round {round} ended; its candidate is not taken: {reason}"
            ),
            RoundState::Kept { reason, candidate: Some(kept) } => info!(
                message_id = events::KEPT,
                coft.round = round.0,
                coft.generation = kept.0,
                reason,
                "round {round} ended; its candidate is not taken: {reason}; it is kept as generation {kept}, which does not \
                 serve unless somebody activates it"
            ),
            RoundState::Failed(Failure { message, hint, .. }) => error!(
                message_id = events::ROUND_FAILED,
                coft.round = round.0,
                problem = message,
                hint,
                "round {round} failed: {message}; {hint}"
            ),
            RoundState::Cancelled => {
                info!(message_id = events::ROUND_CANCELLED, coft.round = round.0, "round {round} cancelled");
            }
            RoundState::Running | RoundState::Interrupted => {
                info!(message_id = events::ROUND_INTERRUPTED, coft.round = round.0, "round {round} interrupted");
            }
        }

        (status.state, status.ended) = (state, Some((self.clock)()));
        if trigger.adapts() {
            self.keep_or_forget(&mut status);
        }
        // Clearing up first: on a full disk it makes room for the last line of the record.
        if trigger != Trigger::Activation {
            let (promoter, directory) = (self.promoter.clone(), self.training.directory(round));
            if let Err(error) = blocking(move || promoter.clear_up(&directory)).await {
                let problem = error.message;
                warn!(problem, "what round {round} left behind cannot be removed: {problem}");
            }
        }
        drop(judging);
        self.write_down(&status).await;
        // What was promoted stays, even where the model's files are others by now than when the service started.
        let promoted = matches!(status.state, RoundState::Promoted(_));
        let wanted = self.zero_shot_at.is_some() && !promoted;
        self.review_after(status.round, &status.state).await;
        // Generations and what is asked first: whoever hears of the end finds what came of it.
        self.show_generations();
        self.show_review();
        self.record(status);
        match wanted && !self.promoter.is_current(&self.training.base) {
            // Going back to an earlier one was but the shorter way; a zero-shot one may be on its way beside.
            true if trigger != Trigger::ZeroShot => {}
            true => self.put_off_zero_shot(),
            false => self.zero_shot_at = None,
        }
        if promoted && trigger != Trigger::ZeroShot {
            self.stop_zero_shot();
        }
    }

    /// A zero-shot generation is not wanted any more once another one serves.
    fn stop_zero_shot(&mut self) {
        if !self.promoter.is_current(&self.training.base) {
            return;
        }
        if let Some(job) = self.jobs.iter_mut().find(|job| job.trigger == Trigger::ZeroShot) {
            let round = job.status.round;
            let warning = "another generation has come to serve meanwhile, so it is not needed any more";
            info!(coft.round = round.0, "round {round} is cancelled: {warning}");
            job.status.warnings.push(warning.into());
            // Whatever the trainer leaves is dropped from now on.
            self.lifecycle.tell(Event::CancelAsked(round));
            job.stop.cancel();
        }
    }

    /// What a round has done stays where another one may take it up. A cancelled round is not forgotten: it may have
    /// been cancelled for what serves, and not for its images.
    fn keep_or_forget(&self, status: &mut RoundStatus) {
        let round = status.round.0;
        match self.history.after(status, &self.schedule) {
            Next::ByItself(_) | Next::WithNextRound | Next::ByHand => return,
            Next::Nothing => {}
            Next::GivenUp(why) => {
                let warning = told_given_up(&why);
                warn!(message_id = events::ROUND_WARNING, coft.round = round, warning, "round {round}: {warning}");
                status.warnings.push(warning);
            }
        }
        if let Err(error) = self.training.forget_unfinished() {
            warn!(problem = %error, "the journal of round {round} cannot be removed: {error}");
        }
    }
}
