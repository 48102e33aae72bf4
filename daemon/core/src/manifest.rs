//! `manifest.json`: what a candidate directory holds and how it came to be.

use crate::decision::NoneOfThese;
use crate::ids::RoundId;
use crate::settings::Settings;
use crate::shares::Shares;
use crate::spec::{Method, Precision};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the candidate directory's layout.
pub const FORMAT: u32 = 1;
/// Name of the file with the [`Manifest`].
pub const MANIFEST: &str = "manifest.json";
/// Name of the file with the ONNX graph.
pub const MODEL: &str = "model.onnx";
/// External weights of [`MODEL`], 4096-aligned.
pub const WEIGHTS: &str = "model.onnx.data";
/// Inputs (`pixels`) and torch's answers (`logits`, `probabilities`, `embedding`).
pub const PROBE: &str = "probe.safetensors";
/// Name of the file with the [`crate::report::Report`].
pub const REPORT: &str = "report.json";

/// Ed25519 signature of the manifest, 64 bytes (RFC 8032); where there is one, it lies beside it.
pub const SIGNATURE: &str = "manifest.json.sig";

/// What the manifest has to state the digests of.
pub const STATED: [&str; 4] = [MODEL, WEIGHTS, PROBE, REPORT];

/// Whether a file has a place in a bundle that is imported.
pub fn is_of_a_bundle(name: &str) -> bool {
    name == MANIFEST || name == SIGNATURE || STATED.contains(&name)
}

/// What `manifest.json` says, as the trainer writes it and the daemon reads it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Manifest {
    /// Version of the layout, [`FORMAT`].
    pub format: u32,
    /// The round that made the candidate, of the service that made it.
    pub round: RoundId,
    /// How it was made.
    pub method: Method,
    /// Class names in the order of the model's outputs.
    pub classes: Vec<String>,
    /// How often each class comes, where the user has said so; the probabilities take it into account, the logits do
    /// not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<Shares>,
    /// `preprocessor_config.json` of the base model, in distillation the student's, at the size that it reads: the
    /// server prepares images as the trainer did.
    pub preprocessing: serde_json::Value,
    /// SHA-256 of the base model's weights, hex; in distillation the teacher's.
    pub base_model: String,
    /// SHA-256 over the sorted ids of the pool's images, hex.
    pub image_set: String,
    /// Images of the pool; 0 for [`Method::ZeroShot`].
    pub images: u64,
    /// Seed of every random draw of the round.
    pub seed: u64,
    /// Settings of the round.
    pub settings: Settings,
    /// What [`MODEL`] computes in.
    #[serde(default)]
    pub precision: Precision,
    /// What the head was divided by, so that its probabilities are as sure as zero-shot's; 1 where nothing was adapted.
    #[serde(default = "untempered")]
    pub temperature: f64,
    /// Which images are none of the classes; absent where the pool was too small to tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub none_of_these: Option<NoneOfThese>,
    /// Program and version that wrote it.
    pub producer: String,
    /// SHA-256 (hex) of every other file of the directory.
    pub files: BTreeMap<String, String>,
}

fn untempered() -> f64 {
    1.0
}
