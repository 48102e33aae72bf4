//! What the daemon hands to the trainer: `spec.json`, everything a round may read and the one directory it may write.

use crate::ids::{ClassId, ImageId, RoundId};
use crate::settings::Settings;
use crate::shares::Shares;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Version of [`RoundSpec`] and of the events; the trainer refuses any other.
pub const PROTOCOL: u32 = 2;

/// File of a journal that holds the [`RoundSpec::work`] that it belongs to.
pub const JOURNAL_SPEC: &str = "spec.json";

/// What a round is to do, and all that it may know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RoundSpec {
    /// Version of this structure, [`PROTOCOL`].
    pub protocol: u32,
    /// Number of the round.
    pub round: RoundId,
    /// How the candidate is made.
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
    /// How often each class comes, where the user has said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<Shares>,
    /// Where Phase II trains another, usually smaller, CLIP than the one that labels and filters: that one's directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub student_dir: Option<PathBuf>,
    /// Prompt of the learnable context, and of the zero-shot labels too where there are no `templates`; `{}` stands for
    /// the class name.
    pub template: String,
    /// Prompts whose text features are averaged for the zero-shot labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub templates: Vec<Template>,
    /// The unlabelled pool; empty for [`Method::ZeroShot`] alone.
    pub images: Vec<PoolImage>,
    /// Seeds every random draw. The same spec gives the same candidate, bit for bit, on the CPU of one machine with one
    /// libtorch and one number of threads; elsewhere the last bits are others.
    pub seed: u64,
    /// What the round is computed on.
    pub device: Device,
    /// What the exported model computes in.
    #[serde(default, skip_serializing_if = "Precision::is_single")]
    pub precision: Precision,
    /// CPU threads; 0 lets libtorch choose, and on a GPU takes as many as there are.
    pub threads: u32,
    /// Settings of the method.
    pub settings: Settings,
    /// Where the finished candidate directory appears, by one rename. Its parent exists and is the trainer's to write.
    pub candidate_dir: PathBuf,
    /// Where the round writes down what it has done, and goes on from what an earlier run of the same
    /// [`RoundSpec::work`] has done. Made if it is not there; its parent exists.
    pub journal_dir: PathBuf,
    /// Measuring only: leaves per-image answers here (see the trainer's `diagnostics`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnostics: Option<Diagnostics>,
}

impl RoundSpec {
    /// What decides the result: all of it but the number of the round and the places where results go.
    pub fn work(&self) -> RoundSpec {
        let nowhere = PathBuf::new;
        Self { round: RoundId(0), candidate_dir: nowhere(), journal_dir: nowhere(), diagnostics: None, ..self.clone() }
    }
}

/// How a candidate is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// No training: the pretrained encoder with the class names' text features as its head.
    ZeroShot,
    /// The method of the paper: one iteration of Phase I, then Phase II without contrast.
    Coft,
    /// CoFT with iterated Phase I and momentum contrast in Phase II.
    CoftPlus,
    /// For comparison: text prompts alone, tuned on the seeds (after UPL, arXiv 2204.03649).
    Upl,
    /// For comparison: Phase II on every zero-shot label.
    SelfTraining,
    /// For comparison: Phase II on the labels that the images carry.
    Oracle,
}

impl Method {
    /// The method as manifests, the bus and the command line write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::ZeroShot => "zero-shot",
            Method::Coft => "coft",
            Method::CoftPlus => "coft-plus",
            Method::Upl => "upl",
            Method::SelfTraining => "self-training",
            Method::Oracle => "oracle",
        }
    }
}

/// What a round is computed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// The first GPU of NVIDIA's.
    Cuda,
}

/// What an exported model computes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// Single precision.
    #[default]
    Fp32,
    /// The encoder in half precision, its norms' sums in single.
    Fp16,
    /// The products of the encoder's blocks on integers of eight bits, all else in single precision.
    Int8,
}

impl Precision {
    fn is_single(&self) -> bool {
        *self == Precision::Fp32
    }
}

/// An image of the pool.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PoolImage {
    /// Id of the image.
    pub id: ImageId,
    /// Any image file; the daemon passes its cached canonical pixels.
    pub path: PathBuf,
    /// The user's own label: position of the class. It teaches in both phases and is never filtered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<ClassId>,
}

/// A line of a template file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Template {
    /// From 1.
    pub line: usize,
    /// The prompt, with `{}` for the class name.
    pub text: String,
}

/// Asks for answers on images that are never trained on. No label crosses this border in either direction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Diagnostics {
    /// Directory that the answers are written to.
    pub dir: PathBuf,
    /// Image files to answer.
    pub score: Vec<PathBuf>,
}
