//! The main loop of a classifier, which owns everything that changes.
//!
//! Clients' commands, reports of the intake and of jobs, the signal to stop and the timer arrive one at a time;
//! `coft-core` decides; the actions are carried out here or by a task that reports back.

mod configuring;
mod ending;
mod health;
mod jobs;
mod reviewing;
mod serving;
mod starting;

pub use serving::Serving;

use super::answers;
use super::blocking;
use super::coordination::Member;
use super::intake::{self, Intake};
use super::job_history::JobHistory;
use super::promoter::Promoter;
use super::setup::{Findings, Looks};
use super::status_publisher::{PUBLISH_INTERVAL, StatusPublisher};
use super::training::{TrainingEvent, TrainingRunner};
use crate::clock::Clock;
use crate::control::{Command, CommandError, LabelCount};
use crate::job_status::DetailedState;
use crate::systemd;
use coft_core::ids::{GenerationId, JobId};
use coft_core::job::Trigger;
use coft_core::lifecycle::{Abandoned, Action, Event, Lifecycle, Refusal};
use coft_core::schedule::{NextRound, Schedule};
use health::Health;
use jobs::{Job, Judged};
use reviewing::Reviewing;
use starting::LOOK_AT_ROOM;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::Instrument;

/// How soon after an event the schedule is checked and systemd gets the status, and how often while something is under
/// way.
const ROUTINE_INTERVAL: Duration = Duration::from_secs(1);
/// The same while nothing happens: what is due is checked in time, and everything else at this interval. 90 s [choice]:
/// half of `WatchdogSec=` of the unit.
const IDLE_INTERVAL: Duration = Duration::from_secs(90);
/// How long after a failed job that was to make the classifier's first generation another one is tried; twice as long
/// after each failure. [choice]
const ZERO_SHOT_RETRY: Duration = Duration::from_secs(5 * 60);
const LONGEST_ZERO_SHOT_RETRY: Duration = Duration::from_secs(6 * 60 * 60);
/// Maximum number of events of jobs that wait; if the channel is full, the trainer waits, too.
const JOB_EVENTS: usize = 64;

/// Where the intake and the answers report their status.
pub struct StatusReceivers {
    pub intake: watch::Receiver<intake::IntakeStatus>,
    pub answers: watch::Receiver<answers::AnswersStatus>,
}

pub struct Supervisor {
    training: TrainingRunner,
    promoter: Promoter,
    lifecycle: Lifecycle,
    schedule: Schedule,
    history: JobHistory,
    publisher: StatusPublisher,
    intake: Intake,
    /// The last status from the intake.
    intake_status: intake::IntakeStatus,
    clock: Clock,
    /// The jobs under way, as `lifecycle` has them: at most one of the trainer, one import and one activation.
    jobs: Vec<Job>,
    training_events: Channel<(JobId, TrainingEvent)>,
    outcomes: Channel<(JobId, Judged)>,
    /// Lets one candidate at a time be judged and promoted: the store stages only one, and an import is compared with
    /// the active generation.
    judging: Arc<Semaphore>,
    serving: Serving,
    /// Reports what the set-up lacks, and what differs from the configuration.
    setup: Looks,
    findings: Findings,
    /// When a zero-shot job is due; none if the active generation knows the configured classes and model.
    zero_shot_at: Option<Instant>,
    /// Whether an earlier generation of these classes has been looked for, to serve instead of a zero-shot one.
    went_back: bool,
    /// How long the next zero-shot job waits if this one fails.
    zero_shot_pause: Duration,
    /// No round starts by itself before this time, because the last one could not start.
    not_before: Option<Instant>,
    /// When the free disk space is checked next.
    look_at_room: Instant,
    member: Member,
    health: Health,
    reviewing: Reviewing,
    exit: bool,
}

/// Both ends of a channel: tasks get the sender, the loop reads.
struct Channel<T> {
    sender: mpsc::Sender<T>,
    receiver: mpsc::Receiver<T>,
}

impl<T> Channel<T> {
    fn new(size: usize) -> Self {
        let (sender, receiver) = mpsc::channel(size);
        Self { sender, receiver }
    }
}

/// Everything that the supervisor is given.
pub struct Parts {
    pub member: Member,
    pub training: TrainingRunner,
    pub promoter: Promoter,
    pub lifecycle: Lifecycle,
    pub schedule: Schedule,
    pub history: JobHistory,
    pub publisher: StatusPublisher,
    pub intake: Intake,
    /// Has begun to load the active generation before the supervisor starts.
    pub serving: Serving,
    /// Reports what the set-up lacks, at every change.
    pub setup: Looks,
    /// What is known of the set-up so far.
    pub findings: Findings,
    pub clock: Clock,
}

