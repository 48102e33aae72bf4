//! How a round starts: by the schedule, because an earlier round did not come to its end, or because somebody asked.

use super::jobs::Job;
use super::{Supervisor, blocking};
use crate::app::setup;
use crate::app::training::RoundPlan;
use crate::control::{CommandError, RoundRequest};
use crate::job_status::{DetailedState, JobStatus};
use crate::telemetry::events;
use coft_core::ids::{GenerationId, JobId};
use coft_core::job::Trigger;
use coft_core::lifecycle::{Action, Event, Refusal};
use coft_core::schedule::NextRound;
use coft_core::spec::Method;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{error, info, warn};

/// How long after a round could not start by itself it is tried again. 1 min [choice].
const RETRY: Duration = Duration::from_secs(60);
/// How often the free disk space is checked while no round runs and something happens, or space is lacking. 10 s
/// [choice].
pub(super) const LOOK_AT_ROOM: Duration = Duration::from_secs(10);
/// The same while nothing happens. 5 min [choice]: the space is checked before a round starts in any case.
const LOOK_AT_ROOM_IDLE: Duration = Duration::from_secs(5 * 60);

impl Supervisor {
    /// Starts a round that is due, unless one runs.
    pub(super) async fn look_at_schedule(&mut self) {
        let due = self.look_for_what_is_due().await;
        for (slot, trigger) in self.member.slots.each() {
            if due != Some(trigger) {
                slot.waits_no_longer(&self.member.name);
            }
        }
        let turn = due.map(|trigger| self.member.slots.of(trigger).wait_for_turn(&self.member.name).map(|()| trigger));
        self.publisher.waits_for(turn.as_ref().and_then(|turn| turn.as_ref().err()).cloned());
        let Some(Ok(trigger)) = turn else { return };
        // A generation that has learnt these classes before can serve at once.
        if trigger == Trigger::ZeroShot && self.goes_back().await {
            return;
        }
        if let Err(refused) = self.ask(trigger, RoundRequest::default()).await {
            self.member.slots.of(trigger).waits_no_longer(&self.member.name);
            self.not_before = Some(Instant::now() + RETRY);
            if refused == CommandError::Refused(Refusal::Stopping) {
                return;
            }
            info!(
                message_id = events::ROUND_POSTPONED,
                problem = %refused,
                "a round that is due cannot start, and is tried again in a minute: {refused}"
            );
        }
    }

    /// Activates a generation that was made for these classes before and has learnt from images, instead of making a
    /// new zero-shot one. Returns whether this has begun. It is tried only once.
    async fn goes_back(&mut self) -> bool {
        if std::mem::replace(&mut self.went_back, true) {
            return false;
        }
        let Some(generation) = self.promoter.fitting(&self.training.base) else { return false };
        matches!(self.activate(generation).await, Ok(Some(_)))
    }

    /// The trigger of the job that has to start now, if there is one.
    async fn look_for_what_is_due(&mut self) -> Option<Trigger> {
        let now = (self.clock)();
        if let Some(status) = self.history.restate(&now) {
            info!(coft.job = status.id.0, "the clock was set; the end of {} is put right", status.name());
            self.write_down(&status).await;
            self.publisher.jobs(self.history.jobs());
        }
        let next = self.history.next_round(&self.schedule, self.training.round.minimum_images, &now);
        self.publisher.next_round(next);
        if self.lifecycle.current().is_some() {
            return None;
        }
        self.give_up().await;
        self.look_at_room().await;
        let zero_shot = self.zero_shot_at.is_some();
        if self.findings.hold(if zero_shot { Trigger::ZeroShot } else { Trigger::Schedule }).is_some() {
            return None; // logged when it was found
        }
        // A zero-shot generation comes first: it answers from the first minute, before anything is adapted.
        if self.zero_shot_at.is_some_and(|at| at <= Instant::now()) {
            // A generation that is being imported or activated is better than what a zero-shot job would make.
            let deploys = self.jobs.iter().any(|job| !job.trigger.kind().needs_trainer());
            return (!deploys).then_some(Trigger::ZeroShot);
        }
        let may_start = next == NextRound::Due && self.not_before.is_none_or(|at| at <= Instant::now());
        may_start.then_some(Trigger::Schedule)
    }

