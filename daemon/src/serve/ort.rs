//! The only module that uses ONNX Runtime. Its library is loaded at run time.

mod trial;

pub use trial::library;

use coft_core::shown::shown_path;
use coft_vision::cores;
use ort::environment::Environment;
use ort::ep::{CPU, CUDA, ExecutionProvider, ExecutionProviderDispatch, TensorRT};
use ort::session::builder::GraphOptimizationLevel;
use ort::value::TensorRef;
use serde::Deserialize;
use std::env;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use thiserror::Error;

/// An execution provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provider {
    Tensorrt,
    Cuda,
    Cpu,
}

impl Provider {
    /// The provider's name in ONNX Runtime.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tensorrt => TensorRT::NAME,
            Self::Cuda => CUDA::NAME,
            Self::Cpu => CPU::NAME,
        }
    }

    /// The provider's name in the configuration.
    pub fn setting(self) -> &'static str {
        match self {
            Self::Tensorrt => "tensorrt",
            Self::Cuda => "cuda",
            Self::Cpu => "cpu",
        }
    }

    /// Whether the library was built with this provider. Whether the provider works is known only after a session was
    /// opened.
    pub fn is_built_in(self, library: Option<&Path>) -> Result<bool, SessionError> {
        environment(library)?;
        Ok(match self {
            Self::Tensorrt => TensorRT::is_available()?,
            Self::Cuda => CUDA::is_available()?,
            Self::Cpu => true,
        })
    }
}

/// Where installations put the library, beside what the dynamic linker finds.
const PLACES: [&str; 3] = ["/usr/lib/coft", "/usr/local/lib", "/usr/lib"];
const NAME: &str = "libonnxruntime.so";

#[derive(Debug, Error)]
pub enum SessionError {
    #[error(
        "ONNX Runtime ({NAME}) was not found in {looked}; install it, or set serve.library or ORT_DYLIB_PATH to its file"
    )]
    NoLibrary { looked: String },
    #[error("ONNX Runtime {} cannot be loaded: {cause}; version 1.23 or later is needed", shown_path(path))]
    Library { path: PathBuf, cause: String },
    #[error("{}: {cause}", shown_path(path))]
    Open { path: PathBuf, cause: ort::Error },
    #[error("the classifier failed: {0}")]
    Run(#[from] ort::Error),
    #[error("the classifier's outputs are not those of its layout: {0}")]
    Layout(String),
}

/// Name of the model's input.
const INPUT: &str = "pixels";

/// How long an idle thread of the session spins before it sleeps, µs. [choice]
const SPIN_US: &str = "30";

/// How a session is opened.
#[derive(Clone, Debug)]
pub struct Opening {
    /// `model.onnx`, with the weights beside it.
    pub model: PathBuf,
    pub library: Option<PathBuf>,
    /// 0 for one a core.
    pub threads: usize,
    pub provider: Provider,
    /// Directory where TensorRT keeps its engines.
    pub engines: Option<PathBuf>,
    /// Most images of a run.
    pub max_batch: usize,
    /// Side of the square images, px.
    pub side: usize,
}

impl Opening {
    pub fn open(&self) -> Result<Session, SessionError> {
        let environment = environment(self.library.as_deref())?;
        let open = || -> ort::Result<ort::session::Session> {
            let mut builder = ort::session::Session::builder(&environment)?
                .with_optimization_level(GraphOptimizationLevel::All)?
                // Long enough for the pause between two operators. Threads that spin longer take cores from decoding
                // and from training; docs/benchmarks.md has the figures of both.
                .with_config_entry("session.intra_op.spin_duration_us", SPIN_US)?
                // For versions before 1.26, which ignore the entry above: threads spin until the run ends at most.
                .with_config_entry("session.force_spinning_stop", "1")?
                // Batches have many sizes, and ONNX Runtime would keep a memory plan for each size.
                .with_memory_pattern(false)?;
            builder = builder.with_intra_threads(if self.threads > 0 { self.threads } else { cores() })?;
            if let Some(provider) = self.dispatch() {
                builder = builder.with_execution_providers([provider])?;
            }
            builder.commit_from_file(&self.model)
        };
        let opened = open().map(|session| Session { session, side: self.side });
        opened.map_err(|cause| SessionError::Open { path: self.model.clone(), cause })
    }

