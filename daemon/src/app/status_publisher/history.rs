//! What the rounds so far mean for the next one. All of them are given oldest first.

use crate::round_status::{RoundState, RoundStatus};
use coft_core::continuation::{self, Attempt, End, Next};
use coft_core::event::Failure;
use coft_core::ids::RoundId;
use coft_core::job::Trigger;
use std::time::Duration;

/// The rounds that adapted the present model to the present classes, the latest first. A zero-shot round that was
/// promoted means that these are others than before; one that failed means nothing.
pub fn adapting(rounds: &[RoundStatus]) -> impl Iterator<Item = &RoundStatus> {
    let is = |round: &RoundStatus, trigger: Trigger| round.trigger == trigger;
    let begins =
        move |round: &RoundStatus| is(round, Trigger::ZeroShot) && matches!(round.state, RoundState::Promoted(_));
    let here = rounds.iter().rev().take_while(move |round| !begins(round));
    here.filter(move |round| is(round, Trigger::Manual) || is(round, Trigger::Schedule))
}

/// The last round that came to its end: what the schedule counts images from.
pub fn last_completed(rounds: &[RoundStatus]) -> Option<&RoundStatus> {
    adapting(rounds).find(|round| matches!(round.state, RoundState::Promoted(_) | RoundState::Kept { .. }))
}

/// The last round that has ended, however it did.
pub fn last_ended(rounds: &[RoundStatus]) -> Option<&RoundStatus> {
    adapting(rounds).find(|round| round.ended.is_some())
}

/// The last round that has ended and those that it took up, the latest first.
fn chain(rounds: &[RoundStatus]) -> impl Iterator<Item = &RoundStatus> {
    let before = |round: &&RoundStatus| {
        let before = round.continues?;
        adapting(rounds).find(|round| round.round == before)
    };
    std::iter::successors(last_ended(rounds), before)
}

/// What becomes of the work of the last round; `longest` bounds the pause before it is taken up.
pub fn next(rounds: &[RoundStatus], longest: Duration) -> Next {
    let mut attempts: Vec<Attempt> = chain(rounds).map(attempt).collect();
    attempts.reverse();
    continuation::next(&attempts, longest)
}

fn attempt(round: &RoundStatus) -> Attempt<'_> {
    let end = match &round.state {
        RoundState::Promoted(_) | RoundState::Kept { .. } => End::Completed,
        RoundState::Failed(Failure { kind, message, .. }) => End::Failed { kind: *kind, message },
        RoundState::Cancelled => End::Cancelled,
        RoundState::Running | RoundState::Interrupted => End::Interrupted,
    };
    let progress = round.progress.as_ref();
    Attempt { end, stage: progress.map(|p| p.stage), fraction: progress.map_or(0.0, |p| p.fraction) }
}

/// The rounds that what comes next is decided from, whatever their age.
fn remembered(rounds: &[RoundStatus]) -> Vec<RoundId> {
    last_completed(rounds).into_iter().chain(chain(rounds)).map(|round| round.round).collect()
}

/// Leaves out the oldest beyond `most`, but not those that are remembered.
pub fn keep_the_latest(rounds: &mut Vec<RoundStatus>, most: usize) {
    let mut surplus = rounds.len().saturating_sub(most);
    if surplus == 0 {
        return;
    }
    let remembered = remembered(rounds);
    rounds.retain(|round| {
        let goes = surplus > 0 && !remembered.contains(&round.round);
        surplus -= usize::from(goes);
        !goes
    });
}
