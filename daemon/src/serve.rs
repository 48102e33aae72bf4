//! Classification: a bounded queue in front of the session that serves, and the swap to the next session.
//!
//! A request takes the session that serves when it arrives: it is decoded for that session and answered by it, and the
//! answer names its generation. After a swap, requests under way are still answered by the old session. No request is
//! dropped, and no answer mixes two generations. This module knows neither the bus nor the store: images come as
//! descriptors, generations as directories.

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
    /// Path of ONNX Runtime's library. If absent, the path in `ORT_DYLIB_PATH` is used, then the directories of an
    /// installation.
    pub library: Option<PathBuf>,
    /// Execution providers, in order of preference. A session uses the first one that opens the model and answers the
    /// probe.
    pub providers: Vec<Provider>,
    /// Most images of one user and one priority that may wait or be under way. Beyond it, a call is refused as busy.
    /// All users together may have four times as many. ≥ 16, the most images of one call. 64 [choice].
    pub queue: usize,
    /// Most images in one run of the session. A run takes fewer where more images would not increase the images per
    /// second. ≥ 1. 16 [choice].
    pub max_batch: usize,
    /// How long the first image of a batch waits for others while no batch runs. 0 [choice]: a batch fills anyway,
    /// while the batch before it runs and for a moment after.
    #[serde(with = "humantime_serde")]
    pub max_delay: Duration,
    /// CPU threads of the session; 0 for one a core. 0 [choice].
    pub threads: usize,
    /// Threads that decode small images, and as many again for large ones; 0 for one per core. Each kind has one thread
    /// more, so that one user never occupies all of them. 0 [choice].
    pub decoders: usize,
    /// Memory that the open models of all classifiers may take together. Beyond it, the model used longest ago is
    /// closed until the next request for it. If absent, half of the machine's memory. [choice]
    pub memory: Option<bytesize::ByteSize>,
    /// How long a session on a GPU may be idle before it is closed; the next request opens it again. ≥ 1 s. 10 min
    /// [choice].
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

/// Path of ONNX Runtime's library.
///
/// # Errors
/// The library is in none of the places where it may be.
pub fn find_library(settings: &Settings) -> Result<PathBuf, LoadError> {
    Ok(ort::locate(settings.library.as_deref())?)
}

/// Loads ONNX Runtime's library and returns its path and version.
///
/// # Errors
/// The library was not found, or cannot be loaded.
pub fn library(settings: &Settings) -> Result<(PathBuf, String), LoadError> {
    Ok(ort::library(settings.library.as_deref())?)
}

/// Runs a small computation on a provider; false where ONNX Runtime was built without this provider.
///
/// # Errors
/// The provider fails, or computes a wrong result.
pub fn try_provider(provider: Provider, settings: &Settings) -> Result<bool, LoadError> {
    Ok(provider.computes(settings.library.as_deref())?)
}

#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Most labels in the answer, best first; all labels if absent.
    pub top_k: Option<usize>,
    /// Labels below this probability are left out; 0 to 1.
    pub threshold: f64,
    /// Whether the image's embedding is wanted.
    pub embedding: bool,
    /// How long the caller waits; without limit if absent.
    pub deadline: Option<Duration>,
    pub priority: Priority,
    /// The user whose share of the queue the request takes.
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
    /// The class that results from the user's decision thresholds, where some are set.
    pub decision: Option<String>,
    /// A vector of length 1.
    pub embedding: Option<Vec<f32>>,
    pub generation: GenerationId,
    /// Time of waiting for a thread that decodes, and for the session.
    pub queue: Duration,
    pub decode: Duration,
    /// Run time of the batch that contained the image.
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
    /// No generation serves yet; the text is the reason.
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

/// Answers requests; clones share one queue.
#[derive(Clone, Debug)]
pub struct Classifier(Arc<Shared>);

/// Loads and swaps sessions; `app` holds it.
#[derive(Clone, Debug)]
pub struct Controller {
    shared: Arc<Shared>,
    factory: Arc<SessionFactory>,
    /// Once it is cancelled, no generation takes over through this controller.
    over: CancellationToken,
}

/// Whether a generation serves, and what its session runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServingStatus {
    /// Why the active generation does not serve; empty where it does, or where there is none yet.
    pub problem: String,
    /// The provider's name in ONNX Runtime; empty where nothing serves.
    pub provider: String,
    /// Why a preferred provider does not run the model; empty where none failed.
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
    /// The session that answers, or the error that answers in its place.
    current: RwLock<Result<Arc<Loaded>, ServeError>>,
    /// The user's decision thresholds by class name.
    thresholds: Mutex<BTreeMap<String, f64>>,
    shares: Shares,
    tally: Tally,
    pulse: Arc<Pulse>,
    submit: Entrance<Submitted>,
    /// Number of generations that have taken over so far.
    swaps: watch::Sender<u64>,
}

impl Classifier {
    /// Starts the threads that decode and the thread that runs the sessions. They end when all handles are dropped.
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

