//! Asks a person when nothing else shows whether a candidate is better than the active generation, and carries out what
//! the answers decide.

mod items;

use super::{Supervisor, blocking};
use crate::app::promoter::{Compared, Contender, Promoter};
use crate::app::training::{TrainingEvent, TrainingEvents, TrainingRunner};
use crate::control::{Answers, CommandError, ReviewItem, ReviewStatus, Snapshot};
use crate::job_status::DetailedState;
use crate::review::{AnswerError, COMPARED, Review, drawn};
use crate::telemetry::events;
use coft_core::event::{Event, Progress, Stage};
use coft_core::ids::{ImageId, JobId};
use coft_core::near_duplicates::NearDuplicates;
use coft_core::review::{self, MOST, State};
use coft_core::shown::shown_path;
use items::{FileLooks, items};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, warn};

/// How long after the candidate could not be activated it is tried again. 1 min [choice].
const RETRY: Duration = Duration::from_secs(60);

/// How far the outcome of the review is carried out.
#[derive(Debug, Default)]
pub struct Reviewing {
    /// The job that activates the candidate.
    activation: Option<JobId>,
    /// No such job starts before this time, because the last one could not start.
    not_before: Option<Instant>,
    looks: FileLooks,
}

impl Reviewing {
    /// Forgets what was done for the last review.
    fn begin_anew(&mut self) {
        (self.activation, self.not_before) = (None, None);
    }
}

/// A round that could not decide.
#[derive(Debug)]
pub struct Undecided {
    pub round: JobId,
    /// Seed by which the pictures are drawn.
    pub seed: u64,
    pub candidate: Contender,
    /// File with the round's [`NearDuplicates`].
    pub near_duplicates: PathBuf,
}

impl Undecided {
    /// Runs the candidate and the active generation on pictures of the pool, and makes a review of the pictures on
    /// which they differ.
    ///
    /// # Errors
    /// Why nobody can be asked, in words; the active generation stays.
    pub async fn review(
        self,
        training: &TrainingRunner,
        promoter: &Promoter,
        stop: &CancellationToken,
        events: TrainingEvents,
    ) -> Result<Review, String> {
        let Self { round, seed, candidate, near_duplicates } = self;
        let near_duplicates = blocking(move || read(&near_duplicates)).await;
        // The user's list of labels may lie on a file system that does not answer.
        let unlabelled = stop.run_until_cancelled(training.unlabelled(seed, COMPARED, &near_duplicates)).await;
        let images = unlabelled.unwrap_or_else(|| Err("it was stopped".into()))?;
        if images.is_empty() {
            return Err(
                "no picture of the pool is left: each has its label, was asked about, looks like one of these, or \
                 its file is gone"
                    .into(),
            );
        }
        let (promoter, stop) = (promoter.clone(), stop.clone());
        blocking(move || {
            let (ids, paths): (Vec<ImageId>, Vec<PathBuf>) = images.into_iter().unzip();
            let mut meter = Meter { round, images: paths.len(), events, began: None, told: None };
            let compared = promoter.compare(&candidate, &paths, &stop, &mut |answered| meter.at(answered));
            let Compared { present, differences } = compared.map_err(|failure| failure.message)?;
            let answers = ids.into_iter().zip(differences);
            let answers = answers.filter_map(|(image, difference)| Some((image, difference?)));
            let scene = |image: &ImageId| near_duplicates.standing_for(image).clone();
            let by_scene = answers.map(|answer| (scene(&answer.0), answer)).collect();
            // Frequent scenes are among the first pictures that are drawn, so the scenes are drawn anew.
            let answers = drawn(!seed, by_scene, |(scene, _)| scene).into_iter().map(|(_, answer)| answer);
            let review = Review::new(round, [present, candidate.id], candidate.classes, answers, &near_duplicates);
            match (review.scenes(), review::least()) {
                (differing, least) if differing < least => Err(format!(
                    "it gives {differing} pictures another class than generation {present}, which serves, one of \
                     near-duplicates counted; at least {least} are needed to decide"
                )),
                _ => Ok(review),
            }
        })
        .await
    }
}

/// Tells how far a comparison is, as the trainer tells how far a round is.
struct Meter {
    round: JobId,
    images: usize,
    events: TrainingEvents,
    began: Option<Instant>,
    told: Option<Instant>,
}

impl Meter {
    /// Shortest time between two reports. 0.5 s [choice].
    const PAUSE: Duration = Duration::from_millis(500);

