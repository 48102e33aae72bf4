//! `manifest.json`: the content of a candidate directory and how it was made.

use crate::decision::NoneOfThese;
use crate::ids::JobId;
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
/// Name of the file with the external weights of [`MODEL`], aligned to 4096 bytes.
pub const WEIGHTS: &str = "model.onnx.data";
/// Name of the file with test inputs (`pixels`) and torch's answers (`logits`, `probabilities`, `embedding`).
pub const PROBE: &str = "probe.safetensors";
/// Name of the file with the [`crate::report::Report`].
pub const REPORT: &str = "report.json";

/// Name of the optional file beside the manifest with its Ed25519 signature, 64 bytes (RFC 8032).
pub const SIGNATURE: &str = "manifest.json.sig";

/// The files whose digests the manifest must contain.
pub const STATED: [&str; 4] = [MODEL, WEIGHTS, PROBE, REPORT];

/// Whether a file of this name may be in a bundle that is imported.
pub fn is_of_a_bundle(name: &str) -> bool {
    name == MANIFEST || name == SIGNATURE || STATED.contains(&name)
}

/// The content of `manifest.json`, written by the trainer and read by the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Manifest {
    /// Version of the layout, [`FORMAT`].
    pub format: u32,
    /// The round that made the candidate, in the numbering of the service that ran it.
    pub round: JobId,
    /// How it was made.
    pub method: Method,
    /// Class names in the order of the model's outputs.
    pub classes: Vec<String>,
    /// How often each class occurs, if the user has set that. The probabilities take it into account, the logits do
    /// not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<Shares>,
    /// `preprocessor_config.json` of the base model (in distillation, of the student) for the image size that it reads.
    /// With it, the server prepares images in the same way as the trainer.
    pub preprocessing: serde_json::Value,
    /// SHA-256 of the base model's weights, hex; in distillation the teacher's.
    pub base_model: String,
    /// SHA-256 over the sorted ids of the pool's images, hex.
    pub image_set: String,
    /// Number of images in the pool; 0 for [`Method::ZeroShot`].
    pub images: u64,
    /// Seed of every random draw of the round.
    pub seed: u64,
    /// Settings of the round.
    pub settings: Settings,
    /// The precision in which [`MODEL`] computes.
    #[serde(default)]
    pub precision: Precision,
    /// The number that the head was divided by, so that its mean confidence equals zero-shot's; 1 where nothing was
    /// adapted.
    #[serde(default = "untempered")]
    pub temperature: f64,
    /// The threshold for "none of the classes"; absent where the pool was too small for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub none_of_these: Option<NoneOfThese>,
    /// Program and version that wrote the manifest.
    pub producer: String,
    /// SHA-256 (hex) of every other file of the directory.
    pub files: BTreeMap<String, String>,
}

fn untempered() -> f64 {
    1.0
}
