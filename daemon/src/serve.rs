//! Classification: a bounded queue before the session that serves, and the swap to the next one.
//!
//! A request is decoded for the session it found, answered by that session, and names its generation; a swap lets the
//! requests under way end on the old session. Nothing is dropped and no answer is mixed. Knows neither the bus nor the
//! store: images come as descriptors, generations as directories.

mod image;
mod ort;
pub mod parity;

use coft_core::ids::GenerationId;
use coft_core::manifest::{MANIFEST, MODEL, Manifest, PROBE};
use coft_vision::Preprocess;
use parity::Parity;
use serde::Deserialize;
use std::collections::VecDeque;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, mpsc};
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::sync::{Semaphore, oneshot};

/// `[serve]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// ONNX Runtime's library; where it is not given, `ORT_DYLIB_PATH`, then the places of an installation.
    pub library: Option<PathBuf>,
    /// Requests that may wait or be under way; one more is refused as busy. ≥ 1. 64 [choice].
    pub queue: usize,
    /// Most images of one run of the session; ≥ 1. 16 [choice].
    pub max_batch: usize,
    /// CPU threads of the session; 0 lets ONNX Runtime choose. 0 [choice].
    pub threads: usize,
    /// Images decoded at once; 0 for one a core. 0 [choice].
    pub decoders: usize,
    /// Largest file that is read. 64 MiB [choice].
    pub file_limit: bytesize::ByteSize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            library: None,
            queue: 64,
            max_batch: 16,
            threads: 0,
            decoders: 0,
            file_limit: bytesize::ByteSize::mib(64),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Labels wanted, best first; all of them where it is absent.
    pub top_k: Option<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Classification {
    /// Class names with their probabilities, best first.
    pub labels: Vec<(String, f64)>,
    pub generation: GenerationId,
    /// From the decoded image to its turn.
    pub queue: Duration,
    pub decode: Duration,
    /// Of the batch that the image was part of.
    pub inference: Duration,
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum ServeError {
    #[error("{0} requests are waiting already")]
    Busy(usize),
    #[error("no generation serves yet")]
    NotReady,
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
}

/// Answers requests; clones share the queue.
#[derive(Clone, Debug)]
pub struct Classifier(Arc<Shared>);

/// Loads and swaps sessions; `app` holds it.
#[derive(Debug)]
pub struct Controller {
    shared: Arc<Shared>,
    settings: Settings,
}

/// A session that is loaded, warm and proven, but does not serve yet.
#[derive(Debug)]
pub struct Ready {
    loaded: Loaded,
    pub parity: Parity,
}

#[derive(Debug)]
struct Shared {
    current: RwLock<Option<Arc<Loaded>>>,
    places: Semaphore,
    decoders: Semaphore,
    queue: usize,
    file_limit: u64,
    waiting: mpsc::Sender<Request>,
}

#[derive(Debug)]
struct Loaded {
    generation: GenerationId,
    classes: Vec<String>,
    preprocess: Preprocess,
    session: Mutex<ort::Session>,
}

struct Request {
    pixels: Vec<f32>,
    loaded: Arc<Loaded>,
    since: Instant,
    reply: oneshot::Sender<Result<Answer, String>>,
}

struct Answer {
    probabilities: Vec<f32>,
    queue: Duration,
    inference: Duration,
}

impl Classifier {
    /// Starts the thread that owns the sessions' runs; it ends when every handle is gone.
    pub fn start(settings: Settings) -> (Classifier, Controller) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let decoders = if settings.decoders == 0 { cores } else { settings.decoders };
        let (waiting, requests) = mpsc::channel();
        let shared = Arc::new(Shared {
            current: RwLock::new(None),
            places: Semaphore::new(settings.queue.max(1)),
            decoders: Semaphore::new(decoders),
            queue: settings.queue.max(1),
            file_limit: settings.file_limit.as_u64(),
            waiting,
        });
        let max_batch = settings.max_batch.max(1);
        std::thread::Builder::new()
            .name("classify".to_owned())
            .spawn(move || serve(&requests, max_batch))
            .expect("a thread can be started");
        (Classifier(Arc::clone(&shared)), Controller { shared, settings })
    }

    /// Classifies the image in a regular file or memfd. The descriptor's offset is neither used nor moved.
    pub async fn classify(&self, image: OwnedFd, options: Options) -> Result<Classification, ServeError> {
        let shared = &self.0;
        let Ok(_place) = shared.places.try_acquire() else { return Err(ServeError::Busy(shared.queue)) };
        let loaded = shared.current().ok_or(ServeError::NotReady)?;
        let (pixels, decode) = {
            let _turn = shared.decoders.acquire().await.map_err(|_| ServeError::Stopped)?;
            let (limit, loaded) = (shared.file_limit, Arc::clone(&loaded));
            let began = Instant::now();
            let prepared = tokio::task::spawn_blocking(move || image::prepare(&image, limit, &loaded.preprocess));
            (prepared.await.map_err(|error| ServeError::Internal(error.to_string()))??, began.elapsed())
        };
        let (reply, answer) = oneshot::channel();
        let request = Request { pixels, loaded: Arc::clone(&loaded), since: Instant::now(), reply };
        shared.waiting.send(request).map_err(|_| ServeError::Stopped)?;
        let Answer { probabilities, queue, inference } =
            answer.await.map_err(|_| ServeError::Stopped)?.map_err(ServeError::Internal)?;

        let mut labels: Vec<(String, f64)> =
            loaded.classes.iter().cloned().zip(probabilities.iter().map(|&p| f64::from(p))).collect();
        labels.sort_by(|a, b| b.1.total_cmp(&a.1));
        labels.truncate(options.top_k.unwrap_or(usize::MAX));
        Ok(Classification { labels, generation: loaded.generation, queue, decode, inference })
    }
}

