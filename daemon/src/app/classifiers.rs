//! The classifiers that run. Each has a task of its own from its start on, and knows nothing of the others except what
//! they share. It can be started anew with other settings while the others go on.

use super::AppError;
use super::coordination::{Coordinator, Member};
use super::start::{Complete, Start};
use super::status_publisher::StatusPublisher;
use crate::answers::{self, Teller};
use crate::config::Config;
use crate::control::{Command, CommandError, Control, Snapshot, SourceAnswers, SourceStatus};
use crate::decode_budget::DecodeBudget;
use crate::disk_space::Reserve;
use crate::serve::{Classifier, Controller, ModelMemory};
use crate::watch;
use coft_core::lifecycle::Refusal;
use futures_util::FutureExt;
use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot, watch as channel};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, error, error_span};

/// Maximum number of clients' commands that wait, for each classifier; a sender of more waits, too.
const COMMANDS: usize = 64;

/// The owner of every classifier.
pub struct Classifiers {
    budget: DecodeBudget,
    memory: ModelMemory,
    coordinator: Coordinator,
    numbers: SourceNumbers,
    running: Vec<RunningClassifier>,
    shown: channel::Sender<Vec<Control>>,
    failed: mpsc::Sender<AppError>,
}

/// A classifier that runs.
pub struct RunningClassifier {
    pub config: Config,
    pub control: Control,
    pub reserve: Reserve,
    /// Sends the task a configuration to start anew with.
    anew: mpsc::Sender<Config>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// What a task keeps when it starts anew.
struct ClassifierTask {
    serves: (Classifier, Controller),
    budget: DecodeBudget,
    reserve: Reserve,
    teller: Teller,
    member: Member,
    published: channel::Sender<Snapshot>,
    numbers: SourceNumbers,
    commands: mpsc::Receiver<Command>,
    anew: mpsc::Receiver<Config>,
    stop: CancellationToken,
}

/// Numbers of sources on the bus: a source that goes and comes back gets the same number again.
#[derive(Clone, Default)]
struct SourceNumbers(Arc<Mutex<HashMap<(String, PathBuf), usize>>>);

impl SourceNumbers {
    fn of(&self, classifier: &str, source: &watch::Source) -> usize {
        let mut numbers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = numbers.len();
        *numbers.entry((classifier.to_owned(), source.key())).or_insert(next)
    }
}

impl Classifiers {
    /// No classifiers yet, and the receiver of failures that end the service.
    pub fn new(budget: DecodeBudget, memory: ModelMemory) -> (Self, mpsc::Receiver<AppError>) {
        let (failed, failures) = mpsc::channel(1);
        let (coordinator, numbers, shown) =
            (Coordinator::new(), SourceNumbers::default(), channel::channel(Vec::new()).0);
        (Self { budget, memory, coordinator, numbers, running: Vec::new(), shown, failed }, failures)
    }

    /// The list of classifiers that the bus shows.
    pub fn shown(&self) -> channel::Receiver<Vec<Control>> {
        self.shown.subscribe()
    }

    pub fn running(&self) -> &[RunningClassifier] {
        &self.running
    }

    /// Starts a classifier, which begins its work once `ready` is cancelled. If it is `alone`, the service ends when
    /// the classifier lacks what it cannot do without.
    pub fn start(&mut self, config: Config, alone: bool, ready: CancellationToken) {
        let name = config.classifier.name.clone();
        let (classifier, controller) = Classifier::start(config.serve.clone(), self.budget.clone());
        let controller = controller.sharing(self.memory.clone());
        let (published, snapshot) = channel::channel(self.numbers.first_snapshot(&config, Snapshot::default()));
        let (sender, commands) = mpsc::channel(COMMANDS);
        let (teller, answers) = answers::channel();
        let (anew, configs) = mpsc::channel(1);
        let (stop, reserve) = (CancellationToken::new(), Reserve::of(0));
        let control = Control {
            name: name.clone(),
            apart: config.apart,
            commands: sender,
            snapshot,
            classifier: classifier.clone(),
            answers,
        };
        let task = ClassifierTask {
            serves: (classifier, controller),
            budget: self.budget.clone(),
            reserve: reserve.clone(),
            teller,
            member: self.coordinator.join(&name, alone),
            published,
            numbers: self.numbers.clone(),
            commands,
            anew: configs,
            stop: stop.clone(),
        };
        let (first, failed, stopped) = (config.clone(), self.failed.clone(), stop.clone());
        let work = async move {
            if stopped.run_until_cancelled(ready.cancelled()).await.is_none() {
                return;
            }
            let lived = AssertUnwindSafe(task.live(first)).catch_unwind().await;
            // The first failure ends the service; a panic has been logged already.
            if let Err(error) = lived.unwrap_or_else(|_| Err(AppError::Panicked)) {
                let _ = failed.try_send(error);
            }
        };
        // If there are several classifiers, each line of the log names its classifier.
        let span = if alone { Span::none() } else { error_span!("classifier", coft.classifier = name) };
        let task = tokio::spawn(work.instrument(span));
        self.running.push(RunningClassifier { config, control, reserve, anew, stop, task });
        self.show();
    }

