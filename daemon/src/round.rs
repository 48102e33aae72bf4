//! One run of the trainer: started by coft-launch, followed through a pipe of events, stopped on request, its end
//! explained.
//!
//! This module knows the protocol (`coft_core::spec`, `coft_core::event`), but not the purpose of a round, nor what
//! becomes of its candidate.

mod lines;
mod settings;

pub use settings::{INSTALL_TRAINER, NO_TRAINER, RoundSettings};

use coft_core::event::{Event, Failure, FailureKind};
use coft_core::shown::{shown_io, shown_path};
use coft_core::spec::{PROTOCOL, RoundSpec};
use coft_launch::{Launcher, Order, Pipes, Process};
use lines::{Line, Lines};
use std::collections::VecDeque;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::net::unix::pipe;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tracing::warn;

#[derive(Debug)]
pub struct Launch {
    pub trainer: Launcher,
    pub spec: RoundSpec,
    /// The round's own directory; removed first if it exists, then created.
    pub scratch: PathBuf,
    /// See [`Order`].
    pub niceness: i32,
    /// A run that takes longer is stopped.
    pub deadline: Duration,
}

#[derive(Debug, Error)]
pub enum SpawnError {
    #[error("cannot prepare {}: {}", shown_path(path), shown_io(cause))]
    Scratch { path: PathBuf, cause: io::Error },
    #[error("cannot start the trainer {}: {cause}", shown_path(launcher.path()))]
    Start { launcher: Launcher, cause: io::Error },
}

impl SpawnError {
    pub fn kind(&self) -> FailureKind {
        match self {
            SpawnError::Scratch { cause, .. } if cause.kind() == io::ErrorKind::StorageFull => FailureKind::DiskFull,
            _ => FailureKind::Internal,
        }
    }

    pub fn hint(&self) -> &'static str {
        match self {
            SpawnError::Scratch { .. } => "check the space and the permissions of the state directory",
            SpawnError::Start { launcher: Launcher::Program(_), .. } => {
                "install coft-trainer or set round.trainer to where it is"
            }
            SpawnError::Start { launcher: Launcher::Unit(_), .. } => {
                "start the socket of the trainer's unit: systemctl start coft-trainer.socket"
            }
        }
    }
}

#[derive(Debug)]
pub enum Update {
    Event(Event),
    /// The last update of a run.
    Ended(Outcome),
}

#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The candidate directory.
    Candidate(PathBuf),
    Failed(Failure),
    Cancelled,
}

/// A running trainer. Dropping it kills the trainer.
#[derive(Debug)]
pub struct TrainerProcess {
    updates: mpsc::Receiver<Update>,
    cancel: Arc<Notify>,
    minder: JoinHandle<()>,
}

/// Time between SIGTERM and SIGKILL. The trainer checks for SIGTERM between steps, and a step of a large model may take
/// longer. Killing it is always safe, because its files are written completely or not at all. With this value a cancel
/// takes less than 2 s. [choice]
const GRACE: Duration = Duration::from_millis(1500);
/// How long the trainer's pipes are still read after its end. Without a limit, another process that holds them open
/// would delay the round. 1 s [choice].
const DRAIN: Duration = Duration::from_secs(1);
/// Number of last lines of the trainer's stderr that are kept for the message of a failure.
const STDERR_LINES: usize = 8;
/// Longest line of the trainer's stderr, B; the rest of a longer line is discarded. 4 KiB [choice].
const STDERR_LINE: usize = 4 << 10;
/// Longest event, B. 1 MiB [choice]: a thousand times the longest event that a trainer of this version writes.
const EVENT_LINE: usize = 1 << 20;

/// Writes the spec and starts the trainer with it.
pub async fn spawn(launch: Launch) -> Result<TrainerProcess, SpawnError> {
    let Launch { trainer, spec, scratch, niceness, deadline } = launch;
    let order = Order { spec: scratch.join("spec.json"), niceness };
    prepare(&scratch, &order.spec, &spec).map_err(|cause| SpawnError::Scratch { path: scratch, cause })?;
    let (process, events, stderr) =
        start(&trainer, &order).await.map_err(|cause| SpawnError::Start { launcher: trainer, cause })?;
    let (send, updates) = mpsc::channel(64);
    let cancel = Arc::new(Notify::new());
    let run = Run { process, deadline: Instant::now() + deadline, allowed: deadline, candidate: spec.candidate_dir };
    let cancelled = Arc::clone(&cancel);
    let minder = tokio::spawn(async move {
        let stderr = StderrTail::listen(stderr);
        let outcome = run.mind(events, stderr, &cancelled, &send).await;
        // After a shutdown there is no receiver any more.
        let _ = send.send(Update::Ended(outcome)).await;
    });
    Ok(TrainerProcess { updates, cancel, minder })
}

