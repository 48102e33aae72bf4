//! Builds the service from its parts and ends it; the only module that knows all the others.

mod answers;
mod classifiers;
mod coordination;
mod diagnosis;
mod import;
mod intake;
mod job_history;
mod promoter;
mod repair;
#[cfg(test)]
mod samples;
mod service;
mod setup;
mod start;
mod status_publisher;
mod supervisor;
mod training;

use crate::config::{ConfigFile, Loaded};
use crate::control::Service;
use crate::decode_budget::DecodeBudget;
use crate::footprint::Footprint;
use crate::model::SetupError;
use crate::serve::ModelMemory;
use crate::state_dir::StateDirError;
use crate::store::StoreError;
use crate::telemetry::{LogControl, events};
use crate::{bus, systemd};
use classifiers::Classifiers;
use coft_core::shown::shown_path;
use service::ServiceLoop;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;
use thiserror::Error;
use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{Span, error, info, warn};

/// Directory for TensorRT's engines, in the state directory.
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
    #[error("a part of the service has failed; report this with what is logged before it")]
    Panicked,
}

impl AppError {
    /// Whether starting again is useless until the configuration has changed.
    pub fn is_configuration(&self) -> bool {
        matches!(self, AppError::Setup(error) if error.is_configuration())
    }
}

/// How long to wait for the request to stop after the bus has gone: when the machine shuts down, both happen at once,
/// and that is no failure. 2 s [choice].
const BUS_GONE: Duration = Duration::from_secs(2);
/// How long calls are answered with the mistake in a configuration before the service ends. 3 s [choice]: a caller
/// whose call started the service gets the answer within milliseconds, and systemd refuses to start a service that was
/// started five times in 10 s.
const LAST_WORD: Duration = Duration::from_secs(3);
/// Maximum number of commands to the service that wait; a sender of more waits, too.
const SERVICE_COMMANDS: usize = 64;

/// Runs the service until `stop` is ready. Each of the `hangups` makes it read its configuration again.
///
/// The service requests its name on the bus first and then reports to systemd that it is ready: from then on every call
/// is answered, if only with what the service still waits for.
///
/// # Errors
/// The bus cannot be used or has gone, another service uses the state directory, or a value of the configuration is
/// impossible.
pub async fn run(
    file: ConfigFile,
    loaded: Loaded,
    log: LogControl,
    stop: impl Future<Output = ()>,
    hangups: Signal,
) -> Result<(), AppError> {
    let (mut stop, config) = (pin!(stop), loaded.config.clone());
    systemd::status("starting");
    let memory =
        config.serve.memory.map_or_else(ModelMemory::half_of_the_machine, |most| ModelMemory::new(most.as_u64()));
    let (mut classifiers, mut failed) = Classifiers::new(DecodeBudget::new(&config.decode), memory);
    finish_removals(config.classifiers_dir());
    // The classifiers do nothing before `ready`: from then on everybody can see what they do.
    let ready = CancellationToken::new();
    let alone = loaded.classifiers().count() == 1;
    loaded.classifiers().for_each(|config| classifiers.start(config.clone(), alone, ready.clone()));
    let shown = classifiers.shown();
    let (service_commands, asked) = mpsc::channel(SERVICE_COMMANDS);
    let footprint = Footprint::new(config.state_dir.clone());
    let (left_out, problems) = watch::channel(loaded.unusable.iter().map(ToString::to_string).collect::<Vec<_>>());
    for problem in problems.borrow().iter() {
        error!(
            message_id = events::SETUP_PROBLEM,
            problem, "a classifier is left out, and the others go on: {problem}"
        );
    }
    let service = Service { classifiers: shown, left_out: problems, service_commands, footprint, log };
    let bus = tokio::select! {
        bus = bus::start(&config.bus, service) => bus?,
        () = &mut stop => return Ok(()),
    };
    systemd::ready();
    ready.cancel();
    let ended = CancellationToken::new();
    let runner = ServiceLoop { file, loaded, classifiers, left_out, ended: ended.clone() };
    let working = tokio::spawn(runner.run(asked, hangups));
    let (state_dir, bus_name) = (shown_path(&config.state_dir), &config.bus);
    info!(
        message_id = events::STARTED,
        %state_dir,
        bus = bus_name,
        "service started on the bus {bus_name} with the state directory {state_dir}"
    );

    let (stopped, outcome) = tokio::select! {
        () = &mut stop => (true, Ok(())),
        () = bus.lost() => (timeout(BUS_GONE, &mut stop).await.is_ok(), Ok(())),
        Some(error) = failed.recv() => {
            if error.is_configuration() {
                tokio::select! {
                    () = sleep(LAST_WORD) => {}
                    () = &mut stop => {}
                }
            }
            (false, Err(error))
        }
    };
    info!(message_id = events::STOPPING, "service stops");
    systemd::stopping();
    ended.cancel();
    if let Err(error) = working.await {
        error!(%error, "the service did not end as it should: {error}");
    }
    outcome?;
    match bus.stop().await {
        Err(bus::BusError::Lost) if stopped => Ok(()),
        stopped => Ok(stopped?),
    }
}

/// Runs work that waits for the disk or the processor on another thread than the loop's.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let span = Span::current();
    match tokio::task::spawn_blocking(move || span.in_scope(work)).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Removes what is left of classifiers whose removal was cut off. Nothing waits for it: the disk may hang.
fn finish_removals(dir: PathBuf) {
    tokio::task::spawn_blocking(move || {
        if let Err(error) = coft_fs::remove_unfinished(&dir) {
            warn!(problem = %error, "what is left of a removed classifier cannot be removed: {error}");
        }
    });
}
