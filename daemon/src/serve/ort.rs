//! ONNX Runtime: the one place that knows it. The library is found at run time.

use ort::environment::Environment;
use ort::ep::{CPU, CUDA, ExecutionProvider, ExecutionProviderDispatch, TensorRT};
use ort::session::builder::GraphOptimizationLevel;
use ort::value::TensorRef;
use serde::Deserialize;
use std::env;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
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
    /// As ONNX Runtime names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tensorrt => TensorRT::NAME,
            Self::Cuda => CUDA::NAME,
            Self::Cpu => CPU::NAME,
        }
    }

    /// Whether the library was built with it; whether it works, only a session tells.
    pub fn is_built_in(self, library: Option<&Path>) -> Result<bool, SessionError> {
        environment(library)?;
        Ok(match self {
            Self::Tensorrt => TensorRT::is_available()?,
            Self::Cuda => CUDA::is_available()?,
            Self::Cpu => true,
        })
    }

    fn dispatch(self, engines: Option<&Path>) -> Option<ExecutionProviderDispatch> {
        let provider = match self {
            Self::Tensorrt => {
                let provider = TensorRT::default();
                match engines {
                    Some(dir) => provider.with_engine_cache(true).with_engine_cache_path(dir.display()),
                    None => provider,
                }
                .build()
            }
            Self::Cuda => CUDA::default().with_tf32(false).build(), // the probe is in fp32
            Self::Cpu => return None,                               // it is always there, behind the others
        };
        Some(provider.error_on_failure())
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
    #[error("ONNX Runtime {path} cannot be loaded: {cause}; version 1.23 or later is needed")]
    Library { path: PathBuf, cause: String },
    #[error("{path}: {cause}")]
    Open { path: PathBuf, cause: ort::Error },
    #[error("the classifier failed: {0}")]
    Run(#[from] ort::Error),
    #[error("the classifier's outputs are not those of its layout: {0}")]
    Layout(String),
}

/// A model file, ready to run.
#[derive(Debug)]
pub struct Session(ort::session::Session);

impl Session {
    /// Opens `model.onnx` with the weights beside it. `threads` 0 lets ONNX Runtime choose; `engines` is where TensorRT keeps
    /// what it has built.
    pub fn open(
        model: &Path,
        library: Option<&Path>,
        threads: usize,
        provider: Provider,
        engines: Option<&Path>,
    ) -> Result<Self, SessionError> {
        let environment = environment(library)?;
        let open = || -> ort::Result<ort::session::Session> {
            let mut builder = ort::session::Session::builder(&environment)?
                .with_optimization_level(GraphOptimizationLevel::All)?
                // Threads that spin take the cores that decode, and those that train; docs/benchmarks.md has the figures.
                .with_intra_op_spinning(false)?;
            if threads > 0 {
                builder = builder.with_intra_threads(threads)?;
            }
            if let Some(provider) = provider.dispatch(engines) {
                builder = builder.with_execution_providers([provider])?;
            }
            builder.commit_from_file(model)
        };
        open().map(Self).map_err(|cause| SessionError::Open { path: model.to_owned(), cause })
    }

    /// Answers for normalised pixels, B × 3 × side × side: one an image.
    pub fn run(&mut self, pixels: &[f32], images: usize, side: usize) -> Result<Vec<Outputs>, SessionError> {
        let input = TensorRef::from_array_view(([images, 3, side, side], pixels))?;
        let outputs = self.0.run(ort::inputs!["pixels" => input])?;
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

/// What the model says of one image.
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
            let beside = env::current_exe().ok().and_then(|exe| Some(exe.parent()?.parent()?.join("lib/coft")));
            beside.into_iter().chain(PLACES.map(PathBuf::from)).map(|dir| dir.join(NAME)).collect()
        }
    };
    candidates.iter().find(|path| path.is_file()).cloned().ok_or_else(|| {
        let looked: Vec<String> = candidates.iter().map(|path| path.display().to_string()).collect();
        SessionError::NoLibrary { looked: looked.join(", ") }
    })
}
