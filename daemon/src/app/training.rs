//! One job of the trainer from the request to its outcome: gathers the pool, starts the trainer and passes its events
//! on.
//!
//! Each job has a task of its own. This module knows neither which jobs may start nor what happens to a candidate.

mod own_labels;
mod pool;

use super::import;
use crate::catalog::{Catalog, CatalogError};
use crate::config::{Config, ImportSettings};
use crate::disk_space::{Reserve, Shortage};
use crate::ingest::Ingest;
use crate::model::Base;
use crate::review::Reviews;
use crate::round::{self, Outcome, RoundSettings, Update};
use coft_core::disk::{RoundSizes, round_bytes};
use coft_core::event::{Event, Failure, FailureKind};
use coft_core::ids::JobId;
use coft_core::settings::Settings;
use coft_core::spec::{JOURNAL_SPEC, Method, PROTOCOL, PoolImage, RoundSpec};
use coft_launch::Launcher;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, warn};
use walkdir::WalkDir;

/// What a job of the trainer is to do.
#[derive(Clone, Copy, Debug)]
pub struct RoundPlan {
    pub round: JobId,
    pub method: Method,
    pub seed: u64,
    /// Whether the round takes up the work of an unfinished round, if there is some; otherwise it begins anew.
    pub continues: bool,
}

#[derive(Debug)]
pub enum TrainingEvent {
    /// The pool is gathered. `images` had been taken in by then: those that take part, and older ones that do not any
    /// more. Images after these are new to the next round.
    Gathered {
        images: u64,
    },
    Event(Event),
    /// The last event of a job.
    Ended(Outcome),
}

/// Sends the events of all jobs to the supervisor.
pub type TrainingEvents = mpsc::Sender<(JobId, TrainingEvent)>;

/// Sends the events of one job.
struct EventSender {
    job: JobId,
    events: TrainingEvents,
}

impl EventSender {
    /// Sends an event to the supervisor; if the service has ended, nobody needs it.
    async fn send(&self, event: TrainingEvent) {
        let _ = self.events.send((self.job, event)).await;
    }
}

/// A trainer at work, and the images that it was given.
struct Launched {
    running: round::TrainerProcess,
    images: Vec<PoolImage>,
}

/// Everything that a job of the trainer needs.
#[derive(Clone)]
pub struct TrainingRunner {
    pub catalog: Catalog,
    /// The configured sources: rounds take images only from these.
    pub sources: Vec<PathBuf>,
    pub ingest: Ingest,
    pub base: Arc<Base>,
    pub round: RoundSettings,
    pub settings: Settings,
    /// Directory that holds a directory for each job.
    pub scratch: PathBuf,
    /// What the last round that adapts has done so far; it is kept when the service ends.
    pub journal: PathBuf,
    /// Space that has to be free on the disk before a round that adapts starts.
    pub reserve: Reserve,
    pub import: ImportSettings,
    /// File with the user's own labels, which is read anew for each round.
    pub given_labels: Option<PathBuf>,
    /// Reviews, whose answers are labels as well.
    pub reviews: Reviews,
    /// Lets one thread read the list of labels for clients.
    pub listing: Arc<Semaphore>,
}

impl TrainingRunner {
    /// Starts a job of the trainer. Its end follows as an event, soon after `stop` is cancelled.
    pub fn start(&self, plan: RoundPlan, stop: CancellationToken, events: TrainingEvents) {
        let (training, events) = (self.clone(), EventSender { job: plan.round, events });
        tokio::spawn(
            async move {
                let outcome = match stop.run_until_cancelled(training.launch(plan, &events)).await {
                    Some(Ok(Launched { running, images })) => {
                        let outcome = follow(running, &stop, &events).await;
                        // A trainer that ended without a message may have met damaged images, too.
                        let suspect = [FailureKind::BadImages, FailureKind::Internal];
                        if matches!(&outcome, Outcome::Failed(failure) if suspect.contains(&failure.kind)) {
                            stop.run_until_cancelled(training.remove_damaged(images)).await;
                        }
                        outcome
                    }
                    Some(Err(outcome)) => outcome,
                    None => Outcome::Cancelled,
                };
                events.send(TrainingEvent::Ended(outcome)).await;
            }
            .in_current_span(),
        );
    }

    async fn launch(&self, plan: RoundPlan, events: &EventSender) -> Result<Launched, Outcome> {
        let trainer = self.trainer()?;
        let mut spec = self.spec(plan);
        let images = match plan.method {
            Method::ZeroShot => 0,
            _ => {
                if !plan.continues
                    && let Err(error) = self.forget_unfinished()
                {
                    warn!(problem = %error, "the work of an earlier round cannot be removed: {error}");
                }
                self.fill(&mut spec, plan.continues).await?
            }
        };
        events.send(TrainingEvent::Gathered { images }).await;
        let images = spec.images.clone();
        let (scratch, niceness, deadline) = (self.directory(spec.round), self.round.niceness, self.round.deadline);
        let running = round::spawn(round::Launch { trainer, spec, scratch, niceness, deadline })
            .await
            .map_err(|error| failed(error.kind(), error.to_string(), error.hint()))?;
        Ok(Launched { running, images })
    }

