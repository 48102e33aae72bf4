//! The candidate directory: model, weights, probe, report and manifest. It is there completely or not at all.

use super::classifier;
use crate::clip::tensors::to_safetensors;
use crate::error::RoundError;
use crate::model::ImageClassifier;
use coft_core::manifest::{MANIFEST, MODEL, Manifest, PROBE, REPORT, WEIGHTS};
use coft_core::report::Report;
use serde::Serialize;
use std::path::Path;
use tch::{Tensor, no_grad};

/// Writes everything in a directory beside `dir`, syncs it, and renames it to `dir`.
///
/// `probe` [P, 3, S, S] are the inputs whose answers are stored in the candidate. The file digests of the manifest are
/// filled in here.
pub fn write(
    dir: &Path,
    model: &ImageClassifier,
    probe: &Tensor,
    report: &Report,
    mut manifest: Manifest,
) -> Result<(), RoundError> {
    let (graph, weights) = classifier::write(model, probe.size()[2], manifest.precision);
    let files = [(MODEL, graph), (WEIGHTS, weights), (PROBE, answers(model, probe)), (REPORT, pretty(report))];
    manifest.files.extend(files.iter().map(|(name, bytes)| ((*name).to_owned(), coft_fs::sha256(bytes))));
    let fill = |new: &Path| {
        files.iter().try_for_each(|(name, bytes)| coft_fs::write_synced(&new.join(name), bytes))?;
        coft_fs::write_synced(&new.join(MANIFEST), &pretty(&manifest))
    };
    coft_fs::replace_dir(dir, fill).map_err(RoundError::write(dir))
}

/// Torch's answers for the probe, as safetensors.
fn answers(model: &ImageClassifier, probe: &Tensor) -> Vec<u8> {
    // The answers are stored as values; no gradient is needed.
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
