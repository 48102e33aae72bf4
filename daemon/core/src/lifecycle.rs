//! Which jobs may start and be cancelled, and how they end. Of each kind, one job runs at a time.
//!
//! An import and an activation run beside a job of the trainer. So a person who deploys a generation, or goes back to
//! an earlier one, does not wait for hours, and the work of the trainer is not lost.
//!
//! This is a state machine without a clock, a process or a disk. The daemon reports events to it and carries out the
//! actions that it returns. It does not know when a round is due (see [`crate::schedule`]) or whether a candidate is
//! good enough (see [`crate::promotion`]).

use crate::ids::JobId;
use crate::job::{JobKind, JobName, Trigger};
use thiserror::Error;

/// An event that the daemon reports to the state machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A job is asked for.
    Asked {
        /// Why the job is asked for.
        trigger: Trigger,
        /// Images in the catalogue at that moment.
        images: u64,
    },
    /// A person asked to cancel this job.
    CancelAsked(JobId),
    /// The trainer ended and left a candidate.
    CandidateLeft(JobId),
    /// The candidate was staged, replayed and judged; now it can be promoted or kept.
    Judged(JobId),
    /// The job ended without a candidate, or its candidate cannot be read.
    Failed(JobId),
    /// The service has been asked to stop.
    StopAsked,
}

/// What the daemon must do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a job with the number `job`.
    Start {
        /// Number of the new job, which was never used before.
        job: JobId,
        /// Why it starts.
        trigger: Trigger,
    },
    /// Refuse the request, for this reason.
    Refuse(Refusal),
    /// Stop the trainer or the judging of its candidate. When it has ended, `Failed`, `CandidateLeft` or `Judged`
    /// follows.
    StopTrainer(JobId),
    /// Verify and judge the candidate; `Judged` or `Failed` follows.
    Judge(JobId),
    /// Carry out the verdict and record the end of the job.
    Conclude(JobId),
    /// Record that the job ended this way, whatever its trainer reported, and drop its candidate.
    Abandon(JobId, Abandoned),
    /// Record the failure that the trainer reported.
    Fail(JobId),
    /// Nothing runs any more, so the service may end.
    Exit,
}

/// Why a job does not end with the result of its trainer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abandoned {
    /// A person cancelled it.
    Cancelled,
    /// The service was asked to stop.
    Interrupted,
}

/// Why a request was not carried out.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// This job is still running.
    #[error("{0} is already running")]
    Busy(JobName),
    /// The catalogue has too few images for a round.
    #[error("{images} images are catalogued; a round needs at least {needed}")]
    TooFewImages {
        /// Images in the catalogue.
        images: u64,
        /// Images that such a round needs.
        needed: u64,
    },
    /// There was never a job with this number.
    #[error("there is no job {0}")]
    NoSuchJob(JobId),
    /// This job is no longer running.
    #[error("job {0} has already ended")]
    AlreadyEnded(JobId),
    /// The service is stopping, and starts no more jobs.
    #[error("the service is stopping")]
    Stopping,
}

/// Which jobs run, and the stage of each; see the module.
#[derive(Debug)]
pub struct Lifecycle {
    /// Fewest images in the catalogue for a round.
    minimum_images: u64,
    /// The highest number that was ever used, 0 for none.
    last: JobId,
    /// The running job of the trainer, the import, and the activation; see [`place`].
    running: [Option<Current>; 3],
    stopping: bool,
}

#[derive(Clone, Copy, Debug)]
struct Current {
    job: JobName,
    stage: Stage,
    abandoned: Option<Abandoned>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Training,
    Judging,
}

impl Lifecycle {
    /// `last` is the highest number that earlier runs of the service used, 0 for none.
    pub fn new(last: JobId, minimum_images: u64) -> Self {
        Self { minimum_images, last, running: [None; 3], stopping: false }
    }

    /// Sets the fewest images in the catalogue for a round, from now on.
    pub fn require(&mut self, minimum_images: u64) {
        self.minimum_images = minimum_images;
    }

    /// The running job of the trainer.
    pub fn current(&self) -> Option<JobId> {
        self.running[0].map(|current| current.job.id)
    }

    /// The highest number that was ever used, 0 for none.
    pub fn last(&self) -> JobId {
        self.last
    }

