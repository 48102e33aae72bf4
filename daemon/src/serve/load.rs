//! Opens a generation's directory as a proven session, on the first provider that can run it.

use super::batches::{Batches, batches_of};
use super::memory::{Closable, ModelMemory};
use super::ort::{self, Opening, Outputs, Provider};
use super::parity::{self, Parity};
use super::{LoadError, ServingStatus, Settings};
use coft_core::decision::{NoneOfThese, Thresholds};
use coft_core::ids::GenerationId;
use coft_core::manifest::{MANIFEST, MODEL, Manifest, PROBE, WEIGHTS};
use coft_core::promotion;
use coft_core::shown::shown_path;
use coft_vision::Preprocess;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tracing::{debug, info, warn};

/// A session that is loaded, warm and proven, but does not serve yet.
#[derive(Debug)]
pub struct Ready {
    pub(super) loaded: Loaded,
    pub parity: Parity,
}

/// A generation and its session.
#[derive(Debug)]
pub struct Loaded {
    pub generation: GenerationId,
    pub classes: Vec<String>,
    /// None where the configuration does not ask for it, or the generation has none.
    pub none_of_these: Option<NoneOfThese>,
    /// None where the user has set none.
    thresholds: RwLock<Option<Thresholds>>,
    pub preprocess: Preprocess,
    /// What the session runs on, or ran on before it was closed.
    runs_on: Mutex<RunsOn>,
    session: Mutex<IdleSession>,
    /// Memory that the model takes while its session is open: about the size of its files, B.
    bytes: u64,
    last_run: AtomicU64,
    memory: ModelMemory,
}

#[derive(Clone, Debug)]
struct RunsOn {
    provider: Provider,
    problem: String,
    batches: Batches,
}

/// Runs a model: a session of ONNX Runtime, or in tests something that fails.
pub trait Backend: std::fmt::Debug + Send {
    fn run(&mut self, pixels: &[f32], images: usize) -> Result<Vec<Outputs>, ort::SessionError>;
}

impl Backend for ort::Session {
    fn run(&mut self, pixels: &[f32], images: usize) -> Result<Vec<Outputs>, ort::SessionError> {
        ort::Session::run(self, pixels, images)
    }
}

/// Opens sessions.
#[derive(Clone, Debug)]
pub struct SessionFactory {
    pub settings: Settings,
    /// Directory where TensorRT keeps its engines.
    pub engines: Option<PathBuf>,
    /// Memory for the open models of this classifier and others.
    pub memory: ModelMemory,
}

/// A session that may be closed while there are no requests; the next run opens and proves it again.
#[derive(Debug)]
struct IdleSession {
    factory: Arc<SessionFactory>,
    /// The generation's directory.
    dir: PathBuf,
    session: Option<Box<dyn Backend>>,
    /// When opening the session failed, and why.
    failed: Option<(Instant, String)>,
}

/// Time between two attempts to open a session again; requests fail at once meanwhile. 10 s [choice].
const PAUSE: Duration = Duration::from_secs(10);

struct Opened {
    session: ort::Session,
    runs_on: RunsOn,
    parity: Parity,
}

impl Loaded {
    /// Answers for normalised pixels, one per image, and the provider that computed them.
    pub fn run(&self, pixels: &[f32], images: usize) -> Result<(Vec<Outputs>, Provider), LoadError> {
        let mut idle_session = self.opened()?;
        let session = idle_session.session.as_mut().expect("it has been opened");
        let outputs = session.run(pixels, images);
        drop(idle_session);
        // Models that were running when this one was opened could not be closed then; they may be idle now.
        self.memory.make_room_for(self);
        Ok((outputs?, self.runs_on().provider))
    }

    /// Sets the user's decision thresholds, by class name.
    pub fn decide_by(&self, thresholds: &BTreeMap<String, f64>) {
        *self.thresholds.write().unwrap_or_else(PoisonError::into_inner) = Thresholds::of(thresholds, &self.classes);
    }

    /// The class that results from the decision thresholds, where some are set.
    pub fn decide(&self, probabilities: &[f32]) -> Option<usize> {
        let thresholds = self.thresholds.read().unwrap_or_else(PoisonError::into_inner);
        thresholds.as_ref().map(|thresholds| thresholds.decide(probabilities))
    }

    /// Opens the session where it is closed, which takes a while.
    pub fn open(&self) -> Result<(), LoadError> {
        self.opened().map(drop)
    }

