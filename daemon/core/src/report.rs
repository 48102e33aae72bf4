//! `report.json`: what a round saw, without a single label.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    pub images: u64,
    pub classes: Vec<ClassReport>,
    /// Absent for a zero-shot candidate.
    pub adaptation: Option<Adaptation>,
    pub warnings: Vec<String>,
    /// Wall time of each stage, s.
    pub seconds: BTreeMap<String, f64>,
    /// Peak resident memory of the trainer, bytes.
    pub peak_memory_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClassReport {
    pub name: String,
    /// Pool images that zero-shot assigns to the class.
    pub zero_shot: u64,
    /// Seeds of Phase I (at most K).
    pub seeds: u64,
    /// Pairs kept for each model's Phase II.
    pub clean: [u64; 2],
    /// Pool images that the deployed model assigns to the class.
    pub deployed: u64,
}

/// The label-free signs of a round's quality.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Adaptation {
    /// Share of the pool that the other model confirmed, for each model's labels.
    pub clean_fraction: [f64; 2],
    /// Share of the pool on which the two final models predict the same class.
    pub agreement: f64,
    /// Share of the pool whose prediction a flip and a shifted crop leave unchanged, for each final model.
    pub stability: [f64; 2],
    /// The run that was deployed, 1 or 2: the more stable one, run 1 on a tie.
    pub deployed: u8,
}
