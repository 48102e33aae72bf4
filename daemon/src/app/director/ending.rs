//! How a round ends: its candidate is judged, the verdict carried out, and the end written down.

use super::{Director, ZERO_SHOT_RETRY, blocking};
use crate::app::unix_time;
use crate::app::verdict::{Judgement, Trouble};
use crate::control::RoundState;
use crate::telemetry::events;
use coft_core::event::FailureKind;
use coft_core::lifecycle::Trigger;
use tokio::time::Instant;
use tracing::{error, info, warn};

/// Images of this service that an imported generation is judged by, at most. 256 [choice].
const IMPORT_SAMPLE: usize = 256;

impl Director {
    /// Has the candidate judged on a thread of its own; the verdict comes back to the loop.
    pub(super) fn judge(&self) {
        let Some(job) = &self.job else { return };
        let (court, verdicts) = (self.court.clone(), self.verdicts.sender.clone());
        let (candidate, stop) = (job.candidate.clone(), job.stop.clone());
        let (trigger, round, generation) = (job.trigger, job.status.round, job.generation);
        let workshop = self.workshop.clone();
        tokio::spawn(async move {
            let verdict = match generation {
                Some(generation) => blocking(move || court.judge_kept(generation, round, &workshop.base, &stop)).await,
                None if trigger != Trigger::Import => blocking(move || court.judge(&candidate, &stop)).await,
                None => match workshop.sample(IMPORT_SAMPLE).await {
                    Ok(images) => {
                        blocking(move || court.judge_import(&candidate, round, &workshop.base, &images, &stop)).await
                    }
                    Err(error) => Err(Trouble {
                        kind: FailureKind::Internal,
                        message: error.to_string(),
                        hint: "the active generation keeps serving; import it again".into(),
                    }),
                },
            };
            // A service that has gone needs no verdict.
            let _ = verdicts.send(verdict).await;
        });
    }

    /// Carries out the verdict, or writes down why there is none.
    pub(super) async fn conclude(&mut self) {
        let verdict = self.job.as_mut().and_then(|job| job.verdict.take());
        let verdict = verdict.unwrap_or_else(|| Err(Trouble::unexplained()));
        let state = match verdict {
            Ok(Judgement::Promote(promotion)) => {
                let court = self.court.clone();
                match blocking(move || court.promote(*promotion)).await {
                    Ok(generation) => RoundState::Promoted(generation),
                    Err(Trouble { kind, message, hint }) => RoundState::Failed { kind, message, hint },
                }
            }
            Ok(Judgement::Keep(reason)) => RoundState::Kept(reason),
            Err(Trouble { kind, message, hint }) => RoundState::Failed { kind, message, hint },
        };
        self.close(state).await;
    }

    pub(super) async fn drop_candidate(&mut self) {
        let verdict = self.job.as_mut().and_then(|job| job.verdict.take());
        if let Some(Ok(Judgement::Promote(promotion))) = verdict {
            let court = self.court.clone();
            if let Err(error) = blocking(move || court.drop_candidate(*promotion)).await {
                let problem = error.message;
                warn!(problem, "a candidate that is not wanted cannot be removed: {problem}");
            }
        }
    }

    /// Writes the end of the round down and clears up after it.
    pub(super) async fn close(&mut self, state: RoundState) {
        let Some(job) = self.job.take() else { return };
        let mut status = job.status;
        let round = status.round.0;
        match &state {
            RoundState::Promoted(generation) => info!(
                message_id = events::PROMOTED,
                coft.round = round,
                coft.generation = generation.0,
                "round {round} promoted generation {generation}"
            ),
            RoundState::Kept(reason) => info!(
                message_id = events::KEPT,
                coft.round = round,
                reason,
                "round {round} ended; its candidate is not taken: {reason}"
            ),
            RoundState::Failed { message, hint, .. } => error!(
                message_id = events::ROUND_FAILED,
                coft.round = round,
                problem = message,
                hint,
                "round {round} failed: {message}; {hint}"
            ),
            RoundState::Cancelled => {
                info!(message_id = events::ROUND_CANCELLED, coft.round = round, "round {round} cancelled");
            }
            RoundState::Running | RoundState::Interrupted => {
                info!(message_id = events::ROUND_INTERRUPTED, coft.round = round, "round {round} interrupted");
            }
        }

        let goes_on = match &state {
            RoundState::Interrupted => true,
            // Killed, or short of memory: the same work may well succeed the next time.
            RoundState::Failed { kind, .. } => matches!(kind, FailureKind::Internal | FailureKind::OutOfMemory),
            _ => false,
        };
        // What was interrupted before an import or an activation is still to be continued.
        if job.trigger.needs_trainer()
            && !goes_on
            && let Err(error) = self.workshop.forget_unfinished()
        {
            warn!(problem = %error, "the journal of round {round} cannot be removed: {error}");
        }
        (status.state, status.ended) = (state, Some(unix_time()));
        // Clearing up first: on a full disk it makes room for the last line of the record.
        let court = self.court.clone();
        if let Err(error) = blocking(move || court.clear_up()).await {
            let problem = error.message;
            warn!(problem, "what round {round} left behind cannot be removed: {problem}");
        }
        if let Err(error) = self.workshop.catalog.save_round(&status).await {
            error!(coft.round = round, problem = %error, "the end of round {round} cannot be written down: {error}");
        }
        // What was promoted stays, even where the model's files are others by now than when the service started.
        let promoted = matches!(status.state, RoundState::Promoted(_));
        let wanted = self.zero_shot_at.is_some() && !promoted;
        self.board.round(status);
        self.show_generations();
        let retries = wanted && !self.court.is_current(&self.workshop.base);
        self.zero_shot_at = retries.then(|| Instant::now() + ZERO_SHOT_RETRY);
    }
}