    /// Processes an event. The actions must be carried out in order.
    pub fn tell(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::Asked { trigger, images } => vec![self.ask(trigger, images)],
            Event::CancelAsked(job) => vec![self.cancel(job)],
            Event::CandidateLeft(job) => self.candidate_left(job),
            Event::Judged(job) => self.end(job, Action::Conclude),
            Event::Failed(job) => self.end(job, Action::Fail),
            Event::StopAsked => self.stop(),
        }
    }

    fn ask(&mut self, trigger: Trigger, images: u64) -> Action {
        if self.stopping {
            return Action::Refuse(Refusal::Stopping);
        }
        let place = place(trigger.kind());
        if let Some(current) = self.running[place] {
            return Action::Refuse(Refusal::Busy(current.job));
        }
        if trigger.adapts() && images < self.minimum_images {
            return Action::Refuse(Refusal::TooFewImages { images, needed: self.minimum_images });
        }
        let job = JobId(self.last.0 + 1);
        self.last = job;
        let name = trigger.kind().job(job);
        self.running[place] = Some(Current { job: name, stage: Stage::Training, abandoned: None });
        Action::Start { job, trigger }
    }

    fn cancel(&mut self, job: JobId) -> Action {
        let last = self.last;
        match self.find(job) {
            // A second request only stops the trainer again. A candidate that is being judged is dropped afterwards.
            Some(current) => {
                current.abandoned.get_or_insert(Abandoned::Cancelled);
                Action::StopTrainer(job)
            }
            None if job.0 == 0 || job > last => Action::Refuse(Refusal::NoSuchJob(job)),
            None => Action::Refuse(Refusal::AlreadyEnded(job)),
        }
    }

    fn candidate_left(&mut self, job: JobId) -> Vec<Action> {
        match self.find(job) {
            Some(current) if current.stage == Stage::Training && current.abandoned.is_none() => {
                current.stage = Stage::Judging;
                vec![Action::Judge(job)]
            }
            // The trainer finished just when it was stopped: the request to stop counts.
            Some(current) if current.stage == Stage::Training => self.end(job, Action::Fail),
            _ => Vec::new(),
        }
    }

    fn end(&mut self, job: JobId, action: fn(JobId) -> Action) -> Vec<Action> {
        let place = self.running.iter_mut().find(|running| running.is_some_and(|current| current.job.id == job));
        let Some(current) = place.and_then(Option::take) else { return Vec::new() };
        let mut actions = vec![match current.abandoned {
            Some(how) => Action::Abandon(job, how),
            None => action(job),
        }];
        if self.stopping && self.running.iter().all(Option::is_none) {
            actions.push(Action::Exit);
        }
        actions
    }

    fn stop(&mut self) -> Vec<Action> {
        self.stopping = true;
        let interrupt = |current: &mut Current| {
            current.abandoned.get_or_insert(Abandoned::Interrupted);
            Action::StopTrainer(current.job.id)
        };
        let actions: Vec<Action> = self.running.iter_mut().flatten().map(interrupt).collect();
        if actions.is_empty() { vec![Action::Exit] } else { actions }
    }

    fn find(&mut self, job: JobId) -> Option<&mut Current> {
        self.running.iter_mut().flatten().find(|current| current.job.id == job)
    }
}