/// Starts a trainer, with pipes for its events and its standard error.
async fn start(trainer: &Launcher, order: &Order) -> io::Result<(Process, pipe::Receiver, pipe::Receiver)> {
    let ((events, to_events), (stderr, to_stderr)) = (io::pipe()?, io::pipe()?);
    let pipes = Pipes { events: to_events.into(), stderr: to_stderr.into() };
    let process = Process::start(trainer, order, pipes).await?;
    let receiver = |reader: io::PipeReader| pipe::Receiver::from_owned_fd(reader.into());
    Ok((process, receiver(events)?, receiver(stderr)?))
}

impl TrainerProcess {
    /// Waits for the next update; `None` after [`Update::Ended`].
    pub async fn next(&mut self) -> Option<Update> {
        self.updates.recv().await
    }

    /// Asks the trainer to stop; the run ends as cancelled within 2 s.
    pub fn cancel(&self) {
        self.cancel.notify_one();
    }
}

impl Drop for TrainerProcess {
    fn drop(&mut self) {
        self.minder.abort();
    }
}

fn prepare(scratch: &Path, spec_path: &Path, spec: &RoundSpec) -> io::Result<()> {
    match fs::remove_dir_all(scratch) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    DirBuilder::new().recursive(true).mode(0o700).create(scratch)?;
    fs::write(spec_path, serde_json::to_vec_pretty(spec).expect("a spec is plain data"))
}

struct Run {
    process: Process,
    deadline: Instant,
    allowed: Duration,
    candidate: PathBuf,
}

/// Why the service wants the trainer to stop.
enum Stopping {
    Cancelled,
    Late,
    ProtocolError(String),
}

impl Run {
    async fn mind(
        mut self,
        events: pipe::Receiver,
        stderr: StderrTail,
        cancel: &Notify,
        updates: &mpsc::Sender<Update>,
    ) -> Outcome {
        let mut lines = Lines::new(events, EVENT_LINE);
        // The trainer's exit status, and until when its events are still read.
        let mut ended: Option<(io::Result<ExitStatus>, Instant)> = None;
        let mut stopping: Option<Stopping> = None;
        let mut last: Option<Event> = None;
        loop {
            let limit = ended.as_ref().map_or(self.deadline, |(_, until)| *until);
            tokio::select! {
                line = lines.next() => match line {
                    Ok(Some(line)) => match understood(&line) {
                        Ok(event) => {
                            if matches!(event, Event::Finished | Event::Failed(_)) {
                                last = Some(event.clone());
                            }
                            let _ = updates.send(Update::Event(event)).await;
                        }
                        Err(fault) if stopping.is_none() => self.stop(&mut stopping, Stopping::ProtocolError(fault)).await,
                        Err(_) => {}
                    },
                    Ok(None) => break,
                    Err(error) => {
                        self.stop(&mut stopping, Stopping::ProtocolError(error.to_string())).await;
                        break;
                    }
                },
                status = self.process.wait(), if ended.is_none() => ended = Some((status, Instant::now() + DRAIN)),
                () = cancel.notified() => self.stop(&mut stopping, Stopping::Cancelled).await,
                () = sleep_until(limit) => match stopping {
                    _ if ended.is_some() => break,
                    None => self.stop(&mut stopping, Stopping::Late).await,
                    Some(_) => {
                        // The time for a voluntary end has passed.
                        self.process.kill().await;
                        break;
                    }
                },
            }
        }
        // The pipe is closed or the process was killed. The process ends soon, or is killed.
        let limit = if stopping.is_some() { self.deadline } else { Instant::now() + GRACE };
        let status = match ended {
            Some((status, _)) => status,
            None => match timeout_at(limit, self.process.wait()).await {
                Ok(status) => status,
                Err(_) => {
                    self.process.kill().await;
                    self.process.wait().await
                }
            },
        };
        let stderr = stderr.until_the_end().await;
        self.outcome(stopping, last, status, &stderr)
    }

