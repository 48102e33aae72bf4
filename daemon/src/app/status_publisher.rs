//! What clients see: the snapshot, published at once when something happened and at most five times a second while it
//! only moves on.

mod history;

use super::answers;
use crate::catalog::Counts;
use crate::control::{GenerationStatus, NextRound, ReviewStatus, Snapshot};
use crate::round_status::{RoundState, RoundStatus};
use crate::serve::ServingStatus;
use coft_core::continuation::{GivenUp, Next};
use coft_core::event::Progress;
use coft_core::ids::{GenerationId, RoundId};
use coft_core::moment::Moment;
use coft_core::schedule::{self, Due, Facts, Schedule};
use coft_core::shown::shown_path;
use std::path::Path;
use std::time::Duration;
use tokio::sync::watch;

/// How often progress is published at most.
pub const PUBLISH_INTERVAL: Duration = Duration::from_millis(200);

/// Rounds that are shown, the latest; those that the schedule decides from stay beside them. 100 [choice].
const ROUNDS: usize = 100;
/// Seconds by which a time that is shown may be off before it is told anew: it is worked out each second. [choice]
const JITTER: i64 = 5;
/// Seconds by which the clock must have been set before the end of a round is written down anew. [choice]
const SET: i64 = 60;

pub struct StatusPublisher {
    snapshot: Snapshot,
    published: watch::Sender<Snapshot>,
    /// What is missing of the set-up, what is being loaded, and why a configuration is not used.
    setup: [String; 3],
    /// Something moved on since the snapshot was published.
    stale: bool,
    /// When the catalogue last grew, after the first count.
    last_image: Option<Moment>,
    counted: bool,
}

impl StatusPublisher {
    /// A publisher, and where what it publishes is read.
    #[cfg(test)]
    pub fn new(snapshot: Snapshot) -> (Self, watch::Receiver<Snapshot>) {
        let (published, receiver) = watch::channel(Snapshot::default());
        (Self::over(published, snapshot), receiver)
    }

    /// A publisher that publishes what follows a snapshot, from that on.
    pub fn over(published: watch::Sender<Snapshot>, mut snapshot: Snapshot) -> Self {
        history::keep_the_latest(&mut snapshot.rounds, ROUNDS);
        published.send_replace(snapshot.clone());
        Self { snapshot, published, setup: Default::default(), stale: false, last_image: None, counted: false }
    }

    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Whether there is something for [`StatusPublisher::tick`] to publish.
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// Publishes what moved on; to be called every [`PUBLISH_INTERVAL`].
    pub fn tick(&mut self) {
        if self.stale {
            self.publish();
        }
    }

    pub fn counted(&mut self, counts: &Counts, now: Moment) {
        // What the first count finds may be years old.
        if std::mem::replace(&mut self.counted, true) && counts.images > self.snapshot.images {
            self.last_image = Some(now);
        }
        let snapshot = &mut self.snapshot;
        (snapshot.images, snapshot.quarantined) = (counts.images, counts.quarantined);
        for source in &mut snapshot.sources {
            (source.images, source.quarantined) = counts.sources.get(&source.key).copied().unwrap_or_default();
        }
        self.stale = true;
    }

    pub fn source(&mut self, key: &Path, problem: Option<String>) {
        if let Some(source) = self.snapshot.sources.iter_mut().find(|source| source.key == key) {
            source.problem = problem;
        }
        self.publish();
    }

    /// How many files of a source wait to be looked at.
    pub fn waiting(&mut self, key: &Path, files: u64) {
        if let Some(source) = self.snapshot.sources.iter_mut().find(|source| source.key == key) {
            source.waiting = files;
        }
        self.stale = true;
    }

    /// What the service waits for before it is set up as configured; empty where nothing is missing.
    pub fn setup(&mut self, problem: String) {
        self.set_up(0, problem);
    }

    /// The generation that is loaded for the first time since the start; none once that has ended, well or not.
    pub fn loading(&mut self, generation: Option<GenerationId>) {
        let told = |generation| format!("the service is starting: generation {generation} is loaded");
        self.set_up(1, generation.map_or_else(String::new, told));
    }

    /// Why the configuration that was read again is not used; none where it is.
    pub fn not_reloaded(&mut self, problem: Option<String>) {
        self.set_up(
            2,
            problem.map_or_else(String::new, |problem| format!("the configuration was not reloaded: {problem}")),
        );
    }

    fn set_up(&mut self, part: usize, problem: String) {
        if self.setup[part] != problem {
            self.setup[part] = problem;
            let parts: Vec<&str> = self.setup.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
            self.snapshot.setup_problem = parts.join("; ");
            self.publish();
        }
    }

    pub fn classes(&mut self, classes: &[String]) {
        if self.snapshot.classes != classes {
            self.snapshot.classes = classes.to_owned();
            self.publish();
        }
    }

