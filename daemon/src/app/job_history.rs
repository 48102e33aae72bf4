//! The jobs so far, and what follows from them for the next round.
//!
//! The history begins with the jobs of the catalogue, and the supervisor reports every change that it stores there.
//! Rounds are oldest first.

use crate::job_status::{DetailedState, JobStatus};
use coft_core::continuation::{self, Attempt, End, GivenUp, Next};
use coft_core::event::{Failure, Progress};
use coft_core::ids::JobId;
use coft_core::job::Trigger;
use coft_core::moment::Moment;
use coft_core::schedule::{self, Facts, NextRound, Schedule};
use std::time::Duration;

/// Maximum number of jobs that are remembered: the latest ones. Rounds that the schedule decides from stay as well.
/// 100 [choice].
const JOBS: usize = 100;
/// Seconds by which the clock must have been set before the end of a round is stored anew. [choice]
const SET: i64 = 60;

/// The jobs so far, and the images that they may take.
pub struct JobHistory {
    jobs: Vec<JobStatus>,
    /// Images in the catalogue; none before the first count.
    images: Option<u64>,
    /// When the catalogue last grew, after the first count.
    last_image: Option<Moment>,
}

impl JobHistory {
    /// A history that begins with the jobs of the catalogue.
    pub fn new(mut jobs: Vec<JobStatus>) -> Self {
        keep_the_latest(&mut jobs, JOBS);
        Self { jobs, images: None, last_image: None }
    }

    pub fn jobs(&self) -> &[JobStatus] {
        &self.jobs
    }

    /// Number of images in the catalogue, as far as they are counted.
    pub fn images(&self) -> u64 {
        self.images.unwrap_or(0)
    }

    /// Records the number of images in the catalogue.
    pub fn counted(&mut self, images: u64, now: Moment) {
        // Images that the first count finds may be years old.
        if self.images.replace(images).is_some_and(|known| images > known) {
            self.last_image = Some(now);
        }
    }

    /// Records that a job started, was prepared or ended: `status` replaces what was known of it.
    pub fn record(&mut self, status: JobStatus) {
        match self.jobs.iter_mut().find(|job| job.id == status.id) {
            Some(job) => *job = status,
            None => self.jobs.push(status),
        }
        keep_the_latest(&mut self.jobs, JOBS);
    }

    /// Records the progress of a job.
    pub fn progress(&mut self, job: JobId, progress: Progress) {
        if let Some(known) = self.jobs.iter_mut().find(|known| known.id == job) {
            known.progress = Some(progress);
        }
    }

    /// When a round starts by itself, unless one runs; `minimum_images` is the smallest number of images for a round.
    pub fn next_round(&self, schedule: &Schedule, minimum_images: u64, now: &Moment) -> NextRound {
        schedule::next_round(schedule, self.unfinished(schedule), &self.facts(), minimum_images, now)
    }

    /// What happens to the work of the last round.
    pub fn unfinished(&self, schedule: &Schedule) -> Next {
        next(&self.jobs, schedule.minimum_interval)
    }

    /// What happens to the work of a round that ends with this status.
    pub fn after(&self, status: &JobStatus, schedule: &Schedule) -> Next {
        let earlier = self.jobs.iter().filter(|job| job.id != status.id);
        let jobs: Vec<JobStatus> = earlier.chain([status]).cloned().collect();
        next(&jobs, schedule.minimum_interval)
    }

    /// The round whose work a new round takes up; `by_hand`: somebody starts the new round.
    pub fn to_be_continued(&self, schedule: &Schedule, by_hand: bool) -> Option<&JobStatus> {
        let takes_up = match self.unfinished(schedule) {
            Next::ByItself(_) | Next::WithNextRound => true,
            Next::ByHand => by_hand,
            Next::Nothing | Next::GivenUp(_) => false,
        };
        last_ended(&self.jobs).filter(|_| takes_up)
    }

    /// The round whose work is given up, and why.
    pub fn given_up(&self, schedule: &Schedule) -> Option<(&JobStatus, GivenUp)> {
        match self.unfinished(schedule) {
            Next::GivenUp(why) => Some((last_ended(&self.jobs)?, why)),
            _ => None,
        }
    }