    /// Gives up the work of rounds that fail at the same point again and again.
    async fn give_up(&mut self) {
        let Some((round, why)) = self.history.given_up(&self.schedule) else { return };
        let mut status = round.clone();
        match self.training.forget_unfinished() {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                return warn!(problem = %error, "the work of {} cannot be removed: {error}", status.name());
            }
        }
        status.warnings.push(told_given_up(&why));
        let (id, warning) = (status.id, told_given_up(&why));
        warn!(message_id = events::JOB_WARNING, coft.job = id.0, warning, "round {id}: {warning}");
        self.write_down(&status).await;
        self.record(status);
    }

    /// Publishes whether there is disk space for a round.
    async fn look_at_room(&mut self) {
        if self.look_at_room > Instant::now() {
            return;
        }
        let problem = match self.findings.serves_only {
            true => Some(setup::serves_only()),
            false => self.disk_space().await.err().map(|refused| refused.to_string()),
        };
        let is_full = problem.is_some() && !self.findings.serves_only;
        self.look_at_room = Instant::now() + if is_full { LOOK_AT_ROOM } else { LOOK_AT_ROOM_IDLE };
        self.publisher.round_problem(problem);
    }

    /// Checks whether there is disk space for a round that adapts.
    async fn disk_space(&self) -> Result<(), CommandError> {
        let training = self.training.clone();
        match blocking(move || training.shortage()).await {
            Ok(None) => Ok(()),
            Ok(Some(shortage)) => Err(CommandError::NoRoom(format!("{shortage}; free {} there", shortage.lacking))),
            Err(error) => {
                Err(CommandError::NoRoom(format!("the room on the disk of the state directory is not known: {error}")))
            }
        }
    }

    /// Starts a job of the trainer.
    pub(super) async fn ask(&mut self, trigger: Trigger, request: RoundRequest) -> Result<JobId, CommandError> {
        if let Some(why) = self.findings.hold(trigger) {
            return Err(if self.findings.serves_only {
                CommandError::NoTrainer(why)
            } else {
                CommandError::NotReady(why)
            });
        }
        let mut continues = None;
        if trigger.adapts() {
            // If a round runs already, that is the more useful refusal.
            if self.lifecycle.current().is_none() {
                let room = self.disk_space().await;
                self.publisher.round_problem(room.as_ref().err().map(ToString::to_string));
                room?;
            }
            let earlier = self.history.to_be_continued(&self.schedule, trigger == Trigger::Manual);
            continues = earlier.filter(|earlier| request.seed.is_none_or(|seed| earlier.seed == Some(seed))).cloned();
        }
        let own = continues.as_ref().and_then(|earlier: &JobStatus| earlier.seed);
        let seed = request.seed.or(own).unwrap_or(self.training.round.seed);
        // If no round is known, for example after the catalogue was lost, any work in the journal is taken up.
        let goes_on = continues.is_some() || !self.history.has_adapted();
        let continues = continues.map(|earlier| earlier.id);
        // If this classifier has a job under way, that is the reason to refuse, and not the slot.
        let slot = match self.lifecycle.current() {
            Some(_) => None,
            None => Some(self.member.slots.of(trigger).take(&self.member.name).map_err(occupied)?),
        };
        let status = self.admit(trigger, trigger.adapts().then_some(seed), continues).await?;
        let id = status.id;
        if let Some(earlier) = continues {
            info!(coft.job = id.0, "round {id} takes up the work of round {earlier}");
        }
        let method = if trigger == Trigger::ZeroShot { Method::ZeroShot } else { self.training.round.method.into() };
        let job = Job { _slot: slot, ..Job::new(trigger, status) };
        let plan = RoundPlan { round: id, method, seed, continues: goes_on };
        self.training.start(plan, job.stop.clone(), self.training_events.sender.clone());
        self.jobs.push(job);
        Ok(id)
    }

    pub(super) async fn import(&mut self, files: HashMap<String, OwnedFd>, force: bool) -> Result<JobId, CommandError> {
        let status = self.admit(Trigger::Import, None, None).await?;
        let job = Job { force, ..Job::new(Trigger::Import, status) };
        let id = job.status.id;
        self.training.import(id, files, job.stop.clone(), self.training_events.sender.clone());
        self.jobs.push(job);
        Ok(id)
    }

    /// Activates an earlier generation, whether another job runs or not.
    pub(super) async fn activate(&mut self, generation: GenerationId) -> Result<Option<JobId>, CommandError> {
        if self.publisher.snapshot().active == Some(generation) {
            return Ok(None);
        }
        let status = self.admit(Trigger::Activation, None, None).await?;
        let id = status.id;
        let number = generation.0;
        info!(coft.job = id.0, coft.generation = number, "activation {id} is to let generation {number} serve again");
        self.jobs.push(Job { generation: Some(generation), ..Job::new(Trigger::Activation, status) });
        // The generation exists already.
        self.tell(Event::CandidateLeft(id)).await;
        Ok(Some(id))
    }

    /// Starts a job if the lifecycle allows it, and stores it.
    async fn admit(
        &mut self,
        trigger: Trigger,
        seed: Option<u64>,
        continues: Option<JobId>,
    ) -> Result<JobStatus, CommandError> {
        let images = self.history.images();
        let id = match self.lifecycle.tell(Event::Asked { trigger, images }).as_slice() {
            [Action::Start { job, .. }] => *job,
            [Action::Refuse(refusal)] => return Err((*refusal).into()),
            other => unreachable!("a request is granted or refused, not {other:?}"),
        };
        let status = JobStatus {
            id,
            trigger,
            started: (self.clock)(),
            ended: None,
            images: if trigger.adapts() { images } else { 0 },
            seed,
            continues,
            state: DetailedState::Running,
            progress: None,
            warnings: Vec::new(),
        };
        let name = status.name();
        // The job is stored before its trainer starts: if it brings the machine down, the service knows of it
        // afterwards.
        if let Err(error) = self.training.catalog.save_job(&status).await {
            // A job that cannot be stored does not start.
            self.lifecycle.tell(Event::Failed(id));
            if self.zero_shot_at.is_some() {
                self.put_off_zero_shot();
            }
            error!(
                message_id = events::JOB_FAILED,
                coft.job = id.0,
                problem = %error,
                "{name} cannot start: {error}"
            );
            return Err(CommandError::Failed(error.to_string()));
        }
        let trigger: &str = trigger.into();
        info!(message_id = events::JOB_STARTED, coft.job = id.0, trigger, "{name} started: {trigger}");
        self.record(status.clone());
        Ok(status)
    }

    pub(super) async fn write_down(&self, status: &JobStatus) {
        let (id, name) = (status.id, status.name());
        if let Err(error) = self.training.catalog.save_job(status).await {
            error!(coft.job = id.0, problem = %error, "the end of {name} cannot be written down: {error}");
        }
    }
}

fn occupied(holder: String) -> CommandError {
    CommandError::Occupied(format!(
        "the classifier {holder} has a job of the trainer under way, and one of its kind runs at a time"
    ))
}

/// What a user reads when the work of a round is given up.
pub(super) fn told_given_up(why: &impl std::fmt::Display) -> String {
    format!("its work is given up, since {why}; the next round begins anew with the latest images")
}

#[cfg(test)]
mod tests;