    fn dispatch(&self) -> Option<ExecutionProviderDispatch> {
        let provider = match self.provider {
            Provider::Tensorrt => {
                // One engine for all batch sizes; TensorRT would build a new one for a shape outside this range. If
                // TensorRT can run only parts of the graph, it is rejected and the next provider is tried.
                let shape = |images| format!("{INPUT}:{images}x3x{side}x{side}", side = self.side);
                let provider = TensorRT::default()
                    .with_profile_min_shapes(shape(1))
                    .with_profile_opt_shapes(shape(self.max_batch))
                    .with_profile_max_shapes(shape(self.max_batch));
                match &self.engines {
                    Some(dir) => provider.with_engine_cache(true).with_engine_cache_path(dir.display()),
                    None => provider,
                }
                .build()
            }
            Provider::Cuda => CUDA::default().with_tf32(false).build(), // the probe is in fp32
            Provider::Cpu => return None,                               // always there, behind the others
        };
        Some(provider.error_on_failure())
    }
}

/// A model file, ready to run.
#[derive(Debug)]
pub struct Session {
    session: ort::session::Session,
    side: usize,
}

impl Session {
    /// Time of a run on a number of black images; the time does not depend on the content.
    pub fn time(&mut self, images: usize) -> Result<Duration, SessionError> {
        let pixels = vec![0f32; images * 3 * self.side * self.side];
        let began = Instant::now();
        self.run(&pixels, images)?;
        Ok(began.elapsed())
    }

    /// Answers for normalised pixels, B × 3 × side × side; one per image.
    pub fn run(&mut self, pixels: &[f32], images: usize) -> Result<Vec<Outputs>, SessionError> {
        let input = TensorRef::from_array_view(([images, 3, self.side, self.side], pixels))?;
        let outputs = self.session.run(ort::inputs![INPUT => input])?;
        let rows = |name: &str| -> Result<Vec<Vec<f32>>, SessionError> {
            let output = outputs.get(name).ok_or_else(|| SessionError::Layout(format!("there is no {name}")))?;
            let (shape, values) = output.try_extract_tensor::<f32>()?;
            match shape[..] {
                [b, c] if b == images as i64 && c > 0 => {
                    Ok(values.chunks_exact(c as usize).map(<[f32]>::to_vec).collect())
                }
                _ => Err(SessionError::Layout(format!("{name} have shape {shape:?} for {images} images"))),
            }
        };
        let rest = rows("logits")?.into_iter().zip(rows("embedding")?);
        let rows = rows("probabilities")?.into_iter().zip(rest);
        Ok(rows.map(|(probabilities, (logits, embedding))| Outputs { probabilities, logits, embedding }).collect())
    }
}

/// The model's outputs for one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Outputs {
    pub probabilities: Vec<f32>,
    pub logits: Vec<f32>,
    pub embedding: Vec<f32>,
}

/// The process's ONNX Runtime, loaded at the first call.
fn environment(library: Option<&Path>) -> Result<Environment, SessionError> {
    static LOADED: Mutex<Option<Environment>> = Mutex::new(None);
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = &*loaded {
        return Ok(environment.clone());
    }
    let path = locate(library)?;
    let failed = |cause: String| SessionError::Library { path: path.clone(), cause };
    let environment = ort::init_from(&path)
        .map_err(|error| failed(error.to_string()))?
        .with_name("coft")
        .with_telemetry(false)
        .build()
        .map_err(|error| failed(error.to_string()))?;
    *loaded = Some(environment.clone());
    Ok(environment)
}

pub(super) fn locate(library: Option<&Path>) -> Result<PathBuf, SessionError> {
    let named = library.map(Path::to_owned).or_else(|| env::var_os("ORT_DYLIB_PATH").map(PathBuf::from));
    let candidates = match named {
        Some(path) => vec![path],
        None => {
            let beside = env::current_exe().ok().and_then(|exe| beside(&exe));
            beside.into_iter().chain(PLACES.map(PathBuf::from)).map(|dir| dir.join(NAME)).collect()
        }
    };
    candidates.iter().find(|path| path.is_file()).cloned().ok_or_else(|| {
        let looked: Vec<String> = candidates.iter().map(|path| shown_path(path).into_owned()).collect();
        SessionError::NoLibrary { looked: looked.join(", ") }
    })
}

/// The directory of libraries that belongs to a program: PREFIX/lib/coft for a program in PREFIX/bin or in
/// PREFIX/libexec/coft.
fn beside(program: &Path) -> Option<PathBuf> {
    let dir = program.parent()?.parent()?;
    let prefix = if dir.ends_with("libexec") { dir.parent()? } else { dir };
    Some(prefix.join("lib/coft"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For the installed service, the directory was /usr/libexec/lib/coft.
    #[test]
    fn libraries_lie_in_the_prefix_of_the_program() {
        let found = |program: &str| beside(Path::new(program)).unwrap();
        assert_eq!(found("/usr/libexec/coft/coftd"), Path::new("/usr/lib/coft"));
        assert_eq!(found("/usr/local/libexec/coft/coftd"), Path::new("/usr/local/lib/coft"));
        assert_eq!(found("/opt/coft/bin/coftd"), Path::new("/opt/coft/lib/coft"));
    }
}