    /// The rounds of earlier runs of the service.
    pub fn history(&mut self, rounds: Vec<RoundStatus>) {
        self.snapshot.rounds = rounds;
        history::keep_the_latest(&mut self.snapshot.rounds, ROUNDS);
        self.forget_candidates_that_are_gone();
        self.publish();
    }

    /// How the answers about the sources' pictures stand, in the order of the sources.
    pub fn answers(&mut self, answers: &answers::AnswersStatus) {
        for (source, standing) in self.snapshot.sources.iter_mut().zip(&answers.standings) {
            source.answers.standing = standing.clone();
            source.answers.problem = if standing.waiting > 0 { answers.problem.clone() } else { String::new() };
        }
        self.snapshot.unanswered_again = answers.waiting_again;
        self.publish();
    }

    /// What keeps images from being stored, or none any more.
    pub fn intake(&mut self, problem: Option<String>) {
        self.snapshot.intake_problem = problem.unwrap_or_default();
        self.publish();
    }

    pub fn serving(&mut self, generations: Vec<GenerationStatus>, running: ServingStatus) {
        self.snapshot.active = generations.iter().find(|generation| generation.active).map(|active| active.generation);
        self.snapshot.generations = generations;
        self.forget_candidates_that_are_gone();
        self.snapshot.serving_problem = running.problem;
        self.snapshot.provider = running.provider;
        self.snapshot.provider_problem = running.provider_problem;
        self.publish();
    }

    /// Rounds name the generation that their candidate was kept as while it is in the store.
    fn forget_candidates_that_are_gone(&mut self) {
        let Snapshot { rounds, generations, .. } = &mut self.snapshot;
        for round in rounds {
            if let RoundState::Kept { candidate, .. } = &mut round.state {
                *candidate = candidate.filter(|kept| generations.iter().any(|there| there.generation == *kept));
            }
        }
    }

    /// A round started, was prepared or ended: `status` replaces what was known of it.
    pub fn round(&mut self, status: RoundStatus) {
        match self.snapshot.rounds.iter_mut().find(|round| round.round == status.round) {
            Some(round) => *round = status,
            None => self.snapshot.rounds.push(status),
        }
        history::keep_the_latest(&mut self.snapshot.rounds, ROUNDS);
        self.publish();
    }

    pub fn progress(&mut self, round: RoundId, progress: Progress) {
        if let Some(round) = self.snapshot.rounds.iter_mut().find(|known| known.round == round) {
            let changed = round.progress.as_ref().map(|known| known.stage) != Some(progress.stage);
            round.progress = Some(progress);
            self.stale = true;
            if changed {
                self.publish();
            }
        }
    }

    /// What a person is asked.
    pub fn review(&mut self, review: Option<ReviewStatus>) {
        if self.snapshot.review != review {
            self.snapshot.review = review;
            self.publish();
        }
    }

    /// Why no round can start, or that one can again.
    pub fn round_problem(&mut self, problem: Option<String>) {
        let problem = problem.unwrap_or_default();
        if problem != self.snapshot.round_problem {
            self.snapshot.round_problem = problem;
            self.publish();
        }
    }

    /// When a round starts by itself, unless one runs; `minimum_images` are the fewest that it takes.
    pub fn look_ahead(&mut self, schedule: &Schedule, minimum_images: u64, now: &Moment) -> NextRound {
        let facts = self.facts();
        let new = facts.images.saturating_sub(facts.images_of_last_completed);
        let missing = |enough: u64| enough.saturating_sub(new).max(minimum_images.saturating_sub(facts.images));
        let after = |wait: Duration| match wait {
            Duration::ZERO => NextRound::Due,
            wait => NextRound::At(now.wall.saturating_add_unsigned(wait.as_secs())),
        };
        let next = match self.unfinished(schedule) {
            _ if !schedule.automatic => NextRound::ByHand,
            // Nothing is known of the images before they are counted.
            Next::ByItself(pause) if self.counted && missing(0) == 0 => {
                after(schedule::left(facts.last_end, pause, now))
            }
            Next::ByItself(_) => NextRound::Images(missing(0).max(1)),
            _ if missing(schedule.new_images.max(1)) > 0 => NextRound::Images(missing(schedule.new_images.max(1))),
            _ => match schedule::due(schedule, &facts, now) {
                Due::Now => NextRound::Due,
                Due::In(wait) => after(wait),
                Due::No => NextRound::ByHand,
            },
        };
        let next = match (self.snapshot.next_round, next) {
            (known @ NextRound::At(before), NextRound::At(at)) if before.abs_diff(at) <= JITTER as u64 => known,
            (_, next) => next,
        };
        if std::mem::replace(&mut self.snapshot.next_round, next) != next {
            self.stale = true;
        }
        next
    }