impl Supervisor {
    pub fn new(parts: Parts) -> Self {
        let zero_shot_at = (!parts.promoter.is_current(&parts.training.base)).then(Instant::now);
        Self {
            training: parts.training,
            promoter: parts.promoter,
            lifecycle: parts.lifecycle,
            schedule: parts.schedule,
            history: parts.history,
            publisher: parts.publisher,
            intake: parts.intake,
            intake_status: intake::IntakeStatus::default(),
            clock: parts.clock,
            jobs: Vec::new(),
            training_events: Channel::new(JOB_EVENTS),
            outcomes: Channel::new(3),
            judging: Arc::new(Semaphore::new(1)),
            serving: parts.serving,
            setup: parts.setup,
            findings: parts.findings,
            zero_shot_at,
            went_back: false,
            zero_shot_pause: ZERO_SHOT_RETRY,
            not_before: None,
            look_at_room: Instant::now(),
            member: parts.member,
            health: Health::default(),
            reviewing: Reviewing::default(),
            exit: false,
        }
    }

    #[cfg(test)]
    pub fn last_job(&self) -> JobId {
        self.lifecycle.last()
    }

    /// Works until `stop` is ready and the jobs under way have ended; returns the intake, which the caller has to stop.
    pub async fn run(
        mut self,
        commands: &mut mpsc::Receiver<Command>,
        receivers: StatusReceivers,
        stop: impl Future<Output = ()>,
    ) -> Intake {
        let StatusReceivers { mut intake, mut answers } = receivers;
        let mut stop = pin!(stop);
        let mut stopping = false;
        let mut publish = interval(PUBLISH_INTERVAL);
        publish.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut routine = Instant::now();
        while !self.exit {
            let mut happened = true;
            tokio::select! {
                Some(command) = commands.recv() => self.command(command).await,
                Ok(()) = intake.changed() => {
                    let status = intake.borrow_and_update().clone();
                    self.on_intake_status(status);
                }
                Ok(()) = answers.changed() => self.publisher.answers(&answers.borrow_and_update()),
                Some((id, event)) = self.training_events.receiver.recv() => self.on_training_event(id, event).await,
                Some((id, judged)) = self.outcomes.receiver.recv() => {
                    self.judged(id, judged).await;
                    self.look_at_review().await;
                }
                () = self.serving.tried() => self.serving.tell(&mut self.publisher),
                Some(findings) = self.setup.next() => self.found(findings).await,
                // Another classifier has ended its round: it may be this one's turn.
                () = self.member.slots.freed() => {}
                () = &mut stop, if !stopping => {
                    stopping = true;
                    self.tell(Event::StopAsked).await;
                }
                _ = publish.tick(), if self.publisher.is_stale() => {
                    self.publisher.tick();
                    happened = false;
                }
                () = sleep_until(routine) => {
                    self.routine().await;
                    routine = Instant::now() + self.pause();
                    happened = false;
                }
            }
            if happened {
                self.look_at_room = self.look_at_room.min(Instant::now() + LOOK_AT_ROOM);
                routine = routine.min(Instant::now() + ROUTINE_INTERVAL);
            }
        }
        self.intake
    }

    /// Work that is done at regular intervals.
    async fn routine(&mut self) {
        self.member.notifier.status(&self.publisher.status_line());
        self.look_at_health();
        // systemd restarts the service if it gets no such message for a while.
        if self.health.problem().is_none() {
            self.member.notifier.alive();
        }
        self.intake.look();
        if self.training.catalog.note() != self.findings.catalog {
            self.setup.now();
        }
        self.serving.look(&self.publisher);
        self.look_at_review().await;
        self.look_at_schedule().await;
    }

    /// How long the loop can sleep if nothing happens.
    fn pause(&self) -> Duration {
        let goes_on = !self.jobs.is_empty() || self.promoter.under_way().is_some() || self.health.problem().is_some();
        if goes_on {
            return ROUTINE_INTERVAL;
        }
        let zero_shot = self.zero_shot_at.filter(|_| self.findings.hold(Trigger::ZeroShot).is_none());
        let schedule = match self.publisher.snapshot().next_round {
            _ if self.findings.hold(Trigger::Schedule).is_some() => None,
            NextRound::Due => Some(self.not_before.unwrap_or_else(Instant::now)),
            NextRound::At(at) => {
                let wait = at.saturating_sub((self.clock)().wall);
                Some(Instant::now() + Duration::from_secs(u64::try_from(wait).unwrap_or(0)).min(IDLE_INTERVAL))
            }
            NextRound::ByHand | NextRound::Images(_) => None,
        };
        let due = [zero_shot, schedule, self.serving.again_at(), Some(self.look_at_room)].into_iter().flatten().min();
        let due = due.map_or(IDLE_INTERVAL, |at| at.saturating_duration_since(Instant::now()));
        let watchdog = systemd::watchdog_interval().unwrap_or(IDLE_INTERVAL);
        due.min(IDLE_INTERVAL).min(watchdog).max(ROUTINE_INTERVAL)
    }

