//! Checks again and again, while the service runs, what the configuration names outside of itself: what rounds need may
//! be missing or come back, and files that were read at the start may be edited.

use crate::catalog::Catalog;
use crate::config::Config;
use crate::model::{self, Base};
use crate::round::{INSTALL_TRAINER, NO_TRAINER, RoundSettings};
use crate::serve;
use crate::telemetry::events;
use coft_core::job::Trigger;
use coft_core::shown::shown_path;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, Thread};
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::{info, warn};

/// How often everything is checked while something is missing, and so how soon it is used once it is there. 5 s
/// [choice].
pub const INTERVAL: Duration = Duration::from_secs(5);
/// The same while nothing is missing. 2 min [choice]: a change is known at most this late, and the machine sleeps
/// meanwhile.
const IDLE_INTERVAL: Duration = Duration::from_secs(120);

/// What is checked.
#[derive(Clone)]
pub struct Setup {
    pub classifier: model::Settings,
    pub base: Arc<Base>,
    pub round: RoundSettings,
    pub serve: serve::Settings,
    pub catalog: Catalog,
}

/// What was found; everything is empty if all is as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The trainer is not installed: only imports and activations start, and that is no mistake.
    pub serves_only: bool,
    /// What every round waits for.
    rounds: Vec<String>,
    /// What rounds that adapt wait for in addition.
    adapting: Option<String>,
    /// Files that have changed since the service read them.
    edited: Vec<String>,
    /// What happened to a damaged catalogue.
    pub catalog: Option<String>,
}

impl Findings {
    /// The findings before the first check: no round starts on a guess.
    pub fn unknown() -> Self {
        Self { rounds: vec!["the files that rounds need are being looked for".into()], ..Self::default() }
    }

    /// Whether something is missing that may come at any time.
    fn is_waiting(&self) -> bool {
        !self.rounds.is_empty() || self.adapting.is_some()
    }

    /// Why a job of this kind has to wait; none if it does not.
    pub fn hold(&self, trigger: Trigger) -> Option<String> {
        if !trigger.kind().needs_trainer() {
            return None;
        }
        if self.serves_only {
            return Some(serves_only());
        }
        let adapting = self.adapting.iter().filter(|_| trigger.adapts());
        let waits: Vec<&str> = self.rounds.iter().chain(adapting).map(String::as_str).collect();
        (!waits.is_empty()).then(|| waiting(&waits.join("; ")))
    }

    /// Logs what differs from what was known.
    pub fn log_after(&self, known: &Self) {
        let waits = |found: &Self| -> Vec<String> { found.rounds.iter().chain(&found.adapting).cloned().collect() };
        let (now, before) = (waits(self), waits(known));
        for problem in now.iter().filter(|problem| !before.contains(problem)) {
            warn!(
                message_id = events::SETUP_PROBLEM,
                problem,
                "rounds wait, and what serves goes on: {}",
                waiting(problem)
            );
        }
        if self.serves_only && !known.serves_only {
            info!(message_id = events::SETUP_PROBLEM, "{}", serves_only());
        }
        for problem in self.edited.iter().filter(|problem| !known.edited.contains(problem)) {
            warn!(message_id = events::SETUP_PROBLEM, problem, "{problem}");
        }
        if now.is_empty() && !before.is_empty() && !self.serves_only && *known != Self::unknown() {
            info!(message_id = events::SETUP_COMPLETE, "what rounds waited for is there");
        }
    }
}

/// The text that is shown as the problem of the set-up.
impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wait = self.hold(Trigger::Schedule).filter(|_| !self.serves_only);
        let wait = wait.map(|why| format!("rounds wait: {why}"));
        let parts: Vec<&str> = wait.iter().chain(&self.edited).chain(&self.catalog).map(String::as_str).collect();
        f.write_str(&parts.join("; "))
    }
}

/// Why no round starts if the trainer is not installed, and what to do.
pub fn serves_only() -> String {
    format!("{NO_TRAINER}; to let it make models: {INSTALL_TRAINER}")
}

/// The problem, and how often it is checked again.
pub fn waiting(problem: &str) -> String {
    format!("{problem}; it is tried again every {} s", INTERVAL.as_secs())
}

impl Setup {
    pub fn new(config: &Config, base: &Arc<Base>, catalog: &Catalog) -> Self {
        let Config { classifier, round, serve, .. } = config.clone();
        Self { classifier, base: Arc::clone(base), round, serve, catalog: catalog.clone() }
    }

    /// Checks everything; waits for the disk.
    pub fn look(&self) -> Findings {
        let trainer = self.round.find_trainer().err();
        // A trainer that a setting names and that does not exist is missing.
        let serves_only = trainer.is_some() && self.round.trainer.is_none();
        let trainer = trainer.filter(|_| !serves_only);
        let library = serve::find_library(&self.serve).err().map(|error| format!("serve.library: {error}"));
        let given = self.classifier.given_labels.as_deref().and_then(|path| {
            let problem = unreadable(path)?;
            Some(format!("classifier.given-labels: the label list {} cannot be read: {problem}", shown_path(path)))
        });
        Findings {
            serves_only,
            rounds: trainer.into_iter().chain(library).collect(),
            adapting: given,
            edited: model::edited(&self.classifier, &self.base).iter().map(told_edited).collect(),
            catalog: self.catalog.note(),
        }
    }

    /// Checks everything at once and from then on, and reports every change. A thread of its own does this: a disk that
    /// does not answer blocks nothing else, and nothing else has to wake up for it.
    pub fn follow(self) -> Looks {
        let (sender, findings) = mpsc::channel(1);
        let thread = thread::Builder::new().name("setup".into()).spawn(move || {
            let mut known = Findings::unknown();
            while !sender.is_closed() {
                let found = self.look();
                let pause = if found.is_waiting() { INTERVAL } else { IDLE_INTERVAL };
                if found != known {
                    known = found.clone();
                    if sender.blocking_send(found).is_err() {
                        return;
                    }
                }
                thread::park_timeout(pause);
            }
        });
        // If no thread can be started, rounds wait, and the status says for what.
        Looks { findings, thread: thread.ok().map(|handle| handle.thread().clone()) }
    }
}

/// Receives what [`Setup::follow`] finds; when it is dropped, the checks end.
pub struct Looks {
    findings: mpsc::Receiver<Findings>,
    thread: Option<Thread>,
}

impl Looks {
    /// The next findings that differ from those before.
    pub async fn next(&mut self) -> Option<Findings> {
        self.findings.recv().await
    }

    /// Has everything checked now.
    pub fn now(&self) {
        self.thread.iter().for_each(Thread::unpark);
    }

    #[cfg(test)]
    pub fn none() -> Self {
        Self { findings: mpsc::channel(1).1, thread: None }
    }
}

impl Drop for Looks {
    fn drop(&mut self) {
        self.findings.close();
        self.now();
    }
}

/// What to do about a label or template file that was edited.
fn told_edited((setting, path): &(&str, PathBuf)) -> String {
    let path = shown_path(path);
    format!("{setting}: {path} has changed since the service read it; to use it: coftctl reload")
}

fn unreadable(path: &Path) -> Option<String> {
    // Opening a pipe would wait for somebody to write into it.
    match path.metadata() {
        Ok(found) if !found.is_file() => Some("it is no regular file".into()),
        Ok(_) => File::open(path).err().map(|error| error.to_string()),
        Err(error) => Some(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