    fn opened(&self) -> Result<MutexGuard<'_, IdleSession>, LoadError> {
        self.last_run.store(self.memory.run(), Ordering::Relaxed);
        let mut idle_session = self.idle_session();
        if idle_session.session.is_none() {
            self.memory.make_room_for(self);
            let opened = idle_session.open()?;
            *self.runs_on() = opened.runs_on;
            idle_session.session = Some(Box::new(opened.session));
        }
        Ok(idle_session)
    }

    pub fn is_closed(&self) -> bool {
        self.idle_session().session.is_none()
    }

    /// Probabilities for the image in a file.
    pub fn answer(&self, image: &Path) -> Result<Vec<f32>, LoadError> {
        let reading = |cause: String| LoadError::Read { path: image.to_owned(), cause };
        let bytes = fs::read(image).map_err(|error| reading(error.to_string()))?;
        let decoded = coft_vision::decode(&bytes).map_err(|error| reading(error.to_string()))?;
        let mut pixels = vec![0f32; self.preprocess.tensor_len()];
        self.preprocess.whole(&decoded, &mut pixels);
        let (outputs, _) = self.run(&pixels, 1)?;
        Ok(outputs.into_iter().flat_map(|outputs| outputs.probabilities).collect())
    }

    /// Closes the session, which frees the provider's memory.
    pub fn close(&self) {
        if self.idle_session().session.take().is_some() {
            let (generation, provider) = (self.generation.0, self.runs_on().provider.name());
            info!(
                coft.generation = generation,
                provider, "generation {generation} gives back what it holds of {provider} until it is asked again"
            );
        }
    }

    pub fn running(&self) -> ServingStatus {
        let RunsOn { provider, problem, .. } = self.runs_on().clone();
        ServingStatus { problem: String::new(), provider: provider.name().to_owned(), provider_problem: problem }
    }

    /// Most images in a run where one user sends them.
    pub fn batch(&self) -> usize {
        self.runs_on().batches.alone
    }

    /// Most images in a run where several users send them.
    pub fn shared_batch(&self) -> usize {
        self.runs_on().batches.shared
    }

    pub fn is_on_gpu(&self) -> bool {
        self.runs_on().provider != Provider::Cpu
    }

    fn idle_session(&self) -> MutexGuard<'_, IdleSession> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn runs_on(&self) -> MutexGuard<'_, RunsOn> {
        self.runs_on.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the limits of a batch, in place of the measured ones.
    #[cfg(test)]
    pub fn set_batch(&self, alone: usize, shared: usize) {
        self.runs_on().batches = Batches { alone, shared };
    }

    /// Runs the model by another backend until the session is closed.
    #[cfg(test)]
    pub fn run_by(&self, backend: impl Backend + 'static) {
        self.idle_session().session = Some(Box::new(backend));
    }

    /// Blocks every run until the returned guard is dropped.
    #[cfg(test)]
    pub fn held_up(&self) -> impl Drop {
        self.idle_session()
    }
}

impl Closable for Loaded {
    fn is_open(&self) -> bool {
        self.session.try_lock().map_or(true, |idle_session| idle_session.session.is_some())
    }

    fn last_run(&self) -> u64 {
        self.last_run.load(Ordering::Relaxed)
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn close_unless_it_runs(&self) -> bool {
        let closed = self.session.try_lock().is_ok_and(|mut idle_session| idle_session.session.take().is_some());
        if closed {
            let generation = self.generation.0;
            info!(
                coft.generation = generation,
                "generation {generation} is closed until it is asked again: the models together take more memory than \
                 they may"
            );
        }
        closed
    }
}

impl IdleSession {
    fn open(&mut self) -> Result<Opened, LoadError> {
        if let Some((_, cause)) = self.failed.as_ref().filter(|(at, _)| at.elapsed() < PAUSE) {
            return Err(LoadError::Read { path: self.dir.clone(), cause: cause.clone() });
        }
        let opened = self.factory.open(&self.dir).and_then(|(manifest, _, opened)| {
            let found = opened.parity.max_abs_diff;
            match promotion::agrees(manifest.precision, found) {
                true => Ok(opened),
                false => Err(LoadError::NoProvider(format!("the probabilities differ from torch's by {found:.1e}"))),
            }
        });
        self.failed = opened.as_ref().err().map(|error| (Instant::now(), error.to_string()));
        let dir = shown_path(&self.dir);
        match &opened {
            Ok(opened) => {
                let provider = opened.runs_on.provider.name();
                info!(provider, "the session of {dir} is open again on {provider}");
            }
            Err(error) => warn!(problem = %error, "the session of {dir} cannot be opened again: {error}"),
        }
        opened
    }
}

impl Drop for IdleSession {
    fn drop(&mut self) {
        self.session = None;
        // The freed memory of the session is spread over the allocator's arenas. Without this call they would keep it:
        // 10 MB for a model of 14 MB.
        // SAFETY: the argument is a plain number.
        unsafe { libc::malloc_trim(0) };
    }
}

impl Ready {
    /// Probabilities for the image in a file.
    pub fn answer(&self, image: &Path) -> Result<Vec<f32>, LoadError> {
        self.loaded.answer(image)
    }

