//! Classification: a bounded queue before the session that serves, and the swap to the next one.
//!
//! A request is decoded for the session it found, answered by that session, and names its generation; a swap lets the
//! requests under way end on the old session. Nothing is dropped and no answer is mixed. Knows neither the bus nor the
//! store: images come as descriptors, generations as directories.

mod image;
mod lanes;
mod load;
mod ort;
pub mod parity;
mod pipeline;

pub use lanes::Priority;
pub use load::Ready;
pub use ort::Provider;

use coft_core::ids::GenerationId;
use lanes::{Lanes, PRIORITIES};
use load::{Loaded, Opener};
use pipeline::{Answer, Plan, Request};
use serde::Deserialize;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard, Weak};
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// `[serve]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// ONNX Runtime's library; where it is not given, `ORT_DYLIB_PATH`, then the places of an installation.
    pub library: Option<PathBuf>,
    /// What the sessions run on: the first that opens the model and answers the probe.
    pub providers: Vec<Provider>,
    /// Images of each priority that may wait or be under way; one more is refused as busy. ≥ 16, what a call may bring. 64 [choice].
    pub queue: usize,
    /// Most images of one run of the session; fewer where it answers no more a second for them. ≥ 1. 16 [choice].
    pub max_batch: usize,
    /// How long the first image of a batch waits for others where nothing else runs. 0 [choice]: a batch fills by itself
    /// while the one before it runs, and for a moment after.
    #[serde(with = "humantime_serde")]
    pub max_delay: Duration,
    /// CPU threads of the session; 0 lets ONNX Runtime choose. 0 [choice].
    pub threads: usize,
    /// Images decoded at once; 0 for one a core. 0 [choice].
    pub decoders: usize,
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

/// Batch sockets that may be open. 64 [choice].
const BATCHES: usize = 64;

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
}

