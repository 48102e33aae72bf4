//! One round at a time: what may start, what may be cancelled, and how a round ends.
//!
//! A state machine without a clock, a process or a disk. The daemon tells it what happened and carries out what comes
//! back. It does not know when a round is due (see [`crate::schedule`]) or whether a candidate is good enough (see
//! [`crate::promotion`]).

use crate::ids::RoundId;
use thiserror::Error;

/// What made a round start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Somebody asked for it.
    Manual,
    /// Enough new images and enough time have gone by.
    Schedule,
    /// The class names or the base model have no generation yet; needs no image.
    ZeroShot,
    /// A generation that was exported elsewhere is to serve here; needs no image either.
    Import,
    /// A generation that has served before is to serve again; needs no image.
    Activation,
}

impl Trigger {
    /// The trigger as the catalogue, the bus and the command line write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Trigger::Manual => "manual",
            Trigger::Schedule => "schedule",
            Trigger::ZeroShot => "zero-shot",
            Trigger::Import => "import",
            Trigger::Activation => "activation",
        }
    }

    /// Whether the trainer makes what is to serve; otherwise it is there already.
    pub fn needs_trainer(self) -> bool {
        !matches!(self, Trigger::Import | Trigger::Activation)
    }

    /// Whether the round learns from images.
    pub fn adapts(self) -> bool {
        self.needs_trainer() && self != Trigger::ZeroShot
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody or something wants a round while `images` images are catalogued.
    Asked {
        trigger: Trigger,
        images: u64,
    },
    CancelAsked(RoundId),
    /// The trainer ended and left a candidate.
    CandidateLeft,
    /// The candidate was staged, replayed and judged; it can be promoted or kept out now.
    Judged,
    /// The round ended without a candidate, or its candidate could not be read.
    Failed,
    /// The service is asked to stop.
    StopAsked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Start {
        round: RoundId,
        trigger: Trigger,
    },
    Refuse(Refusal),
    /// The trainer, or the judgement of its candidate, is to end now; `Failed`, `CandidateLeft` or `Judged` follows when it has.
    StopTrainer(RoundId),
    /// Verify and judge the candidate; `Judged` or `Failed` follows.
    Judge(RoundId),
    /// Carry out the verdict and write the round's end down.
    Conclude(RoundId),
    /// Write down that the round ended this way, whatever its trainer said, and drop its candidate.
    Abandon(RoundId, Abandoned),
    /// Write down what the trainer said.
    Fail(RoundId),
    /// Nothing runs any more: the service may end.
    Exit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abandoned {
    Cancelled,
    Interrupted,
}

/// Why a request was not carried out.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    #[error("round {0} is already running")]
    Busy(RoundId),
    #[error("{images} images are catalogued; a round needs at least {needed}")]
    TooFewImages { images: u64, needed: u64 },
    #[error("no round {0}")]
    NoSuchRound(RoundId),
    #[error("round {0} has already ended")]
    AlreadyEnded(RoundId),
    #[error("the service is stopping")]
    Stopping,
}

#[derive(Debug)]
pub struct Lifecycle {
    /// Fewest catalogued images for a round that adapts.
    minimum_images: u64,
    /// The highest round number that was ever given out, 0 for none.
    last: RoundId,
    current: Option<Current>,
    stopping: bool,
}

#[derive(Clone, Copy, Debug)]
struct Current {
    round: RoundId,
    stage: Stage,
    abandoned: Option<Abandoned>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Training,
    Judging,
}

impl Lifecycle {
    /// `last` is the highest round number of earlier runs of the service, 0 for none.
    pub fn new(last: RoundId, minimum_images: u64) -> Self {
        Self { minimum_images, last, current: None, stopping: false }
    }

    /// The round that runs now.
    pub fn current(&self) -> Option<RoundId> {
        self.current.map(|current| current.round)
    }

    /// The highest round number that was ever given out, 0 for none.
    pub fn last(&self) -> RoundId {
        self.last
    }