    /// `answered`: of the two answers about each image, those that are there.
    fn at(&mut self, answered: usize) {
        let (now, answers) = (Instant::now(), 2 * self.images);
        let began = *self.began.get_or_insert(now);
        if answered < answers && self.told.is_some_and(|told| now < told + Self::PAUSE) {
            return;
        }
        self.told = Some(now);
        let rate = answered as f64 / now.duration_since(began).as_secs_f64().max(f64::EPSILON);
        let progress = Progress {
            stage: Stage::Compare,
            iteration: 1,
            fraction: 1.0, // of the training, which is far longer
            images_done: answered as u64 / 2,
            images_total: self.images as u64,
            images_per_second: rate / 2.0,
            remaining_seconds: (answered > 0).then(|| (answers - answered) as f64 / rate),
            training: None,
        };
        // If the service has so much else to do, the next report follows soon.
        let _ = self.events.try_send((self.round, TrainingEvent::Event(Event::Progress(progress))));
    }
}

/// The near-duplicates that the trainer found. If the file cannot be read, that is logged, and a person may be asked
/// about the same scene twice.
fn read(file: &Path) -> NearDuplicates {
    let content = fs::read(file).map_err(|error| error.to_string());
    let read = content.and_then(|content| serde_json::from_slice(&content).map_err(|error| error.to_string()));
    read.unwrap_or_else(|problem| {
        let shown = shown_path(file);
        warn!(
            problem,
            "the list of images that look alike cannot be read, so a review may ask about one scene twice: {shown}: \
             {problem}"
        );
        NearDuplicates::default()
    })
}

impl Supervisor {
    /// Asks a person about the candidate of a round that is kept in the store, or stores why that cannot be done as a
    /// warning of the round.
    pub(super) async fn open_review(&mut self, round: JobId, review: Result<Review, String>) {
        let reviews = self.training.reviews.clone();
        if let Some(earlier) = self.labelled_review() {
            let told = format!("the review of round {} has {} labels and goes on", earlier.round.0, earlier.answered);
            return self.warn_of(round, format!("nobody is asked about its candidate: {told}"));
        }
        let opened = match review {
            Ok(review) => blocking(move || reviews.begin(review).map(|()| reviews.status()))
                .await
                .map_err(|error| format!("the questions cannot be written down: {error}")),
            Err(problem) => Err(problem),
        };
        let status = match opened {
            Ok(status) => status.expect("it has begun"),
            Err(problem) => {
                return self.warn_of(round, format!("nobody can be asked about its candidate: {problem}"));
            }
        };
        self.reviewing.begin_anew();
        let (round, candidate, of, present) = (status.round.0, status.candidate.0, status.compared, status.present);
        let percent = 100.0 * status.differing as f64 / of.max(1) as f64;
        info!(
            message_id = events::REVIEW_OPENED,
            coft.job = round,
            coft.generation = candidate,
            "generation {candidate} of round {round} answers {percent:.0} % of {of} pictures differently than generation {present}, \
             which serves; labels for at most {MOST} of them decide: coftctl review --decide"
        );
    }

    /// The review that a person has begun to answer, if it can still decide something: a new one would begin at no
    /// labels.
    fn labelled_review(&self) -> Option<ReviewStatus> {
        let status = self.training.reviews.status()?;
        let (generations, _) = self.promoter.generations();
        let is_there = generations.iter().any(|generation| generation.generation == status.candidate);
        let serves = generations.iter().any(|kept| kept.generation == status.present && kept.active);
        let goes_on = matches!(status.state, State::Asking | State::Candidate) && status.answered > 0;
        (goes_on && is_there && serves).then_some(status)
    }

    /// Replies with the pictures that are asked about, in a task of its own, since the files' file system may not
    /// answer.
    pub(super) fn review_items(
        &self,
        limit: usize,
        reply: oneshot::Sender<Result<(Vec<ReviewItem>, ReviewStatus), CommandError>>,
    ) {
        let (training, looks) = (self.training.clone(), self.reviewing.looks.clone());
        let status = self.publisher.snapshot().review.clone();
        tokio::spawn(
            async move {
                let answer = match status {
                    Some(status) => items(training, looks, limit).await.map(|items| (items, status)),
                    None => Err(not_taken(AnswerError::NoReview)),
                };
                // A client that has gone does not need the reply.
                let _ = reply.send(answer);
            }
            .in_current_span(),
        );
    }