/// Index of the job in `running`. Jobs with the same index exclude each other.
fn place(kind: JobKind) -> usize {
    match kind {
        JobKind::Adaptation | JobKind::ZeroShot => 0,
        JobKind::Import => 1,
        JobKind::Activation => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const R1: JobId = JobId(1);
    const R2: JobId = JobId(2);
    const ASK: Event = Event::Asked { trigger: Trigger::Manual, images: 50 };
    const START: Action = Action::Start { job: R1, trigger: Trigger::Manual };

    /// Reports the events to a new state machine that needs 10 images, and compares its actions after each.
    #[track_caller]
    fn tell(story: &[(Event, &[Action])]) {
        let mut lifecycle = Lifecycle::new(JobId(0), 10);
        for (step, (event, actions)) in story.iter().enumerate() {
            assert_eq!(lifecycle.tell(*event), *actions, "step {step}: {event:?}");
        }
    }

    #[test]
    fn a_round_is_trained_judged_and_concluded() {
        tell(&[
            (ASK, &[START]),
            (Event::CandidateLeft(R1), &[Action::Judge(R1)]),
            (Event::Judged(R1), &[Action::Conclude(R1)]),
            (ASK, &[Action::Start { job: R2, trigger: Trigger::Manual }]),
            (Event::Failed(R2), &[Action::Fail(R2)]),
        ]);
    }

    #[test]
    fn one_round_at_a_time() {
        tell(&[
            (ASK, &[START]),
            (ASK, &[Action::Refuse(Refusal::Busy(JobKind::Adaptation.job(R1)))]),
            (Event::CandidateLeft(R1), &[Action::Judge(R1)]),
            (ASK, &[Action::Refuse(Refusal::Busy(JobKind::Adaptation.job(R1)))]),
            (Event::Failed(R1), &[Action::Fail(R1)]),
        ]);
    }

    /// Activating a generation was refused while a round trained, and cancelling that round threw away hours of work.
    #[test]
    fn an_earlier_generation_serves_again_while_a_round_trains() {
        const GO_BACK: Event = Event::Asked { trigger: Trigger::Activation, images: 50 };
        const START_2: Action = Action::Start { job: R2, trigger: Trigger::Activation };
        tell(&[
            (ASK, &[START]),
            (GO_BACK, &[START_2]),
            (GO_BACK, &[Action::Refuse(Refusal::Busy(JobKind::Activation.job(R2)))]),
            (ASK, &[Action::Refuse(Refusal::Busy(JobKind::Adaptation.job(R1)))]),
            (Event::CandidateLeft(R2), &[Action::Judge(R2)]),
            (Event::CandidateLeft(R1), &[Action::Judge(R1)]),
            (Event::Judged(R2), &[Action::Conclude(R2)]),
            (Event::Judged(R2), &[]),
            (Event::Judged(R1), &[Action::Conclude(R1)]),
        ]);
        // Each is cancelled on its own.
        tell(&[
            (ASK, &[START]),
            (GO_BACK, &[START_2]),
            (Event::CancelAsked(R2), &[Action::StopTrainer(R2)]),
            (Event::Failed(R2), &[Action::Abandon(R2, Abandoned::Cancelled)]),
            (Event::CandidateLeft(R1), &[Action::Judge(R1)]),
        ]);
        // The service ends once both have ended.
        tell(&[
            (ASK, &[START]),
            (GO_BACK, &[START_2]),
            (Event::StopAsked, &[Action::StopTrainer(R1), Action::StopTrainer(R2)]),
            (Event::Failed(R1), &[Action::Abandon(R1, Abandoned::Interrupted)]),
            (Event::Judged(R2), &[Action::Abandon(R2, Abandoned::Interrupted), Action::Exit]),
        ]);
    }

    /// An import and an activation both waited for the trainer, and an activation also for an import.
    #[test]
    fn a_generation_is_imported_and_another_one_activated_while_a_round_trains() {
        let asked = |trigger| Event::Asked { trigger, images: 50 };
        let start = |job, trigger| Action::Start { job: JobId(job), trigger };
        tell(&[
            (ASK, &[START]),
            (asked(Trigger::Import), &[start(2, Trigger::Import)]),
            (asked(Trigger::Import), &[Action::Refuse(Refusal::Busy(JobKind::Import.job(R2)))]),
            (asked(Trigger::Activation), &[start(3, Trigger::Activation)]),
            (asked(Trigger::ZeroShot), &[Action::Refuse(Refusal::Busy(JobKind::Adaptation.job(R1)))]),
            (Event::CandidateLeft(R2), &[Action::Judge(R2)]),
            (Event::Judged(R2), &[Action::Conclude(R2)]),
            (asked(Trigger::Import), &[start(4, Trigger::Import)]),
        ]);
    }

    #[test]
    fn few_images_are_enough_for_a_round_that_does_not_adapt() {
        let few = |trigger| Event::Asked { trigger, images: 9 };
        let refusal = Action::Refuse(Refusal::TooFewImages { images: 9, needed: 10 });
        tell(&[(few(Trigger::Manual), &[refusal]), (few(Trigger::Schedule), &[refusal])]);
        for trigger in [Trigger::ZeroShot, Trigger::Import, Trigger::Activation] {
            tell(&[(few(trigger), &[Action::Start { job: R1, trigger }])]);
        }
    }

    #[test]
    fn a_cancelled_round_ends_cancelled_whatever_the_trainer_says() {
        let cancelled: &[Action] = &[Action::Abandon(R1, Abandoned::Cancelled)];
        let cancel = (Event::CancelAsked(R1), &[Action::StopTrainer(R1)] as &[Action]);
        tell(&[(ASK, &[START]), cancel, (Event::Failed(R1), cancelled)]);
        tell(&[(ASK, &[START]), cancel, cancel, (Event::CandidateLeft(R1), cancelled)]);
        for judged in [Event::Judged(R1), Event::Failed(R1)] {
            tell(&[(ASK, &[START]), (Event::CandidateLeft(R1), &[Action::Judge(R1)]), cancel, (judged, cancelled)]);
        }
    }

    #[test]
    fn only_a_running_job_can_be_cancelled() {
        tell(&[
            (Event::CancelAsked(R1), &[Action::Refuse(Refusal::NoSuchJob(R1))]),
            (ASK, &[START]),
            (Event::Failed(R1), &[Action::Fail(R1)]),
            (Event::CancelAsked(R1), &[Action::Refuse(Refusal::AlreadyEnded(R1))]),
            (Event::CancelAsked(JobId(0)), &[Action::Refuse(Refusal::NoSuchJob(JobId(0)))]),
        ]);
    }

    #[test]
    fn a_stop_interrupts_the_round_and_then_exits() {
        tell(&[(Event::StopAsked, &[Action::Exit]), (ASK, &[Action::Refuse(Refusal::Stopping)])]);
        tell(&[
            (ASK, &[START]),
            (Event::StopAsked, &[Action::StopTrainer(R1)]),
            (ASK, &[Action::Refuse(Refusal::Stopping)]),
            (Event::Failed(R1), &[Action::Abandon(R1, Abandoned::Interrupted), Action::Exit]),
        ]);
        tell(&[
            (ASK, &[START]),
            (Event::CandidateLeft(R1), &[Action::Judge(R1)]),
            (Event::StopAsked, &[Action::StopTrainer(R1)]),
            (Event::Failed(R1), &[Action::Abandon(R1, Abandoned::Interrupted), Action::Exit]),
        ]);
        tell(&[
            (ASK, &[START]),
            (Event::CancelAsked(R1), &[Action::StopTrainer(R1)]),
            (Event::StopAsked, &[Action::StopTrainer(R1)]),
            (Event::Failed(R1), &[Action::Abandon(R1, Abandoned::Cancelled), Action::Exit]),
        ]);
    }

    #[test]
    fn numbers_go_on_after_a_restart() {
        let mut lifecycle = Lifecycle::new(JobId(41), 10);
        assert_eq!(lifecycle.tell(ASK), [Action::Start { job: JobId(42), trigger: Trigger::Manual }]);
        assert_eq!(lifecycle.current(), Some(JobId(42)));
        assert_eq!(lifecycle.tell(Event::CancelAsked(JobId(41))), [Action::Refuse(Refusal::AlreadyEnded(JobId(41)))]);
    }

    proptest! {
        /// Whatever events come in whatever order: no two jobs with the same index run at once, no number is used
        /// twice, and every start has one end.
        #[test]
        fn never_two_rounds_at_once(events in proptest::collection::vec((0usize..10, 0u64..4), 0..200)) {
            let mut lifecycle = Lifecycle::new(JobId(0), 10);
            let mut running: [Option<JobId>; 3] = [None; 3];
            let mut last = JobId(0);
            for (event, back) in events {
                let job = JobId(last.0.saturating_sub(back));
                let event = [
                    ASK,
                    Event::Asked { trigger: Trigger::Schedule, images: 3 },
                    Event::Asked { trigger: Trigger::ZeroShot, images: 0 },
                    Event::Asked { trigger: Trigger::Import, images: 0 },
                    Event::Asked { trigger: Trigger::Activation, images: 0 },
                    Event::CancelAsked(job),
                    Event::CandidateLeft(job),
                    Event::Judged(job),
                    Event::Failed(job),
                    Event::CancelAsked(JobId(last.0 + 1)),
                ][event];
                for action in lifecycle.tell(event) {
                    match action {
                        Action::Start { job, trigger } => {
                            let place = &mut running[place(trigger.kind())];
                            prop_assert_eq!(*place, None);
                            prop_assert!(job > last);
                            last = job;
                            *place = Some(job);
                        }
                        Action::Conclude(job) | Action::Abandon(job, _) | Action::Fail(job) => {
                            let ended = running.iter_mut().find(|running| **running == Some(job));
                            prop_assert_eq!(ended.and_then(Option::take), Some(job));
                        }
                        Action::StopTrainer(job) | Action::Judge(job) => {
                            prop_assert!(running.contains(&Some(job)));
                        }
                        Action::Refuse(_) => {}
                        Action::Exit => prop_assert!(false, "nobody asked to stop"),
                    }
                }
                prop_assert_eq!(lifecycle.current(), running[0]);
            }
        }
    }
}