    /// Takes note of what happened; the actions are to be carried out in order.
    pub fn tell(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::Asked { trigger, images } => vec![self.ask(trigger, images)],
            Event::CancelAsked(round) => vec![self.cancel(round)],
            Event::CandidateLeft => self.candidate_left(),
            Event::Judged => self.end(Action::Conclude),
            Event::Failed => self.end(Action::Fail),
            Event::StopAsked => self.stop(),
        }
    }

    fn ask(&mut self, trigger: Trigger, images: u64) -> Action {
        if self.stopping {
            return Action::Refuse(Refusal::Stopping);
        }
        if let Some(current) = self.current {
            return Action::Refuse(Refusal::Busy(current.round));
        }
        if trigger.adapts() && images < self.minimum_images {
            return Action::Refuse(Refusal::TooFewImages { images, needed: self.minimum_images });
        }
        let round = RoundId(self.last.0 + 1);
        self.last = round;
        self.current = Some(Current { round, stage: Stage::Training, abandoned: None });
        Action::Start { round, trigger }
    }

    fn cancel(&mut self, round: RoundId) -> Action {
        match &mut self.current {
            // A second request only asks the trainer again; a candidate that is being judged is dropped afterwards.
            Some(current) if current.round == round => {
                current.abandoned.get_or_insert(Abandoned::Cancelled);
                Action::StopTrainer(round)
            }
            _ if round.0 == 0 || round > self.last => Action::Refuse(Refusal::NoSuchRound(round)),
            _ => Action::Refuse(Refusal::AlreadyEnded(round)),
        }
    }

    fn candidate_left(&mut self) -> Vec<Action> {
        match &mut self.current {
            Some(current) if current.stage == Stage::Training && current.abandoned.is_none() => {
                current.stage = Stage::Judging;
                vec![Action::Judge(current.round)]
            }
            // The trainer finished in the moment in which it was stopped: the request counts.
            Some(current) if current.stage == Stage::Training => self.end(Action::Fail),
            _ => Vec::new(),
        }
    }

    fn end(&mut self, action: fn(RoundId) -> Action) -> Vec<Action> {
        let Some(current) = self.current.take() else { return Vec::new() };
        let mut actions = vec![match current.abandoned {
            Some(how) => Action::Abandon(current.round, how),
            None => action(current.round),
        }];
        if self.stopping {
            actions.push(Action::Exit);
        }
        actions
    }

    fn stop(&mut self) -> Vec<Action> {
        self.stopping = true;
        match &mut self.current {
            None => vec![Action::Exit],
            Some(current) => {
                current.abandoned.get_or_insert(Abandoned::Interrupted);
                vec![Action::StopTrainer(current.round)]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const R1: RoundId = RoundId(1);
    const R2: RoundId = RoundId(2);
    const ASK: Event = Event::Asked { trigger: Trigger::Manual, images: 50 };
    const START: Action = Action::Start { round: R1, trigger: Trigger::Manual };

    /// Tells a fresh service that needs 10 images the events, and compares what it does about each.
    #[track_caller]
    fn tell(story: &[(Event, &[Action])]) {
        let mut lifecycle = Lifecycle::new(RoundId(0), 10);
        for (step, (event, actions)) in story.iter().enumerate() {
            assert_eq!(lifecycle.tell(*event), *actions, "step {step}: {event:?}");
        }
    }

    #[test]
    fn a_round_is_trained_judged_and_concluded() {
        tell(&[
            (ASK, &[START]),
            (Event::CandidateLeft, &[Action::Judge(R1)]),
            (Event::Judged, &[Action::Conclude(R1)]),
            (ASK, &[Action::Start { round: R2, trigger: Trigger::Manual }]),
            (Event::Failed, &[Action::Fail(R2)]),
        ]);
    }

    #[test]
    fn one_round_at_a_time() {
        tell(&[
            (ASK, &[START]),
            (ASK, &[Action::Refuse(Refusal::Busy(R1))]),
            (Event::CandidateLeft, &[Action::Judge(R1)]),
            (ASK, &[Action::Refuse(Refusal::Busy(R1))]),
            (Event::Failed, &[Action::Fail(R1)]),
        ]);
    }

    #[test]
    fn few_images_are_enough_for_a_round_that_does_not_adapt() {
        let few = |trigger| Event::Asked { trigger, images: 9 };
        let refusal = Action::Refuse(Refusal::TooFewImages { images: 9, needed: 10 });
        tell(&[(few(Trigger::Manual), &[refusal]), (few(Trigger::Schedule), &[refusal])]);
        for trigger in [Trigger::ZeroShot, Trigger::Import, Trigger::Activation] {
            tell(&[(few(trigger), &[Action::Start { round: R1, trigger }])]);
        }
    }

    #[test]
    fn a_cancelled_round_ends_cancelled_whatever_the_trainer_says() {
        let cancelled: &[Action] = &[Action::Abandon(R1, Abandoned::Cancelled)];
        let cancel = (Event::CancelAsked(R1), &[Action::StopTrainer(R1)] as &[Action]);
        tell(&[(ASK, &[START]), cancel, (Event::Failed, cancelled)]);
        tell(&[(ASK, &[START]), cancel, cancel, (Event::CandidateLeft, cancelled)]);
        for judged in [Event::Judged, Event::Failed] {
            tell(&[(ASK, &[START]), (Event::CandidateLeft, &[Action::Judge(R1)]), cancel, (judged, cancelled)]);
        }
    }

    #[test]
    fn only_the_running_round_can_be_cancelled() {
        tell(&[
            (Event::CancelAsked(R1), &[Action::Refuse(Refusal::NoSuchRound(R1))]),
            (ASK, &[START]),
            (Event::Failed, &[Action::Fail(R1)]),
            (Event::CancelAsked(R1), &[Action::Refuse(Refusal::AlreadyEnded(R1))]),
            (Event::CancelAsked(RoundId(0)), &[Action::Refuse(Refusal::NoSuchRound(RoundId(0)))]),
        ]);
    }

    #[test]
    fn a_stop_interrupts_the_round_and_then_exits() {
        tell(&[(Event::StopAsked, &[Action::Exit]), (ASK, &[Action::Refuse(Refusal::Stopping)])]);
        tell(&[
            (ASK, &[START]),
            (Event::StopAsked, &[Action::StopTrainer(R1)]),
            (ASK, &[Action::Refuse(Refusal::Stopping)]),
            (Event::Failed, &[Action::Abandon(R1, Abandoned::Interrupted), Action::Exit]),
        ]);
        tell(&[
            (ASK, &[START]),
            (Event::CandidateLeft, &[Action::Judge(R1)]),
            (Event::StopAsked, &[Action::StopTrainer(R1)]),
            (Event::Failed, &[Action::Abandon(R1, Abandoned::Interrupted), Action::Exit]),
        ]);
        tell(&[
            (ASK, &[START]),
            (Event::CancelAsked(R1), &[Action::StopTrainer(R1)]),
            (Event::StopAsked, &[Action::StopTrainer(R1)]),
            (Event::Failed, &[Action::Abandon(R1, Abandoned::Cancelled), Action::Exit]),
        ]);
    }

    #[test]
    fn numbers_go_on_after_a_restart() {
        let mut lifecycle = Lifecycle::new(RoundId(41), 10);
        assert_eq!(lifecycle.tell(ASK), [Action::Start { round: RoundId(42), trigger: Trigger::Manual }]);
        assert_eq!(lifecycle.current(), Some(RoundId(42)));
        assert_eq!(
            lifecycle.tell(Event::CancelAsked(RoundId(41))),
            [Action::Refuse(Refusal::AlreadyEnded(RoundId(41)))]
        );
    }

    proptest! {
        /// Whatever happens in whatever order: never two rounds at once, no number twice, every start has one end.
        #[test]
        fn never_two_rounds_at_once(events in proptest::collection::vec(0usize..8, 0..200)) {
            let mut lifecycle = Lifecycle::new(RoundId(0), 10);
            let mut running = None;
            let mut last = RoundId(0);
            for event in events {
                let event = [
                    ASK,
                    Event::Asked { trigger: Trigger::Schedule, images: 3 },
                    Event::Asked { trigger: Trigger::ZeroShot, images: 0 },
                    Event::CancelAsked(lifecycle.current().unwrap_or(last)),
                    Event::CandidateLeft,
                    Event::Judged,
                    Event::Failed,
                    Event::CancelAsked(RoundId(last.0 + 1)),
                ][event];
                for action in lifecycle.tell(event) {
                    match action {
                        Action::Start { round, .. } => {
                            prop_assert_eq!(running, None);
                            prop_assert!(round > last);
                            last = round;
                            running = Some(round);
                        }
                        Action::Conclude(round) | Action::Abandon(round, _) | Action::Fail(round) => {
                            prop_assert_eq!(running.take(), Some(round));
                        }
                        Action::StopTrainer(round) | Action::Judge(round) => {
                            prop_assert_eq!(running, Some(round));
                        }
                        Action::Refuse(_) => {}
                        Action::Exit => prop_assert!(false, "nobody asked to stop"),
                    }
                }
                prop_assert_eq!(lifecycle.current(), running);
            }
        }
    }
}
