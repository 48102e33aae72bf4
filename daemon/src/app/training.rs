//! One round from the request to its outcome: the pool is gathered, the trainer started, what it says passed on.
//!
//! A task of its own for each round. It does not know which rounds may start, nor what becomes of a candidate.

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
use coft_core::ids::RoundId;
use coft_core::settings::Settings;
use coft_core::spec::{JOURNAL_SPEC, Method, PROTOCOL, PoolImage, RoundSpec};
use coft_launch::Launcher;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, warn};
use walkdir::WalkDir;

/// What a round is to do.
#[derive(Clone, Copy, Debug)]
pub struct RoundPlan {
    pub round: RoundId,
    pub method: Method,
    pub seed: u64,
    /// Whether it goes on with the work of a round that did not come to its end, where there is some; otherwise it
    /// begins anew.
    pub continues: bool,
}

#[derive(Debug)]
pub enum RoundEvent {
    /// The pool is gathered. So many images had been taken in by then: those that take part, and older ones that do not
    /// any more. What comes after them is new to the next round.
    Gathered {
        images: u64,
    },
    Event(Event),
    /// Last of a round.
    Ended(Outcome),
}

/// Where the supervisor hears of rounds.
pub type RoundEvents = mpsc::Sender<(RoundId, RoundEvent)>;

/// Where it hears of one round.
struct EventSender {
    round: RoundId,
    events: RoundEvents,
}

impl EventSender {
    /// Tells the supervisor; a service that has gone needs no events.
    async fn send(&self, event: RoundEvent) {
        let _ = self.events.send((self.round, event)).await;
    }
}

/// A trainer at work, and what it was given.
struct Launched {
    running: round::TrainerProcess,
    images: Vec<PoolImage>,
}

/// Everything that rounds are made from.
#[derive(Clone)]
pub struct TrainingRunner {
    pub catalog: Catalog,
    /// The configured sources: rounds take their images alone.
    pub sources: Vec<PathBuf>,
    pub ingest: Ingest,
    pub base: Arc<Base>,
    pub round: RoundSettings,
    pub settings: Settings,
    /// Directory of the rounds' own directories.
    pub scratch: PathBuf,
    /// What the last round that adapts has done so far; it outlives the service.
    pub journal: PathBuf,
    /// What has to be free on its disk before a round that adapts starts.
    pub reserve: Reserve,
    pub import: ImportSettings,
    /// The user's own labels, a file that is read anew for each round.
    pub given_labels: Option<PathBuf>,
    /// What a person was asked, whose answers are labels as well.
    pub reviews: Reviews,
}

impl TrainingRunner {
    /// Starts a round; its end follows as an event, soon where it is told to stop.
    pub fn start(&self, plan: RoundPlan, stop: CancellationToken, events: RoundEvents) {
        let (training, events) = (self.clone(), EventSender { round: plan.round, events });
        tokio::spawn(
            async move {
                let outcome = match stop.run_until_cancelled(training.launch(plan, &events)).await {
                    Some(Ok(Launched { running, images })) => {
                        let outcome = follow(running, &stop, &events).await;
                        // A trainer that ended without a word may have met them, too.
                        let suspect = [FailureKind::BadImages, FailureKind::Internal];
                        if matches!(&outcome, Outcome::Failed(failure) if suspect.contains(&failure.kind)) {
                            stop.run_until_cancelled(training.remove_damaged(images)).await;
                        }
                        outcome
                    }
                    Some(Err(outcome)) => outcome,
                    None => Outcome::Cancelled,
                };
                events.send(RoundEvent::Ended(outcome)).await;
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
        events.send(RoundEvent::Gathered { images }).await;
        let images = spec.images.clone();
        let (scratch, niceness, deadline) = (self.directory(spec.round), self.round.niceness, self.round.deadline);
        let running = round::spawn(round::Launch { trainer, spec, scratch, niceness, deadline })
            .await
            .map_err(|error| failed(error.kind(), error.to_string(), error.hint()))?;
        Ok(Launched { running, images })
    }

    /// What the trainer is told, but for the images.
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
                // Over in seconds to minutes, and what an adapting round has done is to survive it.
                Method::ZeroShot => self.directory(plan.round).join("journal"),
                _ => self.journal.clone(),
            },
            diagnostics: None,
        }
    }

    /// A round's own directory.
    pub fn directory(&self, round: RoundId) -> PathBuf {
        self.scratch.join(format!("round-{round}"))
    }

    /// Takes in a generation from elsewhere, as a round.
    pub fn import(
        &self,
        round: RoundId,
        files: HashMap<String, OwnedFd>,
        stop: CancellationToken,
        events: RoundEvents,
    ) {
        let (settings, reserve) = (self.import.clone(), self.reserve.clone());
        let events = EventSender { round, events };
        let candidate = self.directory(round).join("candidate");
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
                events.send(RoundEvent::Ended(outcome)).await;
            }
            .in_current_span(),
        );
    }

    /// The work of a round that did not come to its end, if there is any.
    pub fn unfinished(&self) -> Option<RoundSpec> {
        serde_json::from_slice(&fs::read(self.journal.join(JOURNAL_SPEC)).ok()?).ok()
    }

    /// Forgets the work of an unfinished round; whether there was any.
    ///
    /// # Errors
    /// Where it cannot be removed.
    pub fn forget_unfinished(&self) -> io::Result<bool> {
        match fs::remove_dir_all(&self.journal) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes over what a configuration that was read again says of rounds to come.
    pub fn configure(&mut self, config: &Config) {
        let sizes = RoundSizes { images: self.ingest.most_images(), ..self.base.sizes };
        self.reserve.set(round_bytes(config.round.method.into(), &config.training, &sizes));
        let Config { round, training, import, classifier, .. } = config.clone();
        (self.round, self.settings, self.import) = (round, training, import);
        self.given_labels = classifier.given_labels;
    }

    /// What is missing on the disk for a round that adapts; what the last one has left of its work there is not
    /// missing.
    ///
    /// # Errors
    /// Where the file system does not say how much room it has.
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
                    events.send(RoundEvent::Event(event)).await;
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

fn catalog_failed(error: &CatalogError) -> Outcome {
    let kind = match error {
        CatalogError::DiskFull { .. } => FailureKind::DiskFull,
        _ => FailureKind::Internal,
    };
    failed(kind, error.to_string(), "the active generation keeps serving; look into the log of the service")
}

#[cfg(test)]
mod tests;
