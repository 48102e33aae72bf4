//! Classification: a bounded queue before the session that serves, and the swap to the next one.
//!
//! A request is decoded for the session it found, answered by that session, and names its generation; a swap lets the
//! requests under way end on the old session. Nothing is dropped and no answer is mixed. Knows neither the bus nor the
//! store: images come as descriptors, generations as directories.

mod decoding;
mod image;
mod load;
mod memory;
mod ort;
pub mod parity;
mod pipeline;
mod priority_queue;
mod pulse;
mod queue;
mod request;
mod shares;
mod tally;

pub use load::Ready;
pub use memory::ModelMemory;
pub use ort::Provider;
pub use priority_queue::Priority;
pub use pulse::UnderWay;
pub use shares::Place;
pub use tally::Figures;

use crate::decode_budget::{self, DecodeBudget, Party};
use coft_core::ids::GenerationId;
use coft_core::shown::shown_path;
use coft_vision::Preprocess;
use decoding::Submitted;
use load::{Loaded, SessionFactory};
use pipeline::Plan;
use pulse::Pulse;
use queue::Entrance;
use request::{Answer, Request};
use serde::Deserialize;
use shares::Shares;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard, Weak};
use std::time::{Duration, Instant};
use tally::Tally;
use thiserror::Error;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;

/// `[serve]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// ONNX Runtime's library; where it is not given, `ORT_DYLIB_PATH`, then the places of an installation.
    pub library: Option<PathBuf>,
    /// What the sessions run on: the first that opens the model and answers the probe.
    pub providers: Vec<Provider>,
    /// Images of one user and of each priority that may wait or be under way; one more is refused as busy, and so is
    /// what goes beyond four times as many of all users. ≥ 16, what a call may bring. 64 [choice].
    pub queue: usize,
    /// Most images of one run of the session; fewer where it answers no more a second for them. ≥ 1. 16 [choice].
    pub max_batch: usize,
    /// How long the first image of a batch waits for others where nothing else runs. 0 [choice]: a batch fills by itself
    /// while the one before it runs, and for a moment after.
    #[serde(with = "humantime_serde")]
    pub max_delay: Duration,
    /// CPU threads of the session; 0 lets ONNX Runtime choose. 0 [choice].
    pub threads: usize,
    /// Threads that decode small images, and as many for large ones, and one of each more that no user has alone; 0 for
    /// one a core. 0 [choice].
    pub decoders: usize,
    /// What the models of all classifiers that are open at the same time may take; beyond that the one that was asked
    /// longest ago is closed until it is asked again. Half of the machine's memory where it is absent. [choice]
    pub memory: Option<bytesize::ByteSize>,
    /// How long nothing is asked of a GPU's session before it is closed; the next request opens it again. ≥ 1 s. 10 min [choice].
    #[serde(with = "humantime_serde")]
    pub gpu_idle: Duration,
    /// Largest file that is read. 64 MiB [choice].
    pub file_limit: bytesize::ByteSize,
    /// Whether answers say that an image is none of the classes. false [choice].
    pub none_of_these: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            library: None,
            providers: vec![Provider::Tensorrt, Provider::Cuda, Provider::Cpu],
            queue: 64,
            max_batch: 16,
            max_delay: Duration::ZERO,
            threads: 0,
            decoders: 0,
            memory: None,
            gpu_idle: Duration::from_secs(600),
            file_limit: bytesize::ByteSize::mib(64),
            none_of_these: false,
        }
    }
}

/// The file of ONNX Runtime's library.
///
/// # Errors
/// It was not found in any of the places where it may be.
pub fn find_library(settings: &Settings) -> Result<PathBuf, LoadError> {
    Ok(ort::locate(settings.library.as_deref())?)
}

/// The file of ONNX Runtime's library, and its version; loads it.
///
/// # Errors
/// It was not found, or cannot be loaded.
pub fn library(settings: &Settings) -> Result<(PathBuf, String), LoadError> {
    Ok(ort::library(settings.library.as_deref())?)
}

/// Computes something on a provider; false where ONNX Runtime was built without it.
///
/// # Errors
/// It does not compute, or not rightly.
pub fn try_provider(provider: Provider, settings: &Settings) -> Result<bool, LoadError> {
    Ok(provider.computes(settings.library.as_deref())?)
}

#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Labels wanted, best first; all of them where it is absent.
    pub top_k: Option<usize>,
    /// Labels less probable are left out; 0 to 1.
    pub threshold: f64,
    /// Whether the image's embedding is wanted.
    pub embedding: bool,
    /// How long the caller waits; as long as it takes where it is absent.
    pub deadline: Option<Duration>,
    pub priority: Priority,
    /// Whose share of the service it takes.
    pub party: Party,
}

