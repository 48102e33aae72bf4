//! The candidate directory: model, weights, probe, report and manifest, complete or not there at all.

use super::classifier;
use crate::clip::tensors::to_safetensors;
use crate::error::RoundError;
use crate::model::ImageClassifier;
use coft_core::manifest::{MANIFEST, MODEL, Manifest, PROBE, REPORT, WEIGHTS};
use coft_core::report::Report;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use tch::{Tensor, no_grad};

/// Writes everything beside `dir`, syncs it, and renames it into place.
///
/// `probe` [P, 3, S, S] are the inputs whose answers travel along. The manifest's file digests are filled in here.
pub fn write(
    dir: &Path,
    model: &ImageClassifier,
    probe: &Tensor,
    report: &Report,
    mut manifest: Manifest,
) -> Result<(), RoundError> {
    let partial = dir.with_extension("partial");
    match fs::remove_dir_all(&partial) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => return Err(RoundError::write(&partial)(cause)),
        _ => {}
    }
    fs::create_dir(&partial).map_err(RoundError::write(&partial))?;

    let (graph, weights) = classifier::write(model, probe.size()[2], manifest.precision);
    let files = [(MODEL, graph), (WEIGHTS, weights), (PROBE, answers(model, probe)), (REPORT, pretty(report))];
    for (name, bytes) in &files {
        manifest.files.insert((*name).to_owned(), format!("{:x}", Sha256::digest(bytes)));
        write_synced(&partial.join(name), bytes)?;
    }
    write_synced(&partial.join(MANIFEST), &pretty(&manifest))?;
    sync_dir(&partial)?;
    fs::rename(&partial, dir).map_err(RoundError::write(dir))?;
    sync_dir(dir.parent().unwrap_or(Path::new(".")))
}

/// Torch's answers on the probe, as safetensors.
fn answers(model: &ImageClassifier, probe: &Tensor) -> Vec<u8> {
    // Answers are facts, not part of a graph.
    let (logits, probabilities, embedding) = no_grad(|| model.answers(probe));
    to_safetensors(&[
        ("pixels", probe.shallow_clone()),
        ("logits", logits),
        ("probabilities", probabilities),
        ("embedding", embedding),
    ])
}

fn pretty(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(value).expect("reports and manifests are plain data")
}

/// Writes a new file and waits until it is on the disk.
pub fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), RoundError> {
    let write = || {
        let mut file = File::create_new(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(RoundError::write(path))
}

pub fn sync_dir(dir: &Path) -> Result<(), RoundError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(RoundError::write(dir))
}
