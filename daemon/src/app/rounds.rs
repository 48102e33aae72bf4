//! One round from the request to its outcome: the pool is gathered, the trainer started, what it says passed on.
//!
//! A task of its own for each round. It does not know which rounds may start, nor what becomes of a candidate.

use super::import;
use super::verdict::Trouble;
use crate::catalog::{Catalog, CatalogError};
use crate::given;
use crate::ingest::Ingest;
use crate::model::Base;
use crate::round::{self, Outcome, Update};
use coft_core::event::{Event, FailureKind};
use coft_core::ids::{ImageId, RoundId};
use coft_core::settings::Settings;
use coft_core::spec::{Device, JOURNAL_SPEC, Method, PROTOCOL, PoolImage, Precision, RoundSpec};
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use std::env;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// `[round]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RoundSettings {
    /// CoFT or CoFT+. coft [choice].
    pub method: Adaptation,
    /// Seeds every random draw. 1 [choice].
    pub seed: u64,
    pub device: Device,
    /// What the models of later rounds compute in while they serve. fp32 [choice].
    pub precision: Precision,
    /// CPU threads; 0 lets libtorch choose. 0 [choice].
    pub threads: u32,
    /// The trainer; where it is not given, `coft-trainer` beside this program, then in `/usr/libexec/coft`.
    pub trainer: Option<PathBuf>,
    /// Fewest catalogued images for a round that adapts; ≥ 1. 16 [choice]: fewer than that is no pool.
    pub minimum_images: u64,
    /// Niceness of the trainer, 0 to 19. 19 [choice]: who waits for an answer goes first.
    pub niceness: i32,
    /// A round that takes longer is stopped; "1s" or more. "12h" [choice].
    #[serde(with = "humantime_serde")]
    pub deadline: Duration,
}

/// The methods that a service offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Adaptation {
    #[default]
    Coft,
    CoftPlus,
}

impl From<Adaptation> for Method {
    fn from(method: Adaptation) -> Self {
        match method {
            Adaptation::Coft => Method::Coft,
            Adaptation::CoftPlus => Method::CoftPlus,
        }
    }
}

impl Default for RoundSettings {
    fn default() -> Self {
        Self {
            method: Adaptation::default(),
            seed: 1,
            device: Device::default(),
            precision: Precision::default(),
            threads: 0,
            trainer: None,
            minimum_images: 16,
            niceness: 19,
            deadline: Duration::from_secs(12 * 60 * 60),
        }
    }
}

/// What a round is to do.
#[derive(Clone, Copy, Debug)]
pub struct Assignment {
    pub round: RoundId,
    pub method: Method,
    pub seed: u64,
}

#[derive(Debug)]
pub enum News {
    /// The pool is gathered; so many images take part.
    Gathered {
        images: u64,
    },
    Event(Event),
    /// Last of a round.
    Ended(Outcome),
}

/// Everything that rounds are made from.
#[derive(Clone)]
pub struct Workshop {
    pub catalog: Catalog,
    pub ingest: Ingest,
    pub base: Arc<Base>,
    pub round: RoundSettings,
    pub settings: Settings,
    /// Directory of the rounds' own directories.
    pub scratch: PathBuf,
    /// What the last round has done so far; it outlives the service.
    pub journal: PathBuf,
    pub import: import::Settings,
    /// The user's own labels, a file that is read anew for each round.
    pub given_labels: Option<PathBuf>,
}

impl Workshop {
    /// Starts a round; its end follows as news, soon where it is told to stop.
    pub fn start(&self, assignment: Assignment, stop: CancellationToken, news: mpsc::Sender<News>) {
        let workshop = self.clone();
        tokio::spawn(async move {
            let outcome = match stop.run_until_cancelled(workshop.launch(assignment, &news)).await {
                Some(Ok(running)) => follow(running, &stop, &news).await,
                Some(Err(outcome)) => outcome,
                None => Outcome::Cancelled,
            };
            // A service that has gone needs no news.
            let _ = news.send(News::Ended(outcome)).await;
        });
    }

    async fn launch(&self, assignment: Assignment, news: &mpsc::Sender<News>) -> Result<round::Running, Outcome> {
        let trainer = self.trainer()?;
        let images = match assignment.method {
            Method::ZeroShot => Vec::new(),
            _ => self.label(self.gather().await?).await?,
        };
        let scratch = self.scratch.join(format!("round-{}", assignment.round));
        let mut spec = RoundSpec {
            protocol: PROTOCOL,
            round: assignment.round,
            method: assignment.method,
            model_dir: self.base.dir.clone(),
            image_size: self.base.image_size,
            classes: self.base.classes.clone(),
            student_dir: self.base.student.as_ref().map(|student| student.dir.clone()),
            class_lines: self.base.class_lines.clone(),
            template: self.base.template.clone(),
            templates: self.base.templates.clone(),
            images,
            seed: assignment.seed,
            device: self.round.device,
            precision: self.round.precision,
            threads: self.round.threads,
            settings: self.settings.clone(),
            candidate_dir: scratch.join("candidate"),
            journal_dir: self.journal.clone(),
            diagnostics: None,
        };
        if let Some(images) = self.unfinished().and_then(|old| continued(&spec, old)) {
            info!(coft.round = assignment.round.0, images = images.len(), "an interrupted round is continued");
            spec.images = images;
        }
        let _ = news.send(News::Gathered { images: spec.images.len() as u64 }).await;
        let (niceness, deadline) = (self.round.niceness, self.round.deadline);
        round::spawn(round::Launch { trainer, spec, scratch, niceness, deadline })
            .map_err(|error| failed(error.kind(), error.to_string(), error.hint()))
    }

