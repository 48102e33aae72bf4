//! Copies a generation out of the service, in layouts that other programs read.

mod oci;
mod onnx;
mod triton;

use crate::error::CliError;
use clap::ValueEnum;
use coft_core::manifest::{FORMAT, MANIFEST, Manifest, PROBE};
use coft_core::shown::shown_path;
use safetensors::SafeTensors;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The ONNX model with its weights, labels, manifest, report and probe
    Onnx,
    /// A model repository of Triton, which OpenVINO Model Server reads too
    Triton,
    /// An OCI image layout with that repository below /models
    Oci,
}

/// File with the class names in the order of the model's outputs, one per line.
const LABELS: &str = "labels.txt";

pub struct Bundle {
    /// Name of the classifier.
    name: String,
    generation: u64,
    manifest: Manifest,
    /// The bytes of `manifest.json`, unchanged.
    stated: Vec<u8>,
    files: HashMap<String, File>,
    shape: Shape,
    stop: Arc<AtomicBool>,
}

/// Sizes of the model's input and outputs, read from the probe.
struct Shape {
    /// Side of the input, px; `pixels` is [B, 3, side, side].
    side: usize,
    classes: usize,
    embedding: usize,
}

impl Bundle {
    /// Takes the files of a generation, which the service has opened.
    pub fn new(name: String, generation: u64, files: HashMap<String, OwnedFd>) -> Result<Self, CliError> {
        let mut files: HashMap<_, _> = files.into_iter().map(|(name, file)| (name, File::from(file))).collect();
        // The name becomes the name of a directory.
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(CliError::Misunderstood(format!("{name:?} is no name of a classifier")));
        }
        let stated = read(&mut files, MANIFEST)?;
        let damaged = |fault: String| CliError::Export(format!("generation {generation}: {fault}"));
        let manifest: Manifest =
            serde_json::from_slice(&stated).map_err(|error| damaged(format!("{MANIFEST}: {error}")))?;
        if manifest.format != FORMAT {
            return Err(damaged(format!("layout version {}; this coftctl reads {FORMAT}", manifest.format)));
        }
        let shape = Shape::of(&read(&mut files, PROBE)?).map_err(|fault| damaged(format!("{PROBE}: {fault}")))?;
        Ok(Self { name, generation, manifest, stated, files, shape, stop: Arc::default() })
    }

    /// A flag that ends the writing when it is set; nothing is left on the disk then.
    pub fn stop(&self) -> Arc<AtomicBool> {
        self.stop.clone()
    }

    /// Writes the bundle to a directory that must not exist yet. The directory appears complete or not at all.
    pub fn write(&self, format: Format, dir: &Path) -> Result<(), CliError> {
        if dir.symlink_metadata().is_ok() {
            return Err(CliError::Usage(format!("{} is there already; name a new directory", shown_path(dir))));
        }
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let partial = tempfile::Builder::new().prefix(".coft-export-").tempdir_in(parent).map_err(at(parent))?;
        match format {
            Format::Onnx => onnx::write(self, partial.path())?,
            Format::Triton => triton::write(self, partial.path())?,
            Format::Oci => oci::write(self, partial.path())?,
        }
        fs::set_permissions(partial.path(), Permissions::from_mode(0o755)).map_err(at(dir))?;
        fs::rename(partial.path(), dir).map_err(at(dir))?;
        coft_fs::sync_dir(parent).map_err(at(parent))
    }

    /// Copies a file of the generation, and compares the copy with the digest in the manifest.
    fn copy(&self, name: &str, to: &Path) -> Result<(), CliError> {
        let missing = || CliError::Export(format!("generation {}: {name} is missing", self.generation));
        let (mut from, digest) = self.files.get(name).zip(self.manifest.files.get(name)).ok_or_else(missing)?;
        let path = to.join(name);
        let mut hashed = self.hashed(File::create_new(&path).map_err(at(&path))?);
        let copied = from.seek(SeekFrom::Start(0)).and_then(|_| io::copy(&mut from, &mut hashed));
        copied.and_then(|_| hashed.to.sync_all()).map_err(at(&path))?;
        if coft_fs::hex(&hashed.hash.finalize()) != *digest {
            let generation = self.generation;
            return Err(CliError::Export(format!(
                "generation {generation}: {name} does not have the digest that the manifest names; it is damaged"
            )));
        }
        Ok(())
    }

    fn hashed(&self, to: File) -> Hashed {
        Hashed { to, hash: Sha256::new(), stop: self.stop.clone() }
    }

    fn labels(&self) -> String {
        self.manifest.classes.iter().map(|class| format!("{class}\n")).collect()
    }
}

impl Shape {
    fn of(probe: &[u8]) -> Result<Self, String> {
        let tensors = SafeTensors::deserialize(probe).map_err(|error| error.to_string())?;
        let last = |name: &str| {
            let shape = tensors.tensor(name).map_err(|error| error.to_string())?.shape().to_vec();
            shape.last().copied().ok_or(format!("{name} has no sides"))
        };
        Ok(Self { side: last("pixels")?, classes: last("logits")?, embedding: last("embedding")? })
    }
}

fn read(files: &mut HashMap<String, File>, name: &str) -> Result<Vec<u8>, CliError> {
    let file = files.get_mut(name).ok_or_else(|| CliError::Misunderstood(format!("no {name} among the files")))?;
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut bytes)).map_err(at(Path::new(name)))?;
    Ok(bytes)
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    coft_fs::write_synced(path, bytes).map_err(at(path))
}

fn create_dir(path: &Path) -> Result<(), CliError> {
    fs::create_dir(path).map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> CliError + use<> {
    let path = shown_path(path).into_owned();
    move |error| CliError::Export(format!("{path}: {error}"))
}

/// Passes bytes through and hashes them, until it is stopped.
struct Hashed {
    to: File,
    hash: Sha256,
    stop: Arc<AtomicBool>,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stop.load(Relaxed) {
            return Err(io::Error::other("stopped"));
        }
        let count = self.to.write(bytes)?;
        self.hash.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