    /// Classifies the image in a regular file or memfd. Fails as busy at once where the queue is full. The descriptor's
    /// offset is neither used nor moved. A call that is dropped costs only the step that it is in.
    pub async fn classify(&self, image: OwnedFd, options: &Options) -> Result<Classification, ServeError> {
        let mut answers = self.classify_many(vec![image], options).await?;
        answers.pop().expect("an answer an image")
    }

    /// Classifies several images at once: all of them are accepted, or none.
    pub async fn classify_many(
        &self,
        images: Vec<OwnedFd>,
        options: &Options,
    ) -> Result<Vec<Result<Classification, ServeError>>, ServeError> {
        let places = self.0.shares.calls(options.party, options.priority, images.len());
        let places = places.inspect_err(|_| self.0.tally.refuse(images.len()))?;
        // All images are submitted before the first answer is awaited.
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

    /// Classifies an image of a batch socket. The image waits for one of the places reserved for batch sockets; if it
    /// waited for a call's place, the waiting images of batches would come before every call.
    pub async fn classify_in_batch(&self, image: OwnedFd, options: &Options) -> Result<Classification, ServeError> {
        let place = self.0.shares.in_batch(options.party).await?;
        self.counted(self.submit(image, options, place)?.classified(options).await)
    }

    /// Counts of what the classifier has done since its start, and of what waits.
    pub fn figures(&self) -> Figures {
        self.0.tally.figures(self.0.shares.held())
    }

    fn counted(&self, answer: Result<Classification, ServeError>) -> Result<Classification, ServeError> {
        self.0.tally.count(&answer);
        answer
    }

    /// How the generation that serves prepares images; `None` where none serves.
    pub fn preprocess(&self) -> Option<Preprocess> {
        self.0.current().ok().map(|loaded| loaded.preprocess.clone())
    }

    /// The generation that serves; `None` where none does.
    pub fn serving(&self) -> Option<Serving> {
        let loaded = self.0.current().ok()?;
        Some(Serving { generation: loaded.generation, classes: loaded.classes.as_slice().into() })
    }

    /// A value that changes when another generation takes over.
    pub fn swaps(&self) -> watch::Receiver<u64> {
        self.0.swaps.subscribe()
    }

    /// A place that the caller holds while its batch socket is open.
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
            // A run of the model may hang; then no other code checks the deadline.
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
    /// Lets TensorRT keep its engines in a directory, so that each is built only once.
    pub fn keep_engines(self, dir: PathBuf) -> Self {
        Self {
            factory: Arc::new(SessionFactory { engines: Some(dir), ..SessionFactory::clone(&self.factory) }),
            ..self
        }
    }

    /// A controller through which no generation takes over once the token is cancelled.
    pub fn until(self, over: CancellationToken) -> Self {
        Self { over, ..self }
    }

    /// Shares the memory for open models with other classifiers.
    pub fn sharing(self, memory: ModelMemory) -> Self {
        Self { factory: Arc::new(SessionFactory { memory, ..SessionFactory::clone(&self.factory) }), ..self }
    }

    /// Sets the user's decision thresholds, by class name. From now on, answers name the class that results from them.
    pub fn decide_by(&self, thresholds: BTreeMap<String, f64>) {
        // A generation that takes over meanwhile waits for this lock, and then reads the new thresholds.
        let current = self.shared.writing();
        if let Ok(loaded) = &*current {
            loaded.decide_by(&thresholds);
        }
        *self.shared.thresholds() = thresholds;
    }

    /// Lets a loaded session take over; requests under way are still answered by the old session.
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
        // Closing a session takes a while; requests are accepted meanwhile.
        drop(replaced);
        self.factory.memory.serves(&loaded);
    }

    /// Answers requests with the reason why there is no first generation yet; `None` where only the first round is
    /// missing.
    pub fn waiting(&self, why: Option<String>) {
        let mut current = self.shared.writing();
        if matches!(*current, Err(ServeError::NotReady | ServeError::Waiting(_))) {
            *current = Err(why.map_or(ServeError::NotReady, ServeError::Waiting));
        }
    }

    /// While no generation serves, answers requests with "the generation is being loaded".
    pub fn loading(&self, generation: GenerationId) {
        let mut current = self.shared.writing();
        if current.is_err() {
            *current = Err(ServeError::Loading { generation });
        }
    }

    /// While no generation serves, answers requests with the reason why this one does not.
    pub fn cannot_load(&self, generation: GenerationId, cause: String) {
        let mut current = self.shared.writing();
        if current.is_err() {
            *current = Err(ServeError::NotLoaded { generation, cause });
        }
    }

    /// Probabilities of the generation that serves, as from [`Ready::answer`]; empty where none serves.
    pub fn answer(&self, image: &Path) -> Result<Vec<f32>, LoadError> {
        self.shared.current().map_or_else(|_| Ok(Vec::new()), |loaded| loaded.answer(image))
    }

    /// Closes the session, as after a long time without a request.
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

    /// Called after a time without requests: closes a session on a GPU, so that others can use the GPU's memory.
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
