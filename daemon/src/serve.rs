//! Classification: a bounded queue in front of the session that serves, and the swap to the next session.
//!
//! A request takes the session that serves when it arrives: it is decoded for that session and answered by it, and the
//! answer names its generation. After a swap, requests under way are still answered by the old session. No request is
//! dropped, and no answer mixes two generations. This module knows neither the bus nor the store: images come as
//! descriptors, generations as directories.

mod batches;
mod controller;
mod decoding;
mod errors;
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
mod settings;
mod shares;
mod tally;

pub use controller::Controller;
pub use errors::{LoadError, ServeError};
pub use load::Ready;
pub use memory::ModelMemory;
pub use ort::Provider;
pub use priority_queue::Priority;
pub use pulse::UnderWay;
pub use settings::Settings;
pub use shares::Place;
pub use tally::Figures;

use crate::decode_budget::{DecodeBudget, Party};
use coft_core::ids::GenerationId;
use coft_vision::Preprocess;
use decoding::Submitted;
use load::{Loaded, SessionFactory};
use pipeline::Plan;
use pulse::Pulse;
use queue::Entrance;
use request::{Answer, Request};
use shares::Shares;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard, Weak};
use std::time::{Duration, Instant};
use tally::Tally;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;

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

/// Answers requests; clones share one queue.
#[derive(Clone, Debug)]
pub struct Classifier(Arc<Shared>);

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
