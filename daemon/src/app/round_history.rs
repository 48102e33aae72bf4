//! The rounds so far, and what they mean for the next one.
//!
//! It begins with what the catalogue has, and the supervisor tells it of whatever it writes there. Rounds are oldest
//! first.

use crate::round_status::{RoundState, RoundStatus};
use coft_core::continuation::{self, Attempt, End, GivenUp, Next};
use coft_core::event::{Failure, Progress};
use coft_core::ids::RoundId;
use coft_core::job::Trigger;
use coft_core::moment::Moment;
use coft_core::schedule::{self, Facts, NextRound, Schedule};
use std::time::Duration;

/// Rounds that are remembered, the latest; those that the schedule decides from stay beside them. 100 [choice].
const ROUNDS: usize = 100;
/// Seconds by which the clock must have been set before the end of a round is written down anew. [choice]
const SET: i64 = 60;

/// The rounds so far, and the images that they may take.
pub struct RoundHistory {
    rounds: Vec<RoundStatus>,
    /// Images in the catalogue; none before the first count.
    images: Option<u64>,
    /// When the catalogue last grew, after the first count.
    last_image: Option<Moment>,
}

impl RoundHistory {
    /// What the catalogue has.
    pub fn new(mut rounds: Vec<RoundStatus>) -> Self {
        keep_the_latest(&mut rounds, ROUNDS);
        Self { rounds, images: None, last_image: None }
    }

    pub fn rounds(&self) -> &[RoundStatus] {
        &self.rounds
    }

    /// Images in the catalogue, as far as they are counted.
    pub fn images(&self) -> u64 {
        self.images.unwrap_or(0)
    }

    /// So many images are in the catalogue.
    pub fn counted(&mut self, images: u64, now: Moment) {
        // What the first count finds may be years old.
        if self.images.replace(images).is_some_and(|known| images > known) {
            self.last_image = Some(now);
        }
    }

    /// A round started, was prepared or ended: `status` replaces what was known of it.
    pub fn record(&mut self, status: RoundStatus) {
        match self.rounds.iter_mut().find(|round| round.round == status.round) {
            Some(round) => *round = status,
            None => self.rounds.push(status),
        }
        keep_the_latest(&mut self.rounds, ROUNDS);
    }

    /// A round is so far.
    pub fn progress(&mut self, round: RoundId, progress: Progress) {
        if let Some(known) = self.rounds.iter_mut().find(|known| known.round == round) {
            known.progress = Some(progress);
        }
    }

    /// When a round starts by itself, unless one runs; `minimum_images` are the fewest that it takes.
    pub fn next_round(&self, schedule: &Schedule, minimum_images: u64, now: &Moment) -> NextRound {
        schedule::next_round(schedule, self.unfinished(schedule), &self.facts(), minimum_images, now)
    }

    /// What becomes of the work of the last round.
    pub fn unfinished(&self, schedule: &Schedule) -> Next {
        next(&self.rounds, schedule.minimum_interval)
    }

    /// What becomes of the work of a round that ends this way.
    pub fn after(&self, status: &RoundStatus, schedule: &Schedule) -> Next {
        let earlier = self.rounds.iter().filter(|round| round.round != status.round);
        let rounds: Vec<RoundStatus> = earlier.chain([status]).cloned().collect();
        next(&rounds, schedule.minimum_interval)
    }

    /// The round whose work a new one takes up, whether somebody starts it or it starts by itself.
    pub fn to_be_continued(&self, schedule: &Schedule, by_hand: bool) -> Option<&RoundStatus> {
        let takes_up = match self.unfinished(schedule) {
            Next::ByItself(_) | Next::WithNextRound => true,
            Next::ByHand => by_hand,
            Next::Nothing | Next::GivenUp(_) => false,
        };
        last_ended(&self.rounds).filter(|_| takes_up)
    }

    /// The round whose work is given up, and why.
    pub fn given_up(&self, schedule: &Schedule) -> Option<(&RoundStatus, GivenUp)> {
        match self.unfinished(schedule) {
            Next::GivenUp(why) => Some((last_ended(&self.rounds)?, why)),
            _ => None,
        }
    }

    /// Whether any round has adapted this model to these classes.
    pub fn has_adapted(&self) -> bool {
        adapting(&self.rounds).next().is_some()
    }

    /// Puts the end of the last round right where the clock has been set since: after a restart of the machine it is
    /// what the schedule has. That round, where it is to be written down anew.
    pub fn restate(&mut self, now: &Moment) -> Option<RoundStatus> {
        let last = last_ended(&self.rounds)?;
        let (ended, round) = (last.ended?, last.round);
        let restated = ended.restated(now);
        if restated.wall.abs_diff(ended.wall) <= SET as u64 {
            return None;
        }
        let status = self.rounds.iter_mut().find(|known| known.round == round)?;
        status.ended = Some(restated);
        Some(status.clone())
    }

    fn facts(&self) -> Facts {
        Facts {
            counted: self.images.is_some(),
            images: self.images(),
            images_of_last_completed: last_completed(&self.rounds).map_or(0, |round| round.images),
            last_end: last_ended(&self.rounds).and_then(|round| round.ended),
            last_image: self.last_image,
        }
    }
}

/// The rounds that adapted the present model to the present classes, the latest first. A zero-shot round that was
/// promoted means that these are others than before; one that failed means nothing.
fn adapting(rounds: &[RoundStatus]) -> impl Iterator<Item = &RoundStatus> {
    let is = |round: &RoundStatus, trigger: Trigger| round.trigger == trigger;
    let begins =
        move |round: &RoundStatus| is(round, Trigger::ZeroShot) && matches!(round.state, RoundState::Promoted(_));
    let here = rounds.iter().rev().take_while(move |round| !begins(round));
    here.filter(move |round| is(round, Trigger::Manual) || is(round, Trigger::Schedule))
}

/// The last round that came to its end: what the schedule counts images from.
fn last_completed(rounds: &[RoundStatus]) -> Option<&RoundStatus> {
    adapting(rounds).find(|round| matches!(round.state, RoundState::Promoted(_) | RoundState::Kept { .. }))
}

/// The last round that has ended, however it did.
fn last_ended(rounds: &[RoundStatus]) -> Option<&RoundStatus> {
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
fn next(rounds: &[RoundStatus], longest: Duration) -> Next {
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
fn keep_the_latest(rounds: &mut Vec<RoundStatus>, most: usize) {
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

#[cfg(test)]
mod tests;