    /// Takes in a generation from elsewhere, as a round.
    pub fn import(
        &self,
        round: RoundId,
        files: HashMap<String, OwnedFd>,
        stop: CancellationToken,
        news: mpsc::Sender<News>,
    ) {
        let settings = self.import.clone();
        let candidate = self.scratch.join(format!("round-{round}")).join("candidate");
        tokio::spawn(async move {
            let to = candidate.clone();
            let copied = tokio::task::spawn_blocking(move || import::copy(&files, &settings, &to, &stop)).await;
            let outcome = match copied.expect("copying neither panics nor is aborted") {
                Ok(()) => Outcome::Candidate(candidate),
                Err(Trouble { kind: FailureKind::Cancelled, .. }) => Outcome::Cancelled,
                Err(Trouble { kind, message, hint }) => Outcome::Failed { kind, message, hint },
            };
            // A service that has gone needs no news.
            let _ = news.send(News::Ended(outcome)).await;
        });
    }

    /// Pixels of up to `most` images of the service, evenly spread over all of them.
    pub async fn sample(&self, most: usize) -> Result<Vec<PathBuf>, CatalogError> {
        let pool = self.catalog.pool(self.ingest.canonical_px()).await?;
        let step = pool.len().div_ceil(most).max(1);
        let paths: Vec<PathBuf> = pool.iter().step_by(step).map(|id| self.ingest.canonical_path(id)).collect();
        let kept = move || paths.into_iter().filter(|path| path.is_file()).collect();
        Ok(tokio::task::spawn_blocking(kept).await.expect("looking for files neither panics nor is aborted"))
    }

    /// The work of a round that did not come to its end, if there is any.
    pub fn unfinished(&self) -> Option<RoundSpec> {
        serde_json::from_slice(&fs::read(self.journal.join(JOURNAL_SPEC)).ok()?).ok()
    }

    /// Forgets an unfinished round.
    pub fn forget_unfinished(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.journal) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Puts the user's own labels to the images.
    async fn label(&self, mut images: Vec<PoolImage>) -> Result<Vec<PoolImage>, Outcome> {
        let Some(path) = self.given_labels.clone() else { return Ok(images) };
        let base = Arc::clone(&self.base);
        let read = tokio::task::spawn_blocking(move || given::read(&path, &base.classes)).await;
        let hint = "correct the list; it is read again when the next round starts";
        let mut given = read
            .expect("reading files neither panics nor is aborted")
            .map_err(|error| failed(FailureKind::BadImages, error.to_string(), hint))?;
        for image in &mut images {
            image.label = given.remove(&image.id);
        }
        if !given.is_empty() {
            warn!(images = given.len(), "labelled images are in no source; they take no part");
        }
        Ok(images)
    }

    /// The images whose pixels are kept. Lost ones are noted, so that the next scan takes their files in again.
    async fn gather(&self) -> Result<Vec<PoolImage>, Outcome> {
        let px = self.ingest.canonical_px();
        let pool = self.catalog.pool(px).await.map_err(|error| catalog_failed(&error))?;
        let ingest = self.ingest.clone();
        let sorted = tokio::task::spawn_blocking(move || {
            let located = pool.into_iter().map(|id| PoolImage { path: ingest.canonical_path(&id), id, label: None });
            located.partition::<Vec<_>, _>(|image| image.path.is_file())
        });
        let (kept, lost) = sorted.await.expect("looking for files neither panics nor is aborted");
        if !lost.is_empty() {
            warn!(images = lost.len(), "cached pixels are lost; their images stay out until they are taken in again");
            let lost: Vec<ImageId> = lost.into_iter().map(|image| image.id).collect();
            self.catalog.pixels_lost(lost).await.map_err(|error| catalog_failed(&error))?;
        }
        if (kept.len() as u64) < self.round.minimum_images {
            let message = format!("the pixels of only {} images are kept in {px} px", kept.len());
            return Err(failed(FailureKind::BadImages, message, "wait until the sources were looked through again"));
        }
        Ok(kept)
    }

    fn trainer(&self) -> Result<PathBuf, Outcome> {
        const NAME: &str = "coft-trainer";
        if let Some(trainer) = &self.round.trainer {
            return Ok(trainer.clone());
        }
        let beside = env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(NAME)));
        let installed = Path::new("/usr/libexec/coft").join(NAME);
        beside.into_iter().chain([installed]).find(|path| path.is_file()).ok_or_else(|| {
            let message = format!("{NAME} is neither beside coftd nor in /usr/libexec/coft");
            failed(FailureKind::Internal, message, "install it or set round.trainer")
        })
    }
}

/// The images of the unfinished round `old`, where `new` would do the same work but for images that came since.
fn continued(new: &RoundSpec, old: RoundSpec) -> Option<Vec<PoolImage>> {
    let same = RoundSpec { images: new.images.clone(), ..old.clone() } == new.work();
    let known: HashSet<&PoolImage> = new.images.iter().collect();
    (same && !old.images.is_empty() && old.images.iter().all(|image| known.contains(image))).then_some(old.images)
}

async fn follow(mut running: round::Running, stop: &CancellationToken, news: &mpsc::Sender<News>) -> Outcome {
    let mut stopping = false;
    loop {
        tokio::select! {
            update = running.next() => match update {
                Some(Update::Event(event)) => {
                    let _ = news.send(News::Event(event)).await;
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
    Outcome::Failed { kind, message: message.into(), hint: hint.into() }
}

fn catalog_failed(error: &CatalogError) -> Outcome {
    let kind = match error {
        CatalogError::DiskFull { .. } => FailureKind::DiskFull,
        _ => FailureKind::Internal,
    };
    failed(kind, error.to_string(), "the active generation keeps serving; look into the log of the service")
}