impl Default for Options {
    fn default() -> Self {
        let (priority, party) = (Priority::default(), Party::User(0));
        Self { top_k: None, threshold: 0.0, embedding: false, deadline: None, priority, party }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Classification {
    /// Class names with their probabilities, best first.
    pub labels: Vec<(String, f64)>,
    /// Whether the image looks like none of the classes.
    pub none_of_these: bool,
    /// The class that the user's thresholds decide for, where there are some.
    pub decision: Option<String>,
    /// Of length 1.
    pub embedding: Option<Vec<f32>>,
    pub generation: GenerationId,
    /// Waiting for a thread that decodes, and for the session.
    pub queue: Duration,
    pub decode: Duration,
    /// Of the batch that the image was part of.
    pub inference: Duration,
    pub provider: Provider,
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ServeError {
    #[error("{0} images of {1} are waiting already, the share of one user")]
    Busy(usize, Party),
    #[error("{0} images of all users together are waiting already")]
    BusyWithAll(usize),
    #[error("{0} batch sockets of {1} are open already, the share of one user")]
    TooManyBatches(usize, Party),
    #[error("{0} batch sockets of all users together are open already")]
    TooManyBatchesOfAll(usize),
    #[error("no generation serves yet")]
    NotReady,
    /// No generation serves yet, and why.
    #[error("{0}")]
    Waiting(String),
    #[error("generation {generation} is being loaded")]
    Loading { generation: GenerationId },
    #[error("generation {generation} cannot be loaded: {cause}")]
    NotLoaded { generation: GenerationId, cause: String },
    #[error("the deadline passed before the image was answered")]
    DeadlineExceeded,
    #[error("the image cannot be used: {0}")]
    BadImage(String),
    #[error("the descriptor is not a regular file")]
    NotAFile,
    #[error("the image has {size} bytes; at most {limit} are read")]
    TooLarge { size: u64, limit: u64 },
    #[error("the image is too large: {0}")]
    OverBudget(decode_budget::TooLarge),
    #[error("the service is stopping")]
    Stopped,
    #[error("{0}")]
    Internal(String),
}

#[derive(Debug, Error)]
pub enum LoadError {
    #[error("{}: {cause}", shown_path(path))]
    Read { path: PathBuf, cause: String },
    #[error(transparent)]
    Session(#[from] ort::SessionError),
    #[error(transparent)]
    Preprocess(#[from] coft_vision::PreprocessError),
    #[error("{}: {fault}", shown_path(path))]
    Probe { path: PathBuf, fault: String },
    #[error("no provider is left: {0}")]
    NoProvider(String),
}

/// Answers requests; clones share the queue.
#[derive(Clone, Debug)]
pub struct Classifier(Arc<Shared>);

/// Loads and swaps sessions; `app` holds it.
#[derive(Clone, Debug)]
pub struct Controller {
    shared: Arc<Shared>,
    factory: Arc<SessionFactory>,
    /// From then on nothing takes over by it.
    over: CancellationToken,
}

/// Whether a generation serves, and what its session runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServingStatus {
    /// Why the active generation does not serve; empty where it does, or where there is none yet.
    pub problem: String,
    /// As ONNX Runtime names it; empty where nothing serves.
    pub provider: String,
    /// Why a provider that comes before it does not run the model; empty where none failed.
    pub provider_problem: String,
}

/// A generation that serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serving {
    pub generation: GenerationId,
    pub classes: Arc<[String]>,
}

#[derive(Debug)]
struct Shared {
    /// What answers, or the error that does so in its place.
    current: RwLock<Result<Arc<Loaded>, ServeError>>,
    /// The user's decision thresholds, by the names of classes.
    thresholds: Mutex<BTreeMap<String, f64>>,
    shares: Shares,
    tally: Tally,
    pulse: Arc<Pulse>,
    submit: Entrance<Submitted>,
    /// Counts the generations that have come to serve.
    swaps: watch::Sender<u64>,
}

impl Classifier {
    /// Starts the threads that decode and the one that owns the sessions' runs; they end when every handle is gone.
    pub fn start(settings: Settings, budget: DecodeBudget) -> (Classifier, Controller) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let pulse = Arc::new(Pulse::default());
        let shared = Arc::new_cyclic(|shared: &Weak<Shared>| {
            let shared = Weak::clone(shared);
            Shared {
                current: RwLock::new(Err(ServeError::NotReady)),
                thresholds: Mutex::default(),
                shares: Shares::new(settings.queue),
                tally: Tally::default(),
                pulse: Arc::clone(&pulse),
                submit: pipeline::start(Plan {
                    decoders: if settings.decoders == 0 { cores } else { settings.decoders },
                    max_batch: settings.max_batch.max(1),
                    max_delay: settings.max_delay,
                    file_limit: settings.file_limit.as_u64(),
                    budget,
                    pulse,
                    idle: settings.gpu_idle,
                    rest: Box::new(move || shared.upgrade().iter().for_each(|shared| shared.rest())),
                }),
                swaps: watch::channel(0).0,
            }
        });
        let factory = SessionFactory { settings, engines: None, memory: ModelMemory::half_of_the_machine() };
        (
            Classifier(Arc::clone(&shared)),
            Controller { shared, factory: Arc::new(factory), over: CancellationToken::new() },
        )
    }

    /// Classifies the image in a regular file or memfd; busy at once where the queue is full. The descriptor's offset is
    /// neither used nor moved. Dropped, it costs no more than the step that it is in.
    pub async fn classify(&self, image: OwnedFd, options: &Options) -> Result<Classification, ServeError> {
        let mut answers = self.classify_many(vec![image], options).await?;
        answers.pop().expect("an answer an image")
    }

    /// The same of several images at once: all of them are taken in, or none.
    pub async fn classify_many(
        &self,
        images: Vec<OwnedFd>,
        options: &Options,
    ) -> Result<Vec<Result<Classification, ServeError>>, ServeError> {
        let places = self.0.shares.calls(options.party, options.priority, images.len());
        let places = places.inspect_err(|_| self.0.tally.refuse(images.len()))?;
        // Submitted before any is awaited.
        let answers: Vec<_> =
            images.into_iter().zip(places).map(|(image, place)| self.submit(image, options, place)).collect();
        let mut classified = Vec::with_capacity(answers.len());
        for answer in answers {
            classified.push(match answer {
                Ok(answer) => self.counted(answer.classified(options).await),
                Err(error) => Err(error),
            });
        }
        Ok(classified)
    }

    /// The same for a batch, which waits for one of the places that batches have to themselves: whoever waits in line would
    /// otherwise be before every call.
    pub async fn classify_in_batch(&self, image: OwnedFd, options: &Options) -> Result<Classification, ServeError> {
        let place = self.0.shares.in_batch(options.party).await?;
        self.counted(self.submit(image, options, place)?.classified(options).await)
    }

    /// What it has done since it was started, and what it has to do.
    pub fn figures(&self) -> Figures {
        self.0.tally.figures(self.0.shares.held())
    }

    fn counted(&self, answer: Result<Classification, ServeError>) -> Result<Classification, ServeError> {
        self.0.tally.count(&answer);
        answer
    }

    /// How the generation that serves prepares images; none where none serves.
    pub fn preprocess(&self) -> Option<Preprocess> {
        self.0.current().ok().map(|loaded| loaded.preprocess.clone())
    }

    /// The generation that serves; none where none does.
    pub fn serving(&self) -> Option<Serving> {
        let loaded = self.0.current().ok()?;
        Some(Serving { generation: loaded.generation, classes: loaded.classes.as_slice().into() })
    }

    /// Changes when another generation has come to serve.
    pub fn swaps(&self) -> watch::Receiver<u64> {
        self.0.swaps.subscribe()
    }

    /// Held while a batch socket is open.
    pub fn batch_place(&self, party: Party) -> Result<Place, ServeError> {
        self.0.shares.socket(party)
    }

    fn submit(&self, image: OwnedFd, options: &Options, place: Place) -> Result<Expected, ServeError> {
        let loaded = self.0.current()?;
        let (reply, answer) = oneshot::channel();
        let now = Instant::now();
        let Options { deadline, priority, party, .. } = *options;
        let deadline = deadline.map(|wait| now + wait);
        let request = Request { image, party, loaded: Arc::clone(&loaded), deadline, reply, _place: place };
        self.0.submit.push(priority, party, (now, request));
        Ok(Expected { loaded, answer, deadline })
    }
}

/// The answer to a request under way.
struct Expected {
    loaded: Arc<Loaded>,
    answer: oneshot::Receiver<Result<Answer, ServeError>>,
    deadline: Option<Instant>,
}

impl Expected {
    async fn classified(self, options: &Options) -> Result<Classification, ServeError> {
        let Self { loaded, answer, deadline } = self;
        let answer = match deadline {
            // A run of the model may hang, and then nobody else looks at the deadline.
            Some(deadline) => timeout_at(deadline.into(), answer).await.map_err(|_| ServeError::DeadlineExceeded)?,
            None => answer.await,
        };
        let Answer { outputs, provider, queue, decode, inference } = answer.map_err(|_| ServeError::Stopped)??;
        let decided = loaded.decide(&outputs.probabilities);
        let probabilities = outputs.probabilities.iter().map(|&p| f64::from(p));
        let mut labels: Vec<(&String, f64)> =
            loaded.classes.iter().zip(probabilities).filter(|(_, p)| *p >= options.threshold).collect();
        labels.sort_by(|a, b| b.1.total_cmp(&a.1));
        labels.truncate(options.top_k.unwrap_or(usize::MAX));
        Ok(Classification {
            labels: labels.into_iter().map(|(name, p)| (name.clone(), p)).collect(),
            none_of_these: loaded.none_of_these.is_some_and(|decision| decision.refuses(&outputs.logits)),
            decision: decided.map(|class| loaded.classes[class].clone()),
            embedding: options.embedding.then_some(outputs.embedding),
            generation: loaded.generation,
            queue,
            decode,
            inference,
            provider,
        })
    }
}

impl Controller {
    /// Has TensorRT keep its engines in a directory, so that each is built once.
    pub fn keep_engines(self, dir: PathBuf) -> Self {
        Self {
            factory: Arc::new(SessionFactory { engines: Some(dir), ..SessionFactory::clone(&self.factory) }),
            ..self
        }
    }

    /// One by which nothing takes over any more once a token is cancelled.
    pub fn until(self, over: CancellationToken) -> Self {
        Self { over, ..self }
    }

    /// Has its model share the memory of open models with other classifiers'.
    pub fn sharing(self, memory: ModelMemory) -> Self {
        Self { factory: Arc::new(SessionFactory { memory, ..SessionFactory::clone(&self.factory) }), ..self }
    }

    /// Has answers say which class the user's thresholds decide for, by the names of classes, from now on.
    pub fn decide_by(&self, thresholds: BTreeMap<String, f64>) {
        // A generation that takes over meanwhile waits for this lock, and finds the new ones.
        let current = self.shared.writing();
        if let Ok(loaded) = &*current {
            loaded.decide_by(&thresholds);
        }
        *self.shared.thresholds() = thresholds;
    }

    /// Lets a loaded session take over; requests under way end on the old one.
    pub fn swap(&self, ready: Ready) {
        let mut current = self.shared.writing();
        if self.over.is_cancelled() {
            return;
        }
        ready.loaded.decide_by(&self.shared.thresholds());
        let loaded = Arc::new(ready.loaded);
        let replaced = std::mem::replace(&mut *current, Ok(Arc::clone(&loaded)));
        drop(current);
        self.shared.swaps.send_modify(|swaps| *swaps += 1);
        // Closing takes a while, in which requests come in.
        drop(replaced);
        self.factory.memory.serves(&loaded);
    }

    /// Has requests told what the first generation waits for; none where only the first round is missing.
    pub fn waiting(&self, why: Option<String>) {
        let mut current = self.shared.writing();
        if matches!(*current, Err(ServeError::NotReady | ServeError::Waiting(_))) {
            *current = Err(why.map_or(ServeError::NotReady, ServeError::Waiting));
        }
    }

    /// Has requests told that a generation is being loaded, as long as none serves.
    pub fn loading(&self, generation: GenerationId) {
        let mut current = self.shared.writing();
        if current.is_err() {
            *current = Err(ServeError::Loading { generation });
        }
    }

    /// Has requests told why a generation does not serve, as long as none does.
    pub fn cannot_load(&self, generation: GenerationId, cause: String) {
        let mut current = self.shared.writing();
        if current.is_err() {
            *current = Err(ServeError::NotLoaded { generation, cause });
        }
    }

    /// What the generation that serves answers, as [`Ready::answer`]; empty where none serves.
    pub fn answer(&self, image: &Path) -> Result<Vec<f32>, LoadError> {
        self.shared.current().map_or_else(|_| Ok(Vec::new()), |loaded| loaded.answer(image))
    }

    /// As after a long time without a request.
    #[cfg(test)]
    pub fn close_session(&self) {
        self.shared.current().expect("a generation serves").close();
    }

    /// What the thread that runs the sessions works on, or has to work on next.
    pub fn under_way(&self) -> Option<UnderWay> {
        self.shared.pulse.under_way()
    }

    pub fn running(&self) -> ServingStatus {
        match self.shared.current() {
            Ok(loaded) => loaded.running(),
            Err(ServeError::NotReady | ServeError::Waiting(_)) => ServingStatus::default(),
            Err(problem) => ServingStatus { problem: problem.to_string(), ..ServingStatus::default() },
        }
    }
}

impl Shared {
    fn current(&self) -> Result<Arc<Loaded>, ServeError> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn thresholds(&self) -> MutexGuard<'_, BTreeMap<String, f64>> {
        self.thresholds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writing(&self) -> RwLockWriteGuard<'_, Result<Arc<Loaded>, ServeError>> {
        self.current.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing has been asked for a while: a GPU has other uses for its memory.
    fn rest(&self) {
        if let Ok(loaded) = self.current()
            && loaded.is_on_gpu()
        {
            loaded.close();
        }
    }
}

#[cfg(test)]
mod tests;