impl Controller {
    /// Loads a generation's directory, warms it with the probe, and compares its answers with torch's. Takes seconds.
    pub fn load(&self, dir: &Path, generation: GenerationId) -> Result<Ready, LoadError> {
        let path = dir.join(MANIFEST);
        let reading = |cause: String| LoadError::Read { path: path.clone(), cause };
        let bytes = fs::read(&path).map_err(|error| reading(error.to_string()))?;
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| reading(error.to_string()))?;
        let preprocess = Preprocess::from_json(&manifest.preprocessing)?;
        let mut session =
            ort::Session::open(&dir.join(MODEL), self.settings.library.as_deref(), self.settings.threads)?;
        let parity = parity::replay(&mut session, &dir.join(PROBE), &preprocess)?;
        let classes = manifest.classes;
        Ok(Ready { loaded: Loaded { generation, classes, preprocess, session: Mutex::new(session) }, parity })
    }

    /// Lets a loaded session take over; requests under way end on the old one.
    pub fn swap(&self, ready: Ready) {
        let mut current = self.shared.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = Some(Arc::new(ready.loaded));
    }

    /// The execution provider of the sessions, as ONNX Runtime names it.
    pub fn provider(&self) -> &'static str {
        ort::PROVIDER
    }
}

impl Shared {
    fn current(&self) -> Option<Arc<Loaded>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Runs what waits, batch by batch: the oldest request, and those behind it that found the same session.
fn serve(requests: &mpsc::Receiver<Request>, max_batch: usize) {
    let mut waiting = VecDeque::new();
    loop {
        if waiting.is_empty() {
            match requests.recv() {
                Ok(request) => waiting.push_back(request),
                Err(mpsc::RecvError) => return, // every handle is gone
            }
        }
        waiting.extend(requests.try_iter());
        let first: &Request = &waiting[0];
        let loaded = Arc::clone(&first.loaded);
        let alike = waiting.iter().take(max_batch).take_while(|r| Arc::ptr_eq(&r.loaded, &loaded)).count();
        let batch: Vec<Request> = waiting.drain(..alike).collect();
        run(batch, &loaded);
    }
}

fn run(batch: Vec<Request>, loaded: &Loaded) {
    let began = Instant::now();
    let pixels: Vec<f32> = batch.iter().flat_map(|request| request.pixels.iter().copied()).collect();
    let side = loaded.preprocess.crop as usize;
    let mut session = loaded.session.lock().unwrap_or_else(PoisonError::into_inner);
    let answers = session.probabilities(&pixels, batch.len(), side);
    let inference = began.elapsed();
    for (i, request) in batch.into_iter().enumerate() {
        let answer = match &answers {
            Ok(all) => {
                let probabilities = all[i].clone();
                Ok(Answer { probabilities, queue: began.duration_since(request.since), inference })
            }
            Err(error) => Err(error.to_string()),
        };
        // A caller that has gone wants no answer.
        let _ = request.reply.send(answer);
    }
}

#[cfg(test)]
mod tests;
