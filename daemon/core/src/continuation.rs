//! Whether and when another round takes up a round that did not complete.
//!
//! A pure function of the rounds that worked on the same task: each took up the one before it, and continued from the
//! journal of that round. After failures the pauses become longer and longer. After the second identical failure the
//! work is given up, and the next round begins anew with other images.

use crate::event::{FailureKind, Stage};
use std::time::Duration;
use thiserror::Error;

/// One round in a series of rounds, each of which took up the work of the one before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attempt<'a> {
    /// How it ended.
    pub end: End<'a>,
    /// The stage in which it ended, if that is known.
    pub stage: Option<Stage>,
    /// Share of the round that was done at its end, 0 to 1.
    pub fraction: f64,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End<'a> {
    /// The service or the machine stopped, or was stopped.
    Interrupted,
    /// A person cancelled it.
    Cancelled,
    /// It failed, and left no candidate.
    Failed {
        /// What kind of failure it was.
        kind: FailureKind,
        /// The failure in words. Two failures are the same only where their messages are equal.
        message: &'a str,
    },
    /// It completed.
    Completed,
}

/// What happens to the work of the last round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// There is no work to take up.
    Nothing,
    /// A round takes it up by itself, this long after the end of the last one.
    ByItself(Duration),
    /// The next round takes it up, whether a person or the schedule starts it.
    WithNextRound,
    /// A round that a person starts takes it up; one that starts by itself begins anew.
    ByHand,
    /// The next round begins anew.
    GivenUp(GivenUp),
}

/// Why the work of a round is given up.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum GivenUp {
    /// Two attempts have failed with the same kind and message in the same stage, and the second made no progress.
    #[error("it failed in the same way and in the same stage as a round before it")]
    SameFailure,
    /// This many attempts in a row have made no progress.
    #[error("{0} rounds have come no further")]
    NoFurther(usize),
}

/// The pause before interrupted work is taken up again, from the second time on. It doubles for each round that makes
/// no progress. 1 min [choice].
const PAUSE: Duration = Duration::from_secs(60);
/// Least share of the round by which an attempt must exceed all before it to count as progress; 0 to 1. 0.01 [choice].
const FURTHER: f64 = 0.01;
/// Number of rounds in a row without progress after which the work is given up. 5 [choice]: their pauses add up to a
/// quarter of an hour.
const NO_FURTHER: usize = 5;

/// What happens to the work of `attempts`, oldest first. `longest` is the maximum of the pause.
pub fn next(attempts: &[Attempt], longest: Duration) -> Next {
    let Some(last) = attempts.last() else { return Next::Nothing };
    let stuck = stuck(attempts);
    let pause = PAUSE.saturating_mul(1 << stuck.len().saturating_sub(1).min(16)).min(longest);
    // A label list that cannot be read once is no reason to throw away hours of work.
    let unbegun = attempts.len() > 1 && last.stage.is_none();
    let given_up = (stuck.len() >= NO_FURTHER).then_some(Next::GivenUp(GivenUp::NoFurther(stuck.len())));
    match last.end {
        End::Completed => Next::Nothing,
        End::Cancelled => Next::ByHand,
        // The cause was a start of the machine, not the round, so the first time no pause is needed.
        End::Interrupted if attempts.len() == 1 => Next::ByItself(Duration::ZERO),
        // A disk is filled and emptied by other programs. And when systemd stops the service, it may stop the trainer
        // first.
        End::Interrupted | End::Failed { kind: FailureKind::DiskFull | FailureKind::Cancelled, .. } => {
            given_up.unwrap_or(Next::ByItself(pause))
        }
        // It was killed or had too little memory: the same work may well succeed the next time.
        End::Failed { kind, .. } if [FailureKind::Internal, FailureKind::OutOfMemory].contains(&kind) || unbegun => {
            let same = stuck.iter().filter(|a| a.end == last.end && a.stage == last.stage).count() > 1;
            match same {
                true => Next::GivenUp(GivenUp::SameFailure),
                false => given_up.unwrap_or(Next::WithNextRound),
            }
        }
        End::Failed { .. } => Next::Nothing,
    }
}