    /// Stores answers and carries out what they decide.
    pub(super) async fn submit_review(&mut self, answers: Answers) -> Result<ReviewStatus, CommandError> {
        self.look_at_review().await;
        let reviews = self.training.reviews.clone();
        let taken = blocking(move || match answers {
            Answers::Labels(labels) => reviews.answer(&labels),
            Answers::Undo => reviews.undo(),
        });
        let status = taken.await.map_err(not_taken)?;
        let (labels, candidate, present) = (status.answered, status.candidate, status.present);
        let decided = match status.state {
            State::Asking => None,
            State::Candidate => {
                Some((candidate, format!("{labels} labels have decided for generation {candidate}, which is to serve")))
            }
            State::Present => {
                Some((present, format!("{labels} labels have decided for generation {present}, which goes on serving")))
            }
            State::NoDifference => Some((
                present,
                format!(
                    "after {labels} labels, neither generation {candidate} nor {present} is clearly better; generation \
                     {present} goes on serving"
                ),
            )),
        };
        if let Some((generation, told)) = decided {
            info!(message_id = events::REVIEW_DECIDED, coft.generation = generation.0, labels, "{told}");
        }
        self.look_at_review().await;
        Ok(self.publisher.snapshot().review.clone().unwrap_or(status))
    }

    /// Activates the candidate if the labels have decided for it. Ends the review if another generation serves than the
    /// one that it is about, if its candidate does not exist any more, or if the user has set other shares since.
    pub(super) async fn look_at_review(&mut self) {
        let Some(status) = self.training.reviews.status() else { return self.show_review() };
        let Snapshot { active, generations, .. } = self.publisher.snapshot();
        let is_there = generations.iter().any(|generation| generation.generation == status.candidate);
        let (present, candidate) = (status.present, status.candidate);
        let over = if *active != Some(present) {
            Some("another generation serves".to_owned())
        } else if !is_there {
            Some(format!("generation {candidate} was removed"))
        } else if self.promoter.expects(candidate) != self.training.base.shares {
            Some(format!("generation {candidate} expects other shares of the classes than the configuration"))
        } else {
            None
        };
        if let Some(why) = over {
            info!("the review of generations {candidate} and {present} has ended: {why}");
            return self.end_review().await;
        }
        let waits = self.reviewing.not_before.is_some_and(|at| at > Instant::now());
        if status.state == State::Candidate && self.reviewing.activation.is_none() && !waits {
            match self.activate(status.candidate).await {
                Ok(job) => self.reviewing.activation = job,
                Err(refused) => {
                    self.reviewing.not_before = Some(Instant::now() + RETRY);
                    info!(
                        "generation {} cannot begin to serve, and is tried again in a minute: {refused}",
                        status.candidate
                    );
                }
            }
        }
        self.show_review();
    }

    /// Called when a job has ended: if it had to activate the candidate and failed, the review is over.
    pub(super) async fn review_after(&mut self, job: JobId, state: &DetailedState) {
        if self.reviewing.activation != Some(job) {
            return;
        }
        self.reviewing.begin_anew();
        // An activation that was cut short by a stop of the service goes on at the next start.
        if matches!(state, DetailedState::Promoted(_) | DetailedState::Interrupted) {
            return;
        }
        let Some(status) = self.training.reviews.status() else { return };
        let candidate = status.candidate;
        warn!(
            coft.job = job.0,
            coft.generation = candidate.0,
            "the labels have chosen generation {candidate}, but it could not be activated: see coftctl job show {job}; \
             to try it again: coftctl generation activate {candidate}"
        );
        self.end_review().await;
    }

    async fn end_review(&mut self) {
        self.reviewing.begin_anew();
        let reviews = self.training.reviews.clone();
        if let Err(error) = blocking(move || reviews.end()).await {
            warn!(problem = %error, "the review that is over cannot be removed: {error}");
        }
        self.show_review();
    }

    /// Publishes the state of the review.
    pub(super) fn show_review(&mut self) {
        let active = self.publisher.snapshot().active;
        let status = self.training.reviews.status().filter(|status| Some(status.present) == active);
        let activation = self.reviewing.activation;
        self.publisher.review(status.map(|status| ReviewStatus { activation, ..status }));
    }
}

fn not_taken(error: AnswerError) -> CommandError {
    let text = error.to_string();
    match error {
        AnswerError::NoReview | AnswerError::Decided(_) | AnswerError::Closed(_) => CommandError::NotReady(text),
        AnswerError::Invalid(_) => CommandError::Invalid(text),
        AnswerError::Write { .. } => CommandError::Failed(text),
    }
}

#[cfg(test)]
mod tests;
