//! What the daemon hands to the trainer: `spec.json`, everything a round may read and the one directory it may write.

use crate::ids::{ImageId, RoundId};
use crate::settings::Settings;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Version of [`RoundSpec`] and of the events; the trainer refuses any other.
pub const PROTOCOL: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RoundSpec {
    pub protocol: u32,
    pub round: RoundId,
    pub method: Method,
    /// A CLIP in any layout that `coft-models` knows.
    pub model_dir: PathBuf,
    /// Side of the images that the model is to read, px, where it is not the model's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_size: Option<u32>,
    /// Class names in label order.
    pub classes: Vec<String>,
    /// Line of each class in the label file, for messages; empty where there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub class_lines: Vec<usize>,
    /// Prompt of the zero-shot labels; `{}` stands for the class name.
    pub template: String,
    /// The unlabelled pool; empty for [`Method::ZeroShot`] alone.
    pub images: Vec<PoolImage>,
    /// Seeds every random draw; the same spec on the CPU gives the same candidate.
    pub seed: u64,
    pub device: Device,
    /// CPU threads; 0 lets libtorch choose.
    pub threads: u32,
    pub settings: Settings,
    /// Where the finished candidate directory appears, by one rename. Its parent exists and is the trainer's to write.
    pub candidate_dir: PathBuf,
    /// Measuring only: leaves per-image answers here (see the trainer's `diagnostics`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnostics: Option<Diagnostics>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// No training: the pretrained encoder with the class names' text features as its head.
    ZeroShot,
    Coft,
}

impl Method {
    /// The method as manifests, the bus and the command line write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::ZeroShot => "zero-shot",
            Method::Coft => "coft",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Device {
    #[default]
    Cpu,
    Cuda,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PoolImage {
    pub id: ImageId,
    /// Any image file; the daemon passes its cached canonical pixels.
    pub path: PathBuf,
}

/// Asks for answers on images that are never trained on. No label crosses this border in either direction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Diagnostics {
    pub dir: PathBuf,
    pub score: Vec<PathBuf>,
}