    /// The same session, with the directory to which the generation was moved.
    pub fn moved_to(mut self, dir: &Path) -> Self {
        self.loaded.session.get_mut().unwrap_or_else(PoisonError::into_inner).dir = dir.to_owned();
        self
    }
}

impl SessionFactory {
    /// Loads a session, as [`super::Controller::load`] says.
    pub fn load(self: &Arc<Self>, dir: &Path, generation: GenerationId) -> Result<Ready, LoadError> {
        let (manifest, preprocess, Opened { session, runs_on, parity }) = self.open(dir)?;
        let idle_session = IdleSession {
            factory: Arc::clone(self),
            dir: dir.to_owned(),
            session: Some(Box::new(session)),
            failed: None,
        };
        let size = |file: &str| fs::metadata(dir.join(file)).map_or(0, |found| found.len());
        let memory = self.memory.clone();
        let loaded = Loaded {
            generation,
            bytes: size(MODEL) + size(WEIGHTS),
            last_run: AtomicU64::new(memory.run()),
            memory,
            thresholds: RwLock::default(),
            classes: manifest.classes,
            none_of_these: manifest.none_of_these.filter(|_| self.settings.none_of_these),
            preprocess,
            runs_on: Mutex::new(runs_on),
            session: Mutex::new(idle_session),
        };
        Ok(Ready { loaded, parity })
    }

    /// Removes TensorRT's engines of all generations but these.
    pub fn keep_engines_of<'a>(&self, generations: impl Iterator<Item = &'a Manifest>) -> io::Result<()> {
        let Some(engines) = self.engines.as_ref().filter(|dir| dir.is_dir()) else { return Ok(()) };
        let kept: Vec<String> = generations.map(engine_name).collect();
        for entry in fs::read_dir(engines)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() && !kept.iter().any(|name| entry.file_name() == name.as_str()) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    fn open(&self, dir: &Path) -> Result<(Manifest, Preprocess, Opened), LoadError> {
        let manifest = manifest(dir)?;
        let preprocess = Preprocess::from_json(&manifest.preprocessing)?;
        let Settings { library, threads, max_batch, .. } = &self.settings;
        let max_batch = (*max_batch).max(1);
        let mut problems: Vec<String> = Vec::new();
        for provider in self.settings.providers.iter().copied() {
            if !provider.is_built_in(library.as_deref())? {
                debug!("ONNX Runtime was built without {}", provider.name());
                continue;
            }
            let engines = self.engines.as_ref().filter(|_| provider == Provider::Tensorrt);
            let engines = engines.map(|dir| dir.join(engine_name(&manifest)));
            if let Some(engines) = &engines {
                let failed = |error: io::Error| LoadError::Read { path: engines.clone(), cause: error.to_string() };
                fs::create_dir_all(engines).map_err(failed)?;
            }
            let opening = Opening {
                model: dir.join(MODEL),
                library: library.clone(),
                threads: *threads,
                provider,
                engines,
                max_batch,
                side: preprocess.crop as usize,
            };
            let opened = opening.open().map_err(LoadError::from).and_then(|mut session| {
                Ok((parity::replay(&mut session, max_batch, &dir.join(PROBE), &preprocess)?, session))
            });
            match opened {
                // A difference on the CPU is for the caller to judge; another provider with a difference is skipped.
                Ok((Parity { max_abs_diff: found }, _))
                    if provider != Provider::Cpu && !promotion::agrees(manifest.precision, found) =>
                {
                    problems.push(format!("{}: its probabilities differ from torch's by {found:.1e}", provider.name()));
                }
                Ok((parity, mut session)) => {
                    let batches = batches_of(max_batch, |images| session.time(images))?;
                    let (name, problem) = (provider.name(), problems.join("; "));
                    let Batches { alone, shared } = batches;
                    debug!("a run of {name} takes up to {alone} images, {shared} where several users send them");
                    if !problem.is_empty() {
                        warn!(provider = name, problem, "{} runs on {name}: {problem}", shown_path(dir));
                    }
                    let runs_on = RunsOn { provider, problem, batches };
                    return Ok((manifest, preprocess, Opened { session, runs_on, parity }));
                }
                // The CPU can run every valid model, so its error means that the generation cannot be used.
                Err(error) if provider == Provider::Cpu => return Err(error),
                Err(error) => problems.push(format!("{}: {error}", provider.name())),
            }
        }
        let none = "ONNX Runtime was built without those of serve.providers; name cpu there".to_owned();
        Err(LoadError::NoProvider(if problems.is_empty() { none } else { problems.join("; ") }))
    }
}

fn manifest(dir: &Path) -> Result<Manifest, LoadError> {
    let path = dir.join(MANIFEST);
    let bytes = fs::read(&path).map_err(|error| error.to_string());
    let manifest = bytes.and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string()));
    manifest.map_err(|cause| LoadError::Read { path, cause })
}

/// Name of a generation's directory of engines. Each generation has its own, because ONNX Runtime distinguishes engines
/// by name alone, not by weights.
pub(super) fn engine_name(manifest: &Manifest) -> String {
    let digest = |name: &str| manifest.files.get(name).map_or("unknown", String::as_str);
    format!("{:.16}-{:.16}", digest(MODEL), digest(WEIGHTS))
}