    async fn stop(&mut self, stopping: &mut Option<Stopping>, why: Stopping) {
        if stopping.is_none() {
            *stopping = Some(why);
            self.deadline = Instant::now() + GRACE;
            self.process.terminate().await;
        }
    }

    fn outcome(
        &self,
        stopping: Option<Stopping>,
        last: Option<Event>,
        status: io::Result<ExitStatus>,
        stderr: &VecDeque<String>,
    ) -> Outcome {
        match (stopping, last) {
            (Some(Stopping::Cancelled), _) => Outcome::Cancelled,
            (Some(Stopping::Late), _) => failed(
                format!("the trainer took longer than {:?}", self.allowed),
                "raise round.deadline, or make the round smaller",
            ),
            (Some(Stopping::ProtocolError(fault)), _) => failed(
                format!("the trainer does not speak this daemon's protocol: {fault}"),
                "install coftd and coft-trainer of the same version",
            ),
            (None, Some(Event::Failed(Failure { kind: FailureKind::Cancelled, .. }))) => Outcome::Cancelled,
            (None, Some(Event::Failed(failure))) => Outcome::Failed(failure),
            (None, Some(Event::Finished)) if self.candidate.is_dir() => Outcome::Candidate(self.candidate.clone()),
            (None, _) => died(status, stderr),
        }
    }
}

fn understood(line: &Line) -> Result<Event, String> {
    if line.cut {
        return Err(format!("an event of more than {EVENT_LINE} bytes"));
    }
    let event = serde_json::from_slice(&line.bytes).map_err(|error| format!("{error} in {:.100?}", line.text()))?;
    match event {
        Event::Started { protocol, .. } if protocol != PROTOCOL => {
            Err(format!("it speaks version {protocol}, this is {PROTOCOL}"))
        }
        event => Ok(event),
    }
}

fn died(status: io::Result<ExitStatus>, stderr: &VecDeque<String>) -> Outcome {
    let said = match stderr.back() {
        Some(last) => format!("; its last words: {last}"),
        None => String::new(),
    };
    let status = match status {
        Ok(status) => status,
        Err(error) => return failed(format!("the trainer's end is not known: {error}{said}"), "look into the log"),
    };
    match status.signal() {
        Some(libc::SIGKILL) => failed(
            "the trainer was killed (SIGKILL)".to_owned(),
            "if the kernel did it for want of memory (journalctl -k tells), lower the batch sizes in [training]",
        ),
        Some(signal) => failed(format!("the trainer ended by signal {signal}{said}"), "look into the log"),
        None => failed(format!("the trainer ended without a candidate ({status}){said}"), "look into the log"),
    }
}

fn failed(message: String, hint: &str) -> Outcome {
    Outcome::Failed(Failure::new(FailureKind::Internal, message, hint))
}

/// Reads the trainer's standard error and writes each line to the log.
struct StderrTail {
    last: Arc<Mutex<VecDeque<String>>>,
    listener: JoinHandle<()>,
}

impl StderrTail {
    fn listen(stderr: pipe::Receiver) -> Self {
        let last = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&last);
        let listener = tokio::spawn(async move {
            let mut lines = Lines::new(stderr, STDERR_LINE);
            // Read to the end even if lines are not valid text: a trainer whose standard error is closed cannot report
            // why it fails.
            while let Ok(Some(line)) = lines.next().await {
                let line = line.text();
                warn!(line, "the trainer said: {line}");
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() == STDERR_LINES {
                    kept.pop_front();
                }
                kept.push_back(line);
            }
        });
        Self { last, listener }
    }

    /// The last lines, once the trainer has ended. Does not wait for another program that holds the trainer's standard
    /// error open.
    async fn until_the_end(mut self) -> VecDeque<String> {
        if timeout(DRAIN, &mut self.listener).await.is_err() {
            warn!("another program holds the standard error of a trainer that has ended; it is not waited for");
            self.listener.abort();
        }
        std::mem::take(&mut *self.last.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests;