    async fn command(&mut self, command: Command) {
        // A client that has gone does not need the reply.
        match command {
            Command::StartRound { request, reply } => {
                let _ = reply.send(self.ask(Trigger::Manual, request).await);
            }
            Command::Import { files, force, reply } => {
                let _ = reply.send(self.import(files, force).await);
            }
            Command::Activate { generation, reply } => {
                let _ = reply.send(self.activate(generation).await);
            }
            Command::CancelJob { job, reply } => {
                let refusal = self.tell(Event::CancelAsked(job)).await;
                let _ = reply.send(refusal.map_or(Ok(()), |refusal| Err(refusal.into())));
            }
            Command::ReviewItems { limit, reply } => self.review_items(limit, reply),
            Command::SubmitReview { answers, reply } => {
                let _ = reply.send(self.submit_review(answers).await);
            }
            Command::CountAnswers { generation, reply } => self.count_answers(generation, reply),
            Command::Rescan { reply } => {
                self.intake.rescan();
                self.setup.now();
                let _ = reply.send(Ok(()));
            }
            Command::Configure { config, reply } => {
                let _ = reply.send(self.configure(config).await);
            }
        }
    }

    /// Counts what a generation has answered, in a task of its own, since the file system of the list of labels may not
    /// answer.
    fn count_answers(&self, generation: GenerationId, reply: oneshot::Sender<Result<Vec<LabelCount>, CommandError>>) {
        let training = self.training.clone();
        tokio::spawn(
            async move {
                let counted = training.count_answers(generation).await;
                // A client that has gone does not need the reply.
                let _ = reply.send(counted.map_err(|error| CommandError::Failed(error.to_string())));
            }
            .in_current_span(),
        );
    }

    /// Publishes what has changed in the intake's status.
    fn on_intake_status(&mut self, status: intake::IntakeStatus) {
        let before = std::mem::replace(&mut self.intake_status, status);
        let status = &self.intake_status;
        if let Some(counts) = status.counts.as_ref().filter(|counts| before.counts.as_ref() != Some(*counts)) {
            self.history.counted(counts.images, (self.clock)());
            self.publisher.counted(counts);
        }
        for (source, problem) in &status.sources {
            if before.sources.get(source) != Some(problem) {
                self.publisher.source(source, problem.clone());
            }
        }
        for (source, files) in &status.waiting {
            if before.waiting.get(source) != Some(files) {
                self.publisher.waiting(source, *files);
            }
        }
        if before.problem != status.problem {
            self.publisher.intake(status.problem.clone());
        }
    }

    /// Passes an event to the lifecycle and carries out the actions that follow; returns the refusal, if there is one.
    async fn tell(&mut self, event: Event) -> Option<Refusal> {
        let mut refusal = None;
        for action in self.lifecycle.tell(event) {
            match action {
                Action::Start { .. } => unreachable!("jobs start in `admit` alone"),
                Action::Refuse(why) => refusal = Some(why),
                Action::StopTrainer(id) => {
                    if let Some(job) = self.job(id) {
                        job.stop.cancel();
                    }
                }
                Action::Judge(id) => self.judge(id),
                Action::Conclude(id) | Action::Fail(id) => self.conclude(id).await,
                Action::Abandon(id, how) => {
                    self.drop_candidate(id).await;
                    let state = match how {
                        Abandoned::Cancelled => DetailedState::Cancelled,
                        Abandoned::Interrupted => DetailedState::Interrupted,
                    };
                    self.close(id, state).await;
                }
                Action::Exit => self.exit = true,
            }
        }
        refusal
    }

    /// Schedules another zero-shot job after one that failed, after a pause that doubles each time.
    fn put_off_zero_shot(&mut self) {
        self.zero_shot_at = Some(Instant::now() + self.zero_shot_pause);
        self.zero_shot_pause = (2 * self.zero_shot_pause).min(LONGEST_ZERO_SHOT_RETRY);
    }

    fn show_generations(&mut self) {
        let (generations, mut running) = self.promoter.generations();
        running.problem = self.health.problem().unwrap_or(running.problem);
        self.promoter.active_classes().iter().for_each(|classes| self.publisher.classes(classes));
        self.publisher.serving(generations, running);
    }
}