    /// Starts a classifier anew with another configuration, or starts a new one. The generation that serves goes on
    /// answering meanwhile, unless `[serve]` has changed.
    pub async fn start_anew(&mut self, config: Config) {
        let name = config.classifier.name.clone();
        if let Some(running) = self.running.iter_mut().find(|running| running.is(&name)) {
            if running.config.serve == config.serve && running.config.apart == config.apart {
                // If the classifier's task has ended, the service is about to end.
                let _ = running.anew.send(config.clone()).await;
                running.config = config;
                return;
            }
            // It needs other threads and another queue then, or its objects have other paths.
            self.stop(&name).await;
        }
        self.start(config, false, began());
    }

    /// Makes a classifier use another configuration without starting anew; returns the settings whose files have been
    /// edited.
    ///
    /// # Errors
    /// The configuration does not fit; then the old one stays.
    pub async fn configure(
        &mut self,
        config: Result<Config, String>,
        name: &str,
    ) -> Result<Vec<&'static str>, CommandError> {
        let Some(running) = self.running.iter_mut().find(|running| running.is(name)) else { return Ok(Vec::new()) };
        let (reply, answer) = oneshot::channel();
        let told = config.clone().map(Box::new);
        let asked = running.control.commands.send(Command::Configure { config: told, reply }).await;
        asked.map_err(|_| CommandError::Refused(Refusal::Stopping))?;
        let edited = answer.await.map_err(|_| CommandError::Refused(Refusal::Stopping))??;
        config.into_iter().for_each(|config| running.config = config);
        Ok(edited)
    }

    /// Stops a classifier: its round is interrupted, and the bus does not show the classifier any more.
    pub async fn stop(&mut self, name: &str) {
        let Some(index) = self.running.iter().position(|running| running.is(name)) else { return };
        let running = self.running.remove(index);
        self.show();
        running.ended().await;
        self.coordinator.leave(name);
    }

    /// Stops all of them, at the same time.
    pub async fn stop_all(self) {
        self.running.iter().for_each(|running| running.stop.cancel());
        for running in self.running {
            running.ended().await;
        }
    }

    fn show(&self) {
        self.shown.send_replace(self.running.iter().map(|running| running.control.clone()).collect());
    }
}

impl RunningClassifier {
    fn is(&self, name: &str) -> bool {
        self.control.name == name
    }

    async fn ended(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            error!(%error, "the classifier {} failed: {error}", self.control.name);
        }
    }
}

impl ClassifierTask {
    async fn live(mut self, mut config: Config) -> Result<(), AppError> {
        loop {
            let before = self.published.borrow().clone();
            let publisher = StatusPublisher::over(self.published.clone(), self.numbers.first_snapshot(&config, before));
            // A generation that this start is still loading when it has ended comes too late to serve.
            let over = CancellationToken::new();
            let (classifier, controller) = self.serves.clone();
            let serves = (classifier, controller.until(over.clone()));
            let shared = (self.budget.clone(), self.reserve.clone());
            let start = Start::new(config, publisher, serves, shared, self.teller.clone(), self.member.clone());
            let mut next = None;
            let ended = async {
                tokio::select! {
                    () = self.stop.cancelled() => {}
                    Some(config) = self.anew.recv() => next = Some(config),
                }
            };
            work(start, &mut self.commands, ended).await?;
            over.cancel();
            // Until it is there again, the classifier keeps no other from training. It has run, so what it waits for
            // from now on does not end the service.
            self.member.slots.left_by(&self.member.name);
            self.member.alone = false;
            match next {
                Some(other) => config = other,
                None => return Ok(()),
            }
        }
    }
}

/// Works from the start on until `ended` is ready, then finishes what is under way.
async fn work(
    start: Start,
    commands: &mut mpsc::Receiver<Command>,
    ended: impl Future<Output = ()>,
) -> Result<(), AppError> {
    let mut ended = pin!(ended);
    if let Some(Complete { supervisor, answering, receivers, lock }) = start.run(commands, ended.as_mut()).await? {
        let intake = supervisor.run(commands, receivers, ended).await;
        answering.stop().await;
        intake.stop().await;
        drop(lock);
    }
    Ok(())
}

impl SourceNumbers {
    /// The snapshot before anything of a classifier is open: what is known from an earlier start of it.
    fn first_snapshot(&self, config: &Config, before: Snapshot) -> Snapshot {
        let source = |source: &watch::Source| {
            let (path, key) = (source.path.clone(), source.key());
            let known = before.sources.iter().find(|known| known.key == key).cloned();
            let (images, quarantined) = known.as_ref().map_or((0, 0), |known| (known.images, known.quarantined));
            let answers = known.map(|known| known.answers).unwrap_or_default();
            let answers = SourceAnswers { wanted: source.classify, ..answers };
            let number = self.of(&config.classifier.name, source);
            SourceStatus { number, path, key, images, quarantined, waiting: 0, problem: None, answers }
        };
        let sources = config.sources.iter().map(source).collect();
        let Snapshot { classes, active, jobs, generations, provider, review, images, quarantined, .. } = before;
        let empty = Snapshot::default();
        Snapshot { sources, classes, active, jobs, generations, provider, review, images, quarantined, ..empty }
    }
}

/// A token that is cancelled already, for a classifier that has nothing to wait for.
fn began() -> CancellationToken {
    let ready = CancellationToken::new();
    ready.cancel();
    ready
}