    /// Whether any round has adapted this model to these classes.
    pub fn has_adapted(&self) -> bool {
        adapting(&self.jobs).next().is_some()
    }

    /// Corrects the end of the last round if the clock was set since, because after a restart of the machine the
    /// schedule has only this time. Returns the round if it has to be stored anew.
    pub fn restate(&mut self, now: &Moment) -> Option<JobStatus> {
        let last = last_ended(&self.jobs)?;
        let (ended, job) = (last.ended?, last.id);
        let restated = ended.restated(now);
        if restated.wall.abs_diff(ended.wall) <= SET as u64 {
            return None;
        }
        let status = self.jobs.iter_mut().find(|known| known.id == job)?;
        status.ended = Some(restated);
        Some(status.clone())
    }

    fn facts(&self) -> Facts {
        Facts {
            counted: self.images.is_some(),
            images: self.images(),
            images_of_last_completed: last_completed(&self.jobs).map_or(0, |job| job.images),
            last_end: last_ended(&self.jobs).and_then(|job| job.ended),
            last_image: self.last_image,
        }
    }
}

/// The rounds that adapted the present model to the present classes, the latest first. A zero-shot job that was
/// promoted means that model or classes have changed; one that failed means nothing.
fn adapting(jobs: &[JobStatus]) -> impl Iterator<Item = &JobStatus> {
    let is = |job: &JobStatus, trigger: Trigger| job.trigger == trigger;
    let begins = move |job: &JobStatus| is(job, Trigger::ZeroShot) && matches!(job.state, DetailedState::Promoted(_));
    let here = jobs.iter().rev().take_while(move |job| !begins(job));
    here.filter(move |job| is(job, Trigger::Manual) || is(job, Trigger::Schedule))
}

/// The last round that came to its end; the schedule counts images from it.
fn last_completed(jobs: &[JobStatus]) -> Option<&JobStatus> {
    adapting(jobs).find(|job| matches!(job.state, DetailedState::Promoted(_) | DetailedState::Kept { .. }))
}

/// The last round that has ended, in whatever way.
fn last_ended(jobs: &[JobStatus]) -> Option<&JobStatus> {
    adapting(jobs).find(|job| job.ended.is_some())
}

/// The last round that has ended, then the rounds whose work it took up, the latest first.
fn chain(jobs: &[JobStatus]) -> impl Iterator<Item = &JobStatus> {
    let before = |job: &&JobStatus| {
        let before = job.continues?;
        adapting(jobs).find(|job| job.id == before)
    };
    std::iter::successors(last_ended(jobs), before)
}

/// What happens to the work of the last round; `longest` limits the pause before it is taken up.
fn next(jobs: &[JobStatus], longest: Duration) -> Next {
    let mut attempts: Vec<Attempt> = chain(jobs).map(attempt).collect();
    attempts.reverse();
    continuation::next(&attempts, longest)
}

fn attempt(job: &JobStatus) -> Attempt<'_> {
    let end = match &job.state {
        DetailedState::Promoted(_) | DetailedState::Kept { .. } => End::Completed,
        DetailedState::Failed(Failure { kind, message, .. }) => End::Failed { kind: *kind, message },
        DetailedState::Cancelled => End::Cancelled,
        DetailedState::Running | DetailedState::Interrupted => End::Interrupted,
    };
    let progress = job.progress.as_ref();
    Attempt { end, stage: progress.map(|p| p.stage), fraction: progress.map_or(0.0, |p| p.fraction) }
}

/// The rounds that decide what comes next, whatever their age.
fn remembered(jobs: &[JobStatus]) -> Vec<JobId> {
    last_completed(jobs).into_iter().chain(chain(jobs)).map(|job| job.id).collect()
}

/// Removes the oldest jobs beyond `most`, except those that are remembered.
fn keep_the_latest(jobs: &mut Vec<JobStatus>, most: usize) {
    let mut surplus = jobs.len().saturating_sub(most);
    if surplus == 0 {
        return;
    }
    let remembered = remembered(jobs);
    jobs.retain(|job| {
        let goes = surplus > 0 && !remembered.contains(&job.id);
        surplus -= usize::from(goes);
        !goes
    });
}

#[cfg(test)]
mod tests;