    /// The specification for the trainer, without the images.
    fn spec(&self, plan: RoundPlan) -> RoundSpec {
        RoundSpec {
            protocol: PROTOCOL,
            round: plan.round,
            method: plan.method,
            model_dir: self.base.dir.clone(),
            image_size: self.base.image_size,
            classes: self.base.classes.clone(),
            student_dir: self.base.student.as_ref().map(|student| student.dir.clone()),
            class_lines: self.base.class_lines.clone(),
            shares: self.base.shares.clone(),
            template: self.base.template.clone(),
            templates: self.base.templates.clone(),
            images: Vec::new(),
            seed: plan.seed,
            device: self.round.device,
            precision: self.round.precision,
            threads: self.round.threads,
            settings: self.settings.clone(),
            candidate_dir: self.directory(plan.round).join("candidate"),
            journal_dir: match plan.method {
                // Such a job takes seconds to minutes, and must not destroy what an adapting round has done.
                Method::ZeroShot => self.directory(plan.round).join("journal"),
                _ => self.journal.clone(),
            },
            diagnostics: None,
        }
    }

    /// A job's own directory.
    pub fn directory(&self, job: JobId) -> PathBuf {
        self.scratch.join(format!("round-{job}"))
    }

    /// Imports a generation from elsewhere, as a job.
    pub fn import(&self, job: JobId, files: HashMap<String, OwnedFd>, stop: CancellationToken, events: TrainingEvents) {
        let (settings, reserve) = (self.import.clone(), self.reserve.clone());
        let events = EventSender { job, events };
        let candidate = self.directory(job).join("candidate");
        tokio::spawn(
            async move {
                let to = candidate.clone();
                let copied =
                    tokio::task::spawn_blocking(move || import::copy(&files, &settings, &reserve, &to, &stop)).await;
                let outcome = match copied.expect("copying neither panics nor is aborted") {
                    Ok(()) => Outcome::Candidate(candidate),
                    Err(Failure { kind: FailureKind::Cancelled, .. }) => Outcome::Cancelled,
                    Err(failure) => Outcome::Failed(failure),
                };
                events.send(TrainingEvent::Ended(outcome)).await;
            }
            .in_current_span(),
        );
    }

    /// The specification of the unfinished round, if there is one.
    pub fn unfinished(&self) -> Option<RoundSpec> {
        serde_json::from_slice(&fs::read(self.journal.join(JOURNAL_SPEC)).ok()?).ok()
    }

    /// Removes the work of an unfinished round; returns whether there was any.
    ///
    /// # Errors
    /// The work cannot be removed.
    pub fn forget_unfinished(&self) -> io::Result<bool> {
        match fs::remove_dir_all(&self.journal) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes over the settings of rounds to come from a configuration that was read again.
    pub fn configure(&mut self, config: &Config) {
        let sizes = RoundSizes { images: self.ingest.most_images(), ..self.base.sizes };
        self.reserve.set(round_bytes(config.round.method.into(), &config.training, &sizes));
        let Config { round, training, import, classifier, .. } = config.clone();
        (self.round, self.settings, self.import) = (round, training, import);
        self.given_labels = classifier.given_labels;
    }

    /// How much disk space is missing for a round that adapts. Space that the work of the last round takes there is not
    /// missing.
    ///
    /// # Errors
    /// The file system does not report its free space.
    pub fn shortage(&self) -> io::Result<Option<Shortage>> {
        let files = WalkDir::new(&self.journal).into_iter().flatten();
        let taken = files.filter_map(|file| file.metadata().ok()).filter(|found| found.is_file());
        self.reserve.shortage_of_round(&self.journal, taken.map(|found| found.len()).sum())
    }

    fn trainer(&self) -> Result<Launcher, Outcome> {
        self.round.find_trainer().map_err(|problem| {
            failed(
                FailureKind::Internal,
                problem,
                "it is looked for again by itself; the active generation keeps serving",
            )
        })
    }
}

async fn follow(mut running: round::TrainerProcess, stop: &CancellationToken, events: &EventSender) -> Outcome {
    let mut stopping = false;
    loop {
        tokio::select! {
            update = running.next() => match update {
                Some(Update::Event(event)) => {
                    events.send(TrainingEvent::Event(event)).await;
                }
                Some(Update::Ended(outcome)) => return outcome,
                None => return failed(FailureKind::Internal, "the trainer's end was not noticed", "look into the log"),
            },
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                running.cancel();
            }
        }
    }
}

fn failed(kind: FailureKind, message: impl Into<String>, hint: impl Into<String>) -> Outcome {
    Outcome::Failed(Failure::new(kind, message, hint))
}

/// Why there is no result, in words.
fn told(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failed(failure) => failure.message,
        other => format!("{other:?}"),
    }
}

fn catalog_failed(error: &CatalogError) -> Outcome {
    let kind = match error {
        CatalogError::DiskFull { .. } => FailureKind::DiskFull,
        _ => FailureKind::Internal,
    };
    failed(kind, error.to_string(), "the active generation keeps serving; look into the log of the service")
}

#[cfg(test)]
mod tests;
