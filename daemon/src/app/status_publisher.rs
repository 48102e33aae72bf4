//! What clients see: the snapshot. It is published at once after an event, and at most five times a second while only
//! progress or counts change.

use super::answers;
use crate::catalog::Counts;
use crate::control::{GenerationStatus, ReviewStatus, Snapshot};
use crate::job_status::{DetailedState, JobStatus};
use crate::serve::ServingStatus;
use coft_core::event::Progress;
use coft_core::ids::{GenerationId, JobId};
use coft_core::schedule::NextRound;
use coft_core::shown::shown_path;
use std::path::Path;
use std::time::Duration;
use tokio::sync::watch;

/// How often progress is published at most.
pub const PUBLISH_INTERVAL: Duration = Duration::from_millis(200);

/// Seconds by which a time may differ from the one shown before it is published again: it is computed each second.
/// [choice]
const JITTER: i64 = 5;
pub struct StatusPublisher {
    snapshot: Snapshot,
    published: watch::Sender<Snapshot>,
    /// What the set-up lacks, what is being loaded, and why a configuration is not used.
    setup: [String; 3],
    /// Whether progress or counts have changed since the snapshot was published.
    stale: bool,
}

impl StatusPublisher {
    /// A publisher, and the receiver of what it publishes.
    #[cfg(test)]
    pub fn new(snapshot: Snapshot) -> (Self, watch::Receiver<Snapshot>) {
        let (published, receiver) = watch::channel(Snapshot::default());
        (Self::over(published, snapshot), receiver)
    }

    /// A publisher that publishes a snapshot at once, and its changes from then on.
    pub fn over(published: watch::Sender<Snapshot>, snapshot: Snapshot) -> Self {
        published.send_replace(snapshot.clone());
        Self { snapshot, published, setup: Default::default(), stale: false }
    }

    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Whether there is something for [`StatusPublisher::tick`] to publish.
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// Publishes what has changed; has to be called every [`PUBLISH_INTERVAL`].
    pub fn tick(&mut self) {
        if self.stale {
            self.publish();
        }
    }

    pub fn counted(&mut self, counts: &Counts) {
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

    /// Number of files of a source that wait to be looked at.
    pub fn waiting(&mut self, key: &Path, files: u64) {
        if let Some(source) = self.snapshot.sources.iter_mut().find(|source| source.key == key) {
            source.waiting = files;
        }
        self.stale = true;
    }

    /// What the service waits for before it is set up as configured; empty if nothing is missing.
    pub fn setup(&mut self, problem: String) {
        self.set_up(0, problem);
    }

    /// The generation that is being loaded for the first time since the start; none once that has succeeded or failed.
    pub fn loading(&mut self, generation: Option<GenerationId>) {
        let told = |generation| format!("the service is starting: generation {generation} is loaded");
        self.set_up(1, generation.map_or_else(String::new, told));
    }

    /// Why the configuration that was read again is not used; none if it is.
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

    /// The jobs: one has started, was prepared or has ended, or those of earlier runs of the service are known now.
    pub fn jobs(&mut self, jobs: &[JobStatus]) {
        jobs.clone_into(&mut self.snapshot.jobs);
        self.forget_candidates_that_are_gone();
        self.publish();
    }

    /// The status of the answers about the sources' pictures, in the order of the sources.
    pub fn answers(&mut self, answers: &answers::AnswersStatus) {
        for (source, standing) in self.snapshot.sources.iter_mut().zip(&answers.standings) {
            source.answers.standing = standing.clone();
            source.answers.problem = if standing.waiting > 0 { answers.problem.clone() } else { String::new() };
        }
        self.snapshot.unanswered_again = answers.waiting_again;
        self.publish();
    }

    /// Why images cannot be stored; none if they can.
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

    /// A job names the generation as which its candidate was kept only as long as that is in the store.
    fn forget_candidates_that_are_gone(&mut self) {
        let Snapshot { jobs, generations, .. } = &mut self.snapshot;
        for job in jobs {
            if let DetailedState::Kept { candidate, .. } = &mut job.state {
                *candidate = candidate.filter(|kept| generations.iter().any(|there| there.generation == *kept));
            }
        }
    }

    pub fn progress(&mut self, job: JobId, progress: Progress) {
        if let Some(job) = self.snapshot.jobs.iter_mut().find(|known| known.id == job) {
            let changed = job.progress.as_ref().map(|known| known.stage) != Some(progress.stage);
            job.progress = Some(progress);
            self.stale = true;
            if changed {
                self.publish();
            }
        }
    }

    /// The classifier whose job has to end before the job that is due starts.
    pub fn waits_for(&mut self, classifier: Option<String>) {
        if self.snapshot.waits_for != classifier {
            self.snapshot.waits_for = classifier;
            self.publish();
        }
    }

    /// The state of the review; none if there is no review.
    pub fn review(&mut self, review: Option<ReviewStatus>) {
        if self.snapshot.review != review {
            self.snapshot.review = review;
            self.publish();
        }
    }

    /// Why no round can start; none if one can.
    pub fn round_problem(&mut self, problem: Option<String>) {
        let problem = problem.unwrap_or_default();
        if problem != self.snapshot.round_problem {
            self.snapshot.round_problem = problem;
            self.publish();
        }
    }

    /// When a round starts by itself, unless one runs.
    pub fn next_round(&mut self, next: NextRound) {
        let known = self.snapshot.next_round;
        let is_told = match (known, next) {
            (NextRound::At(before), NextRound::At(at)) => before.abs_diff(at) <= JITTER as u64,
            (known, next) => known == next,
        };
        if !is_told {
            self.snapshot.next_round = next;
            self.stale = true;
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
        let job = running.map_or_else(String::new, |job| {
            let done = job.progress.as_ref().map_or_else(
                || "starting".into(),
                |progress| format!("{} {:.0} %", progress.stage.as_str(), 100.0 * progress.fraction),
            );
            format!("; {}: {done}", job.name())
        });
        let setup = match self.snapshot.setup_problem.as_str() {
            "" => String::new(),
            problem => format!("{problem}; "),
        };
        // Show what comes next only if no job runs and all is well.
        let is_well = setup.is_empty() && intake.is_empty() && self.snapshot.serving_problem.is_empty();
        let next = if running.is_none() && is_well { self.what_next() } else { String::new() };
        format!("{setup}{serving}; {images} images, {quarantined} files refused{intake}{job}{next}")
    }

    /// What the service waits for if no round runs, and what to do about it.
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
