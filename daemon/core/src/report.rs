//! `report.json`: what a round found out about its pool and its models, without any true label.

use crate::candidate::CandidateName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a round saw of its pool and made of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// Images of the pool.
    pub images: u64,
    /// What it saw of each class, in label order.
    pub classes: Vec<ClassReport>,
    /// Absent for a zero-shot candidate.
    pub adaptation: Option<Adaptation>,
    /// What the user should know, in words; the round ended all the same.
    pub warnings: Vec<String>,
    /// Wall time of each stage, s.
    pub seconds: BTreeMap<String, f64>,
    /// Peak resident memory of the trainer, bytes.
    pub peak_memory_bytes: u64,
}

/// What a round saw of one class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ClassReport {
    /// Name of the class.
    pub name: String,
    /// Pool images that have the label of the class at first: zero-shot's, or one that the user gave.
    pub zero_shot: u64,
    /// Seeds of Phase I (at most K), for each model.
    pub seeds: [u64; 2],
    /// Pairs kept for each model's Phase II.
    pub clean: [u64; 2],
    /// Pool images that the deployed model assigns to the class.
    pub deployed: u64,
    /// Mean probability of the class over the pool, by the deployed model: the share of the images that it expects to
    /// be of the class; 0 to 1. Absent without an image, and in reports of rounds that did not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_share: Option<f64>,
    /// Absent where the user has labelled no image of the pool, and in reports of rounds that did not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_labels: Option<OwnLabels>,
    /// The class whose name is most like this one's to the pretrained model. Absent in reports of rounds that did not
    /// tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nearest: Option<Nearest>,
}

/// Another class, by its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Nearest {
    /// Name of that class.
    pub name: String,
    /// Cosine of the two text features, -1 to 1.
    pub cosine: f64,
}

/// What the deployed model says of the images that the user has labelled. They have taught it: of other images fewer
/// are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct OwnLabels {
    /// Of those that it assigns to the class, the images that the user has labelled so.
    pub right: u64,
    /// Those that it assigns to the class.
    pub answered: u64,
}

/// The label-free metrics of a round's quality.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Adaptation {
    /// Images that look nearly the same as another one of the pool. They are left out of training and of what follows
    /// here: shares of the pool are of the other images. 0 in reports of rounds that did not tell.
    #[serde(default)]
    pub near_duplicates: u64,
    /// Share of the pool, but for the user's own labels, that the two models label alike after Phase I: what one gets
    /// wrong there the other may confirm. 0 in reports of rounds that did not tell.
    #[serde(default)]
    pub label_agreement: f64,
    /// Share of the pool whose label the other model confirmed, by model: what the filter keeps. 0 in reports of rounds
    /// that did not tell.
    #[serde(default)]
    pub confirmed_fraction: [f64; 2],
    /// Share of the pool whose label teaches in Phase II, by model: the surest of those that the other model confirmed,
    /// and the user's own.
    pub clean_fraction: [f64; 2],
    /// Share of the pool on which the two models of Phase II predict the same class.
    pub agreement: f64,
    /// Everything that could be deployed, in the order in which it came about; the first is zero-shot.
    pub candidates: Vec<CandidateMetrics>,
    /// Name of the one that is.
    pub deployed: CandidateName,
}

/// The label-free metrics of a candidate: what can be told of a model over the pool without labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "CandidateSigns")] // the name in the schema, from before the type was called this
pub struct CandidateMetrics {
    /// Name of the candidate: `zero-shot`, or as `deploy` in the settings names it.
    pub name: CandidateName,
    /// Share of the images whose class a shifted crop leaves unchanged; 0 to 1.
    pub stability: f64,
    /// Mean of the largest probability minus the next; 0 to 1.
    pub margin: f64,
    /// Share of the images on which it agrees with zero-shot; 0 to 1.
    #[serde(rename = "kept")] // as reports have it
    pub agreement_with_zero_shot: f64,
    /// Total variation distance between its class shares and zero-shot's; 0 to 1.
    #[serde(rename = "shift")] // as reports have it
    pub tv_distance: f64,
    /// Entropy of its mean probabilities over that of a uniform distribution; 0 to 1. Where the user has told the
    /// shares of the classes, 1 less the divergence of the mean from these, in the same unit. The largest sum with
    /// `coherence` decides, of those candidates whose `z-score` is 2 or more.
    pub balance: f64,
    /// Mutual information of an image's class and the classes of the images that look most like it, over the entropy of
    /// a uniform distribution; the mean of two, as the pretrained and as the adapted model see it; 0 to 1. 0 in reports
    /// of rounds that did not take it.
    #[serde(default)]
    pub coherence: f64,
    /// By how many standard errors its sum of `balance` and `coherence` exceeds zero-shot's. 0 for zero-shot, and in
    /// reports of rounds that did not tell.
    #[serde(default)]
    pub z_score: f64,
}