    /// What becomes of the work of the last round.
    pub fn unfinished(&self, schedule: &Schedule) -> Next {
        history::next(&self.snapshot.rounds, schedule.minimum_interval)
    }

    /// What becomes of the work of a round that ends this way.
    pub fn after(&self, status: &RoundStatus, schedule: &Schedule) -> Next {
        let earlier = self.snapshot.rounds.iter().filter(|round| round.round != status.round);
        let rounds: Vec<RoundStatus> = earlier.chain([status]).cloned().collect();
        history::next(&rounds, schedule.minimum_interval)
    }

    /// The round whose work a new one takes up, whether somebody starts it or it starts by itself.
    pub fn to_be_continued(&self, schedule: &Schedule, by_hand: bool) -> Option<&RoundStatus> {
        let takes_up = match self.unfinished(schedule) {
            Next::ByItself(_) | Next::WithNextRound => true,
            Next::ByHand => by_hand,
            Next::Nothing | Next::GivenUp(_) => false,
        };
        history::last_ended(&self.snapshot.rounds).filter(|_| takes_up)
    }

    /// The round whose work is given up, and why.
    pub fn given_up(&self, schedule: &Schedule) -> Option<(&RoundStatus, GivenUp)> {
        match self.unfinished(schedule) {
            Next::GivenUp(why) => Some((history::last_ended(&self.snapshot.rounds)?, why)),
            _ => None,
        }
    }

    /// Whether any round has adapted this model to these classes.
    pub fn has_adapted(&self) -> bool {
        history::adapting(&self.snapshot.rounds).next().is_some()
    }

    /// Puts the end of the last round right where the clock has been set since: after a restart of the machine it is
    /// what the schedule has. That round, where it is to be written down anew.
    pub fn restate(&mut self, now: &Moment) -> Option<RoundStatus> {
        let last = history::last_ended(&self.snapshot.rounds)?;
        let (ended, round) = (last.ended?, last.round);
        let restated = ended.restated(now);
        if restated.wall.abs_diff(ended.wall) <= SET as u64 {
            return None;
        }
        let status = self.snapshot.rounds.iter_mut().find(|known| known.round == round)?;
        status.ended = Some(restated);
        self.stale = true;
        Some(status.clone())
    }

    /// What the schedule decides from.
    pub fn facts(&self) -> Facts {
        let rounds = &self.snapshot.rounds;
        Facts {
            images: self.snapshot.images,
            images_of_last_completed: history::last_completed(rounds).map_or(0, |round| round.images),
            last_end: history::last_ended(rounds).and_then(|round| round.ended),
            last_image: self.last_image,
        }
    }

    /// One line for `systemctl status`.
    pub fn status_line(&self) -> String {
        let Snapshot { images, quarantined, .. } = self.snapshot;
        let intake = match self.snapshot.intake_problem.as_str() {
            "" => String::new(),
            problem => format!("; {problem}"),
        };
        let serving = match (self.snapshot.active, &self.snapshot.serving_problem) {
            (_, problem) if !problem.is_empty() => problem.clone(),
            (Some(generation), _) => format!("generation {generation} serves"),
            (None, _) => "nothing serves yet".into(),
        };
        let running = self.snapshot.running();
        let round = running.map_or_else(String::new, |round| {
            let done = round.progress.as_ref().map_or_else(
                || "starting".into(),
                |progress| format!("{} {:.0} %", progress.stage.as_str(), 100.0 * progress.fraction),
            );
            format!("; round {}: {done}", round.round)
        });
        let setup = match self.snapshot.setup_problem.as_str() {
            "" => String::new(),
            problem => format!("{problem}; "),
        };
        // One thing after the other.
        let is_well = setup.is_empty() && intake.is_empty() && self.snapshot.serving_problem.is_empty();
        let next = if running.is_none() && is_well { self.what_next() } else { String::new() };
        format!("{setup}{serving}; {images} images, {quarantined} files refused{intake}{round}{next}")
    }

    /// What the service waits for where no round runs, and what to do for it.
    fn what_next(&self) -> String {
        let Snapshot { images, sources, round_problem, next_round, .. } = &self.snapshot;
        let problem = sources.iter().find_map(|source| Some((shown_path(&source.key), source.problem.as_ref()?)));
        match (problem, sources.first(), next_round) {
            (Some((path, problem)), ..) => format!("; {path}: {problem}"),
            _ if !round_problem.is_empty() => format!("; {round_problem}"),
            (_, None, _) => "; no directory is watched: name one as [[source]] in the configuration".into(),
            (_, Some(source), _) if *images == 0 => format!("; put images into {}", shown_path(&source.path)),
            (_, _, NextRound::Images(more)) => format!("; a round starts after {more} more images"),
            _ => String::new(),
        }
    }

    fn publish(&mut self) {
        self.stale = false;
        self.published.send_replace(self.snapshot.clone());
    }
}

#[cfg(test)]
mod tests;
