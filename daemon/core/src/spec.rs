//! `spec.json`, which the daemon gives to the trainer: everything that a round may read and the directory that it may
//! write.

use crate::ids::{ClassId, ImageId, JobId};
use crate::settings::Settings;
use crate::shares::Shares;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Version of [`RoundSpec`] and of the events. The trainer refuses any other version.
pub const PROTOCOL: u32 = 2;

/// File in a journal with the [`RoundSpec::work`] that the journal belongs to.
pub const JOURNAL_SPEC: &str = "spec.json";

/// What a round has to do, and everything that it may know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RoundSpec {
    /// Version of this structure, [`PROTOCOL`].
    pub protocol: u32,
    /// Number of the round.
    pub round: JobId,
    /// How the candidate is made.
    pub method: Method,
    /// Directory of a CLIP in any layout that `coft-models` knows.
    pub model_dir: PathBuf,
    /// Side of the images that the model reads, px, if it differs from the model's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_size: Option<u32>,
    /// Class names in label order.
    pub classes: Vec<String>,
    /// Line of each class in the label file, for messages; empty where there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub class_lines: Vec<usize>,
    /// How often each class occurs, if the user has set that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<Shares>,
    /// Directory of the CLIP that Phase II trains, if it is another, usually smaller, one than the CLIP that labels and
    /// filters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub student_dir: Option<PathBuf>,
    /// Prompt from which the learnable context starts, and with which zero-shot labels are made if there are no
    /// `templates`; `{}` stands for the class name.
    pub template: String,
    /// Prompts whose text features are averaged for the zero-shot labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub templates: Vec<Template>,
    /// The unlabelled pool; empty only for [`Method::ZeroShot`].
    pub images: Vec<PoolImage>,
    /// Seed of every random draw. On the CPU of one machine with the same libtorch and number of threads, the same spec
    /// gives the same candidate, bit for bit; elsewhere the last bits differ.
    pub seed: u64,
    /// The device that the round is computed on.
    pub device: Device,
    /// The precision in which the exported model computes.
    #[serde(default, skip_serializing_if = "Precision::is_single")]
    pub precision: Precision,
    /// Number of CPU threads. With 0, libtorch chooses, and a round on a GPU uses all threads of the machine.
    pub threads: u32,
    /// Settings of the method.
    pub settings: Settings,
    /// The finished candidate directory, which appears by one rename. Its parent exists, and the trainer may write
    /// there.
    pub candidate_dir: PathBuf,
    /// Directory where the round saves its work. The round continues from what an earlier run of the same
    /// [`RoundSpec::work`] has saved. Made if it does not exist; its parent exists.
    pub journal_dir: PathBuf,
    /// For measurements only: the round writes per-image answers here (see the trainer's `diagnostics`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnostics: Option<Diagnostics>,
}

impl RoundSpec {
    /// The part of the spec that decides the result: everything except the number of the round and the output paths.
    pub fn work(&self) -> RoundSpec {
        let nowhere = PathBuf::new;
        Self { round: JobId(0), candidate_dir: nowhere(), journal_dir: nowhere(), diagnostics: None, ..self.clone() }
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
    /// For comparison: only text prompts, tuned on the seeds (after UPL, arXiv 2204.03649).
    Upl,
    /// For comparison: Phase II on all zero-shot labels.
    SelfTraining,
    /// For comparison: Phase II on the labels in the spec's images.
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

/// The device that a round is computed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Device {
    /// The CPU.
    #[default]
    Cpu,
    /// The first NVIDIA GPU.
    Cuda,
}

/// The precision in which an exported model computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// Single precision.
    #[default]
    Fp32,
    /// The encoder in half precision; the sums of its norms in single precision.
    Fp16,
    /// Matrix products of the encoder's blocks with 8-bit integers; everything else in single precision.
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
    /// The user's own label: position of the class. Both phases train on it, and it is never filtered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<ClassId>,
}

/// A line of a template file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Template {
    /// Its number in the file, from 1.
    pub line: usize,
    /// The prompt, with `{}` for the class name.
    pub text: String,
}

/// Asks for answers on images that are never used for training. No label is passed in either direction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Diagnostics {
    /// Directory that the answers are written to.
    pub dir: PathBuf,
    /// Image files to answer.
    pub score: Vec<PathBuf>,
}
