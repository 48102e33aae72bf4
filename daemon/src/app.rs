//! The service as a whole, put together and taken apart again: the one module that knows all the others.

mod board;
mod director;
mod import;
mod intake;
mod rounds;
mod verdict;

pub use import::Settings as ImportSettings;
pub use rounds::RoundSettings;

use crate::catalog::{Catalog, CatalogError, Entry};
use crate::config::Config;
use crate::control::{Control, RoundState, RoundStatus, Snapshot, SourceStatus};
use crate::ingest::Ingest;
use crate::model::{self, Base, ModelError};
use crate::serve::Classifier;
use crate::store::{Store, StoreError};
use crate::telemetry::events;
use crate::{bus, systemd, watch};
use board::Board;
use coft_core::ids::RoundId;
use coft_core::lifecycle::Lifecycle;
use director::{Director, Staff};
use intake::Intake;
use rounds::Workshop;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::future::Future;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use thiserror::Error;
use tokio::sync::mpsc;
use tracing::{info, warn};
use verdict::Court;

/// Where TensorRT keeps its engines, in the state directory.
const ENGINES: &str = "engines";

#[derive(Debug, Error)]
pub enum AppError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error("the state directory {} cannot be used: {source}", path.display())]
    StateDir { path: PathBuf, source: io::Error },
    #[error("the state directory {} is in use by another coftd; stop it or use another --state-dir", path.display())]
    InUse { path: PathBuf },
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("watching cannot start: {0}")]
    Watch(io::Error),
    #[error(transparent)]
    Bus(#[from] bus::BusError),
}

impl AppError {
    /// Whether the configuration, or a file that it names, has to change before starting again makes sense.
    pub fn is_configuration(&self) -> bool {
        matches!(self, AppError::Model(error) if !matches!(error, ModelError::Unpack { .. }))
    }
}

/// Runs the service until `stop` is ready.
pub async fn run(config: Config, stop: impl Future<Output = ()>) -> Result<(), AppError> {
    systemd::status("starting");
    let state_dir = &config.state_dir;
    let _lock = lock(state_dir)?;
    let base = Arc::new(model::prepare(&config.classifier, &state_dir.join("models"))?);
    let catalog = Catalog::open(&state_dir.join("catalog.sqlite"))?;
    let store = Store::open(state_dir)?;
    for warning in store.warnings() {
        warn!(warning, "the store of generations has suffered: {warning}");
    }
    store.clean_scratch()?;
    let (classifier, controller) = Classifier::start(config.serve.clone());
    let court = Court::new(store, controller.keep_engines(config.state_dir.join(ENGINES)));
    close_interrupted_rounds(&catalog, &court).await?;
    forget_cleared_quarantine(&catalog).await?;

    let rounds = catalog.rounds().await?;
    let last = rounds.last().map_or(RoundId(0), |round| round.round);
    let (board, snapshot) = Board::new(first_snapshot(&config, &base, rounds));

    let ingest = Ingest::new(&config.ingest, base.preprocess.clone(), state_dir.join("pixels"));
    let (notice_sender, notices) = mpsc::channel(NOTICES);
    let watch = watch::start(&config.sources, &notice_sender).map_err(AppError::Watch)?;
    drop(notice_sender);
    let (news_sender, intake_news) = mpsc::channel(NEWS);
    let intake = Intake::start(watch, notices, ingest.clone(), catalog.clone(), news_sender);

    let (command_sender, commands) = mpsc::channel(COMMANDS);
    let workshop = Workshop {
        catalog,
        ingest,
        base,
        round: config.round.clone(),
        settings: config.settings.clone(),
        scratch: court.scratch(),
        journal: state_dir.join("journal"),
        given_labels: config.classifier.given_labels.clone(),
        import: config.import.clone(),
    };
    let lifecycle = Lifecycle::new(last, config.round.minimum_images);
    let schedule = config.schedule.clone();
    let mut director = Director::new(Staff { workshop, court, lifecycle, schedule, board, intake });
    director.serve_active().await;

    let control = Control { commands: command_sender, snapshot, classifier };
    let bus = bus::start(&config.bus, control).await?;
    systemd::ready();
    let (state_dir, bus_name) = (state_dir.display(), &config.bus);
    info!(
        message_id = events::STARTED,
        %state_dir,
        bus = bus_name,
        "service started on the bus {bus_name} with the state directory {state_dir}"
    );
    let ended = async {
        tokio::select! {
            () = stop => {}
            () = bus.lost() => {}
        }
    };
    let intake = director.run(commands, intake_news, ended).await;

    info!(message_id = events::STOPPING, "service stops");
    systemd::stopping();
    intake.stop().await;
    Ok(bus.stop().await?)
}

/// Notices of the watch, news of the intake and commands of clients that may wait; whoever sends more waits, too.
const NOTICES: usize = 256;
const NEWS: usize = 64;
const COMMANDS: usize = 64;

/// Makes the state directory and takes it: two services would spoil each other's files.
fn lock(state_dir: &Path) -> Result<File, AppError> {
    let failed = |source| AppError::StateDir { path: state_dir.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o750).create(state_dir).map_err(failed)?;
    let lock = File::create(state_dir.join("lock")).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(AppError::InUse { path: state_dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Rounds that ran when the last service ended without a word: promoted if their generation is the active one.
async fn close_interrupted_rounds(catalog: &Catalog, court: &Court) -> Result<(), AppError> {
    for mut round in catalog.rounds().await? {
        if round.state != RoundState::Running {
            continue;
        }
        let (number, promoted) = (round.round, court.promoted_by(round.round));
        round.state = promoted.map_or(RoundState::Interrupted, RoundState::Promoted);
        round.ended = Some(unix_time());
        catalog.save_round(&round).await?;
        let outcome =
            promoted.map_or("is interrupted".into(), |generation| format!("has promoted generation {generation}"));
        info!(
            message_id = events::ROUND_INTERRUPTED,
            coft.round = number.0,
            state = ?round.state,
            "round {number} had not ended when the service last stopped; it {outcome}"
        );
    }
    Ok(())
}

/// Quarantined files that were removed while nobody watched are nobody's problem any more.
async fn forget_cleared_quarantine(catalog: &Catalog) -> Result<(), AppError> {
    let quarantine = catalog.quarantine().await?;
    let cleared = quarantine.into_iter().filter(|(path, _)| fs::symlink_metadata(path).is_err());
    let entries: Vec<_> = cleared.map(|(path, _)| Entry::Gone(path)).collect();
    Ok(catalog.record(entries).await?)
}

fn first_snapshot(config: &Config, base: &Base, rounds: Vec<RoundStatus>) -> Snapshot {
    let source =
        |source: &watch::Source| SourceStatus { path: source.path.clone(), images: 0, quarantined: 0, problem: None };
    Snapshot {
        classifier: config.classifier.name.clone(),
        classes: base.classes.clone(),
        sources: config.sources.iter().map(source).collect(),
        rounds,
        ..Snapshot::default()
    }
}

fn unix_time() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}