impl Default for Options {
    fn default() -> Self {
        Self { top_k: None, threshold: 0.0, embedding: false, deadline: None, priority: Priority::default() }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Classification {
    /// Class names with their probabilities, best first.
    pub labels: Vec<(String, f64)>,
    /// Whether the image looks like none of the classes.
    pub none_of_these: bool,
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
    #[error("{0} images are waiting already")]
    Busy(usize),
    #[error("{0} batch sockets are open already")]
    TooManyBatches(usize),
    #[error("no generation serves yet")]
    NotReady,
    /// No generation serves yet, and why.
    #[error("{0}")]
    Waiting(String),
    #[error("generation {generation} is being loaded")]
    Loading { generation: GenerationId },
    #[error("generation {generation} cannot be loaded: {cause}")]
    NotLoaded { generation: GenerationId, cause: String },
    #[error("the deadline passed before the image's turn")]
    DeadlineExceeded,
    #[error("the image cannot be used: {0}")]
    BadImage(String),
    #[error("the descriptor is not a regular file")]
    NotAFile,
    #[error("the image has {size} bytes; at most {limit} are read")]
    TooLarge { size: u64, limit: u64 },
    #[error("the service is stopping")]
    Stopped,
    #[error("{0}")]
    Internal(String),
}

#[derive(Debug, Error)]
pub enum LoadError {
    #[error("{path}: {cause}")]
    Read { path: PathBuf, cause: String },
    #[error(transparent)]
    Session(#[from] ort::SessionError),
    #[error(transparent)]
    Preprocess(#[from] coft_vision::PreprocessError),
    #[error("{path}: {fault}")]
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
    opener: Arc<Opener>,
}

/// Whether a generation serves, and what its session runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Running {
    /// Why the active generation does not serve; empty where it does, or where there is none yet.
    pub problem: String,
    /// As ONNX Runtime names it; empty where nothing serves.
    pub provider: String,
    /// Why a provider that comes before it does not run the model; empty where none failed.
    pub provider_problem: String,
}

#[derive(Debug)]
struct Shared {
    /// What answers, or the error that does so in its place.
    current: RwLock<Result<Arc<Loaded>, ServeError>>,
    /// Of calls, by priority, so that bulk work never takes the places of others.
    places: [Arc<Semaphore>; 2],
    queue: usize,
    batches: Arc<Semaphore>,
    batch_places: Arc<Semaphore>,
    submit: Lanes<(Instant, Request)>,
}

impl Classifier {
    /// Starts the threads that decode and the one that owns the sessions' runs; they end when every handle is gone.
    pub fn start(settings: Settings) -> (Classifier, Controller) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let queue = settings.queue.clamp(1, Semaphore::MAX_PERMITS);
        let shared = Arc::new_cyclic(|shared: &Weak<Shared>| {
            let shared = Weak::clone(shared);
            Shared {
                current: RwLock::new(Err(ServeError::NotReady)),
                places: PRIORITIES.map(|_| Arc::new(Semaphore::new(queue))),
                queue,
                batches: Arc::new(Semaphore::new(BATCHES)),
                batch_places: Arc::new(Semaphore::new(queue)),
                submit: pipeline::start(Plan {
                    decoders: if settings.decoders == 0 { cores } else { settings.decoders },
                    max_batch: settings.max_batch.max(1),
                    max_delay: settings.max_delay,
                    file_limit: settings.file_limit.as_u64(),
                    idle: settings.gpu_idle,
                    rest: Box::new(move || shared.upgrade().iter().for_each(|shared| shared.rest())),
                }),
            }
        });
        (Classifier(Arc::clone(&shared)), Controller { shared, opener: Arc::new(Opener { settings, engines: None }) })
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
        let busy = || ServeError::Busy(self.0.queue);
        let count = u32::try_from(images.len()).map_err(|_| busy())?;
        let places = Arc::clone(&self.0.places[options.priority as usize]);
        let mut places = places.try_acquire_many_owned(count).map_err(|_| busy())?;
        // Submitted before any is awaited.
        let answers: Vec<_> = images
            .into_iter()
            .map(|image| self.submit(image, options, places.split(1).expect("a place an image")))
            .collect();
        let mut classified = Vec::with_capacity(answers.len());
        for answer in answers {
            classified.push(match answer {
                Ok(answer) => answer.classified(options).await,
                Err(error) => Err(error),
            });
        }
        Ok(classified)
    }

    /// The same for a batch, which waits for one of the places that batches have to themselves: whoever waits in line would
    /// otherwise be before every call.
    pub async fn classify_in_batch(&self, image: OwnedFd, options: &Options) -> Result<Classification, ServeError> {
        let place = Arc::clone(&self.0.batch_places).acquire_owned().await.map_err(|_| ServeError::Stopped)?;
        self.submit(image, options, place)?.classified(options).await
    }

    /// Held while a batch socket is open.
    pub fn batch_place(&self) -> Result<OwnedSemaphorePermit, ServeError> {
        Arc::clone(&self.0.batches).try_acquire_owned().map_err(|_| ServeError::TooManyBatches(BATCHES))
    }

    fn submit(&self, image: OwnedFd, options: &Options, place: OwnedSemaphorePermit) -> Result<Submitted, ServeError> {
        let loaded = self.0.current()?;
        let (reply, answer) = oneshot::channel();
        let now = Instant::now();
        let (deadline, priority) = (options.deadline.map(|wait| now + wait), options.priority);
        let request = Request { image, loaded: Arc::clone(&loaded), deadline, reply, _place: place };
        match self.0.submit.send(priority, (now, request)) {
            true => Ok(Submitted { loaded, answer }),
            false => Err(ServeError::Stopped),
        }
    }
}

/// A request under way.
struct Submitted {
    loaded: Arc<Loaded>,
    answer: oneshot::Receiver<Result<Answer, ServeError>>,
}

impl Submitted {
    async fn classified(self, options: &Options) -> Result<Classification, ServeError> {
        let Self { loaded, answer } = self;
        let Answer { outputs, provider, queue, decode, inference } =
            answer.await.map_err(|_| ServeError::Stopped)??;
        let probabilities = outputs.probabilities.iter().map(|&p| f64::from(p));
        let mut labels: Vec<(&String, f64)> =
            loaded.classes.iter().zip(probabilities).filter(|(_, p)| *p >= options.threshold).collect();
        labels.sort_by(|a, b| b.1.total_cmp(&a.1));
        labels.truncate(options.top_k.unwrap_or(usize::MAX));
        Ok(Classification {
            labels: labels.into_iter().map(|(name, p)| (name.clone(), p)).collect(),
            none_of_these: loaded.none_of_these.is_some_and(|decision| decision.refuses(&outputs.logits)),
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
        let settings = self.opener.settings.clone();
        Self { opener: Arc::new(Opener { settings, engines: Some(dir) }), ..self }
    }

    /// Lets a loaded session take over; requests under way end on the old one.
    pub fn swap(&self, ready: Ready) {
        let loaded = Arc::new(ready.loaded);
        let replaced = std::mem::replace(&mut *self.shared.writing(), Ok(loaded));
        // Closing it takes a while, in which requests come in.
        drop(replaced);
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

    pub fn running(&self) -> Running {
        match self.shared.current() {
            Ok(loaded) => loaded.running(),
            Err(ServeError::NotReady | ServeError::Waiting(_)) => Running::default(),
            Err(problem) => Running { problem: problem.to_string(), ..Running::default() },
        }
    }
}

impl Shared {
    fn current(&self) -> Result<Arc<Loaded>, ServeError> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
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