/// The last attempts that made no progress after the first of them; cancelled attempts are left out.
fn stuck<'a>(attempts: &[Attempt<'a>]) -> Vec<Attempt<'a>> {
    let (mut furthest, mut stuck) = (0.0, Vec::new());
    for attempt in attempts.iter().filter(|attempt| attempt.end != End::Cancelled) {
        if attempt.fraction >= furthest + FURTHER {
            furthest = attempt.fraction;
            stuck.clear();
        }
        stuck.push(*attempt);
    }
    stuck
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LONGEST: Duration = Duration::from_secs(6 * 60 * 60);
    const INTERRUPTED: End = End::Interrupted;
    const KILLED: End = End::Failed { kind: FailureKind::Internal, message: "the trainer was killed (SIGKILL)" };
    const CRASHED: End = End::Failed { kind: FailureKind::Internal, message: "the trainer ended by signal 11" };
    const FULL: End = End::Failed { kind: FailureKind::DiskFull, message: "cannot write" };
    const BAD: End = End::Failed { kind: FailureKind::BadModel, message: "tensor x is missing" };

    #[track_caller]
    fn check(ends: &[(End, f64)], expected: Next) {
        let attempt = |&(end, fraction)| Attempt { end, stage: Some(Stage::Phase1Model1), fraction };
        let attempts: Vec<Attempt> = ends.iter().map(attempt).collect();
        assert_eq!(next(&attempts, LONGEST), expected, "{ends:?}");
    }

    fn by_itself(minutes: u64) -> Next {
        Next::ByItself(Duration::from_secs(60 * minutes))
    }

    #[test]
    fn an_interrupted_round_is_taken_up_at_once_and_then_with_pauses() {
        check(&[], Next::Nothing);
        check(&[(End::Completed, 1.0)], Next::Nothing);
        check(&[(INTERRUPTED, 0.2)], by_itself(0));
        check(&[(INTERRUPTED, 0.2), (INTERRUPTED, 0.2)], by_itself(2));
        check(&[(INTERRUPTED, 0.2); 3], by_itself(4));
        check(&[(INTERRUPTED, 0.2); 4], by_itself(8));
        check(&[(INTERRUPTED, 0.2); 5], Next::GivenUp(GivenUp::NoFurther(5)));
    }

    /// A device that is switched off each night must be able to complete a long round.
    #[test]
    fn a_round_that_comes_further_each_time_is_never_given_up() {
        let mut ends = Vec::new();
        for night in 1..20 {
            ends.push((INTERRUPTED, 0.05 * f64::from(night)));
            check(&ends, if night == 1 { by_itself(0) } else { by_itself(1) });
        }
    }

    /// Such a round was continued for ever, always with the images of the first attempt.
    #[test]
    fn the_second_identical_failure_gives_the_work_up() {
        check(&[(KILLED, 0.4)], Next::WithNextRound);
        check(&[(KILLED, 0.4), (KILLED, 0.4)], Next::GivenUp(GivenUp::SameFailure));
        check(&[(KILLED, 0.4), (CRASHED, 0.4)], Next::WithNextRound);
        check(&[(KILLED, 0.4), (CRASHED, 0.4), (KILLED, 0.4)], Next::GivenUp(GivenUp::SameFailure));
        check(&[(KILLED, 0.4), (INTERRUPTED, 0.4), (KILLED, 0.4)], Next::GivenUp(GivenUp::SameFailure));
        check(&[(KILLED, 0.4), (KILLED, 0.6)], Next::WithNextRound);
        check(&[(KILLED, 0.4), (KILLED, 0.6), (KILLED, 0.6)], Next::GivenUp(GivenUp::SameFailure));
        let at = |stage, fraction| Attempt { end: KILLED, stage: Some(stage), fraction };
        let elsewhere = [at(Stage::Phase1Model1, 0.4), at(Stage::Load, 0.0)];
        assert_eq!(next(&elsewhere, LONGEST), Next::WithNextRound);
    }

    #[test]
    fn a_failure_that_only_other_images_or_settings_mend_leaves_nothing() {
        check(&[(BAD, 0.1)], Next::Nothing);
        check(&[(INTERRUPTED, 0.4), (BAD, 0.1)], Next::Nothing);
    }

    #[test]
    fn work_survives_a_round_whose_trainer_did_not_start() {
        let cut_off = Attempt { end: INTERRUPTED, stage: Some(Stage::Phase2Model1), fraction: 0.8 };
        let unread = End::Failed { kind: FailureKind::BadImages, message: "the label list cannot be read" };
        let unbegun = Attempt { end: unread, stage: None, fraction: 0.0 };
        assert_eq!(next(&[unbegun], LONGEST), Next::Nothing);
        assert_eq!(next(&[cut_off, unbegun], LONGEST), Next::WithNextRound);
        assert_eq!(next(&[cut_off, unbegun, unbegun], LONGEST), Next::GivenUp(GivenUp::SameFailure));
    }

    #[test]
    fn a_full_disk_is_waited_for() {
        check(&[(FULL, 0.4)], by_itself(1));
        check(&[(FULL, 0.4), (FULL, 0.4)], by_itself(2));
        check(&[(FULL, 0.4); 5], Next::GivenUp(GivenUp::NoFurther(5)));
    }

    #[test]
    fn a_cancelled_round_goes_on_when_somebody_says_so() {
        check(&[(End::Cancelled, 0.4)], Next::ByHand);
        check(&[(End::Cancelled, 0.4); 9], Next::ByHand);
        check(&[(End::Cancelled, 0.4), (End::Cancelled, 0.4), (INTERRUPTED, 0.4)], by_itself(1));
    }

    proptest! {
        /// Work is never continued after five attempts without progress or two identical failures, and no pause is
        /// longer than allowed.
        #[test]
        fn what_comes_no_further_is_given_up(ends in proptest::collection::vec(0usize..4, 1..12), fraction in 0.0..1.0) {
            let attempts: Vec<Attempt> = ends
                .iter()
                .map(|end| Attempt { end: [INTERRUPTED, KILLED, CRASHED, FULL][*end], stage: None, fraction })
                .collect();
            let last = attempts.last().unwrap().end;
            let repeated = attempts.iter().filter(|a| a.end == last).count() > 1;
            let given_up = matches!(next(&attempts, LONGEST), Next::GivenUp(_));
            prop_assert_eq!(given_up, attempts.len() >= 5 || (repeated && [KILLED, CRASHED].contains(&last)));
            if let Next::ByItself(pause) = next(&attempts, Duration::from_secs(90)) {
                prop_assert!(pause <= Duration::from_secs(90));
            }
        }
    }
}
