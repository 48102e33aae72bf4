//! The service as a whole, put together and taken apart again: the one module that knows all the others.

mod answers;
mod board;
mod diagnosis;
mod director;
mod errands;
mod import;
mod intake;
mod repair;
mod rounds;
mod setup;
mod start;
mod verdict;

use crate::config::{Config, ConfigFile, Loaded};
use crate::control::{Command, Control, Snapshot, SourceAnswers, SourceStatus};
use crate::decode_budget::DecodeBudget;
use crate::footprint::Footprint;
use crate::model::SetupError;
use crate::room::Reserve;
use crate::serve::Classifier;
use crate::state_dir::StateDirError;
use crate::store::StoreError;
use crate::telemetry::{LogControl, events};
use crate::{answers as answered, bus, systemd, watch};
use board::Board;
use coft_core::shown::shown_path;
use errands::Errands;
use start::{Complete, Start};
use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;
use thiserror::Error;
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tracing::info;

/// Where TensorRT keeps its engines, in the state directory.
const ENGINES: &str = "engines";

#[derive(Debug, Error)]
pub enum AppError {
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("watching cannot start: {0}")]
    Watch(io::Error),
    #[error(transparent)]
    Bus(#[from] bus::BusError),
}

impl AppError {
    /// Whether the configuration has to change before starting again makes sense.
    pub fn is_configuration(&self) -> bool {
        matches!(self, AppError::Setup(error) if error.is_configuration())
    }
}

/// After the bus has gone, how long a stop may take to arrive: where the machine shuts down, both come at once, and
/// that is no failure. 2 s [choice].
const BUS_GONE: Duration = Duration::from_secs(2);
/// How long clients are told what is wrong with a configuration before the service ends. 3 s [choice]: whoever has it
/// started by a call gets the answer within milliseconds, and systemd refuses to start what has been started five times
/// in 10 s.
const LAST_WORD: Duration = Duration::from_secs(3);
/// Commands of clients that may wait; whoever sends more waits, too.
const COMMANDS: usize = 64;

/// Runs the service until `stop` is ready. Each of the `hangups` has it read its configuration again.
///
/// The name on the bus comes first, and with it systemd hears that the service is ready: whoever calls is answered from
/// then on, with what the service waits for where it can do no better yet.
///
/// # Errors
/// The bus cannot be used or has gone, another service has the state directory, or a value of the configuration cannot
/// hold.
pub async fn run(
    file: ConfigFile,
    loaded: Loaded,
    log: LogControl,
    stop: impl Future<Output = ()>,
    hangups: Signal,
) -> Result<(), AppError> {
    let (mut stop, config) = (pin!(stop), loaded.config.clone());
    systemd::status("starting");
    let budget = DecodeBudget::new(&config.decode);
    let (classifier, controller) = Classifier::start(config.serve.clone(), budget.clone());
    let (board, snapshot) = Board::new(first_snapshot(&config));
    let (command_sender, mut commands) = mpsc::channel(COMMANDS);
    let (teller, answers) = answered::channel();
    let (errands, asked) = mpsc::channel(COMMANDS);
    let reserve = Reserve::of(0);
    let runner = Errands {
        file,
        loaded,
        commands: command_sender.clone(),
        snapshot: snapshot.clone(),
        reserve: reserve.clone(),
    };
    let footprint = Footprint::new(config.state_dir.clone());
    let classifies = classifier.clone();
    let control =
        Control { commands: command_sender, errands, snapshot, classifier: classifies, answers, footprint, log };
    let bus = tokio::select! {
        bus = bus::start(&config.bus, control) => bus?,
        () = &mut stop => return Ok(()),
    };
    systemd::ready();
    tokio::spawn(runner.run(asked, hangups));
    let (state_dir, bus_name) = (shown_path(&config.state_dir), &config.bus);
    info!(
        message_id = events::STARTED,
        %state_dir,
        bus = bus_name,
        "service started on the bus {bus_name} with the state directory {state_dir}"
    );

    let asked_to_stop = Cell::new(false);
    let ended = async {
        let stopped = tokio::select! {
            () = &mut stop => true,
            () = bus.lost() => timeout(BUS_GONE, &mut stop).await.is_ok(),
        };
        asked_to_stop.set(stopped);
    };
    let start = Start::new(config, board, (classifier, controller), (budget, reserve), teller);
    work(start, &mut commands, ended).await?;
    match bus.stop().await {
        Err(bus::BusError::Lost) if asked_to_stop.get() => Ok(()),
        stopped => Ok(stopped?),
    }
}

/// Works from the start on until `ended` is ready, and finishes what is under way then.
async fn work(
    start: Start,
    commands: &mut mpsc::Receiver<Command>,
    ended: impl Future<Output = ()>,
) -> Result<(), AppError> {
    let mut ended = pin!(ended);
    let stops = || {
        info!(message_id = events::STOPPING, "service stops");
        systemd::stopping();
    };
    match start.run(commands, ended.as_mut()).await {
        Ok(Some(Complete { director, answering, news, lock })) => {
            let intake = director.run(commands, news, ended).await;
            stops();
            answering.stop().await;
            intake.stop().await;
            drop(lock);
        }
        Ok(None) => stops(),
        Err(error) => {
            if error.is_configuration() {
                tokio::select! {
                    () = sleep(LAST_WORD) => {}
                    () = ended => {}
                }
            }
            return Err(error);
        }
    }
    Ok(())
}

fn first_snapshot(config: &Config) -> Snapshot {
    let source = |source: &watch::Source| {
        let answers = SourceAnswers { wanted: source.classify, ..SourceAnswers::default() };
        let (path, key) = (source.path.clone(), source.key());
        SourceStatus { path, key, images: 0, quarantined: 0, waiting: 0, problem: None, answers }
    };
    Snapshot {
        classifier: config.classifier.name.clone(),
        sources: config.sources.iter().map(source).collect(),
        ..Snapshot::default()
    }
}
