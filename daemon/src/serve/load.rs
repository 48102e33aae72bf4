//! From a generation's directory to a session that is proven, on the first provider that takes it.

use super::ort::{self, Opening, Outputs, Provider, SessionError};
use super::parity::{self, Parity};
use super::{Controller, LoadError, Settings};
use coft_core::decision::NoneOfThese;
use coft_core::ids::GenerationId;
use coft_core::manifest::{MANIFEST, MODEL, Manifest, PROBE, WEIGHTS};
use coft_core::promotion;
use coft_vision::Preprocess;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use tracing::{debug, info, warn};

/// A session that is loaded, warm and proven, but does not serve yet.
#[derive(Debug)]
pub struct Ready {
    pub(super) loaded: Loaded,
    pub parity: Parity,
}

#[derive(Debug)]
pub struct Loaded {
    pub generation: GenerationId,
    pub classes: Vec<String>,
    /// None where it is not asked for, or the generation has none.
    pub none_of_these: Option<NoneOfThese>,
    pub preprocess: Preprocess,
    pub provider: Provider,
    pub problem: String,
    pub session: Mutex<Doze>,
    max_batch: usize,
}

/// A session that can be closed and is opened again by the next run.
#[derive(Debug)]
pub struct Doze {
    opening: Opening,
    session: Option<ort::Session>,
}

impl Doze {
    /// As [`ort::Session::run`].
    pub fn run(&mut self, pixels: &[f32], images: usize) -> Result<Vec<Outputs>, SessionError> {
        let session = match &mut self.session {
            Some(session) => session,
            closed => {
                info!(provider = self.opening.provider.name(), "the session is opened again");
                closed.insert(self.opening.open()?)
            }
        };
        session.run(pixels, images)
    }

    /// Gives back what it holds of the provider's memory.
    pub fn close(&mut self) {
        if self.session.take().is_some() {
            info!(provider = self.opening.provider.name(), "the session is closed until it is asked again");
        }
    }
}

impl Drop for Doze {
    fn drop(&mut self) {
        self.session = None;
        // What it was is scattered over the allocator's arenas, which keep it otherwise: 10 MB of a model of 14 MB.
        // SAFETY: it takes a plain number.
        unsafe { libc::malloc_trim(0) };
    }
}

impl Loaded {
    /// Probabilities for the images in files, N × C row-major.
    pub fn answers(&self, images: &[PathBuf]) -> Result<Vec<f32>, LoadError> {
        const BATCH: usize = 8;
        let mut all = Vec::new();
        for chunk in images.chunks(BATCH.min(self.max_batch)) {
            let mut pixels = vec![0f32; chunk.len() * self.preprocess.tensor_len()];
            for (path, out) in chunk.iter().zip(pixels.chunks_exact_mut(self.preprocess.tensor_len())) {
                let reading = |cause: String| LoadError::Read { path: path.clone(), cause };
                let bytes = fs::read(path).map_err(|error| reading(error.to_string()))?;
                let decoded = coft_vision::decode(&bytes).map_err(|error| reading(error.to_string()))?;
                self.preprocess.tensor(&self.preprocess.canonical(&decoded), out);
            }
            // Requests come in between.
            let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
            let outputs = session.run(&pixels, chunk.len())?;
            all.extend(outputs.into_iter().flat_map(|outputs| outputs.probabilities));
        }
        Ok(all)
    }
}

impl Ready {
    /// Its probabilities for the images in files, N × C row-major.
    pub fn answers(&self, images: &[PathBuf]) -> Result<Vec<f32>, LoadError> {
        self.loaded.answers(images)
    }
}

impl Controller {
    /// Loads a generation's directory on the first provider that takes it, warms it with the probe, and compares its answers
    /// with torch's. Takes seconds; minutes where TensorRT builds its engine.
    pub fn load(&self, dir: &Path, generation: GenerationId) -> Result<Ready, LoadError> {
        let manifest = manifest(dir)?;
        let preprocess = Preprocess::from_json(&manifest.preprocessing)?;
        let Settings { library, threads, max_batch, .. } = &self.settings;
        let max_batch = (*max_batch).max(1);
        let mut problems: Vec<String> = Vec::new();
        for provider in self.settings.providers.iter().copied() {
            if !provider.is_built_in(library.as_deref())? {
                debug!(provider = provider.name(), "ONNX Runtime was built without it");
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
                // The CPU's is judged, another's is passed over.
                Ok((Parity { max_abs_diff: found }, _))
                    if provider != Provider::Cpu && !promotion::agrees(manifest.precision, found) =>
                {
                    warn!(provider = provider.name(), found, "the provider's answers differ; the next is tried");
                    problems.push(format!("{}: its probabilities differ from torch's by {found:.1e}", provider.name()));
                }
                Ok((parity, session)) => {
                    let loaded = Loaded {
                        generation,
                        classes: manifest.classes,
                        none_of_these: manifest.none_of_these.filter(|_| self.settings.none_of_these),
                        preprocess,
                        provider,
                        problem: problems.join("; "),
                        session: Mutex::new(Doze { opening, session: Some(session) }),
                        max_batch,
                    };
                    return Ok(Ready { loaded, parity });
                }
                // The CPU takes whatever is sound.
                Err(error) if provider == Provider::Cpu => return Err(error),
                Err(error) => {
                    warn!(provider = provider.name(), %error, "the provider does not run the model; the next is tried");
                    problems.push(format!("{}: {error}", provider.name()));
                }
            }
        }
        let none = "ONNX Runtime was built without those of serve.providers; name cpu there".to_owned();
        Err(LoadError::NoProvider(if problems.is_empty() { none } else { problems.join("; ") }))
    }

    /// Removes what TensorRT has built for other generations than those in these directories.
    pub fn keep_engines_of<'a>(&self, generations: impl Iterator<Item = &'a Manifest>) -> io::Result<()> {
        let Some(engines) = self.engines.as_ref().filter(|dir| dir.is_dir()) else { return Ok(()) };
        let kept: Vec<String> = generations.map(engine_name).collect();
        for entry in fs::read_dir(engines)? {
            let entry = entry?;
            if !kept.iter().any(|name| entry.file_name() == name.as_str()) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }
}

fn manifest(dir: &Path) -> Result<Manifest, LoadError> {
    let path = dir.join(MANIFEST);
    let bytes = fs::read(&path).map_err(|error| error.to_string());
    let manifest = bytes.and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string()));
    manifest.map_err(|cause| LoadError::Read { path, cause })
}

/// ONNX Runtime tells engines apart by names alone, not by weights: each generation has a directory of its own.
pub(super) fn engine_name(manifest: &Manifest) -> String {
    let digest = |name: &str| manifest.files.get(name).map_or("unknown", String::as_str);
    format!("{:.16}-{:.16}", digest(MODEL), digest(WEIGHTS))
}
