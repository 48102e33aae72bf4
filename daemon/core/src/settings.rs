//! The settings of the method, with their units, ranges and sources. docs/paper-map.md names the few numbers that a
//! rule fixes.
//!
//! Sources: [paper] arXiv 2602.04337; [DeFT] "Vision-Language Models are Strong Noisy Label Detectors" (NeurIPS 2024);
//! [choice] ours, where both are silent.

mod ranges;

use crate::candidate::CandidateName;
use ranges::count;
use serde::{Deserialize, Serialize};

/// The settings of one round.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Settings of Phase I, which produces the labels.
    pub phase1: Phase1,
    /// Settings of Phase II, which trains on these labels.
    pub phase2: Phase2,
    /// Which of the round's models is deployed. `chosen` [choice], see docs/decisions/0005 and 0026.
    pub deploy: Deploy,
    /// Element type of matrix products in training. `auto` [choice], see docs/decisions/0014.
    pub mixed_precision: MixedPrecision,
}

/// Whether matrix products use bfloat16. Weights, gradients, norms and losses are always in single precision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MixedPrecision {
    /// bfloat16 where measurements showed a gain: on processors with matrix units for it, and for models that are wide
    /// enough.
    #[default]
    Auto,
    /// bfloat16 always.
    Bf16,
    /// Single precision always.
    Off,
}

/// Which of a round's models is deployed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deploy {
    /// The model that the rule finds best; none where that is zero-shot's.
    #[default]
    Chosen,
    /// Phase I of the first model: prompts over the pretrained weights.
    Phase1Model1,
    /// Phase I of the second model.
    Phase1Model2,
    /// Phase II of the first model: its image encoder and head.
    Model1,
    /// Phase II of the second model.
    Model2,
    /// The mean of both models' weights.
    Average,
    /// That mean, half way back to the pretrained weights (WiSE-FT).
    AverageHalf,
}

impl Deploy {
    /// The candidate's name in the report; `None` where the rule chooses.
    pub fn candidate(self) -> Option<CandidateName> {
        match self {
            Deploy::Chosen => None,
            Deploy::Phase1Model1 => Some(CandidateName::Phase1Model1),
            Deploy::Phase1Model2 => Some(CandidateName::Phase1Model2),
            Deploy::Model1 => Some(CandidateName::Model1),
            Deploy::Model2 => Some(CandidateName::Model2),
            Deploy::Average => Some(CandidateName::Average),
            Deploy::AverageHalf => Some(CandidateName::AverageHalf),
        }
    }
}

/// SGD with momentum and a cosine schedule to zero.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Sgd {
    /// Peak learning rate; above 0, to 1000. No default here, because it differs between the phases.
    pub learning_rate: f64,
    /// Momentum; 0 to 1, excluding 1. 0.9 [DeFT].
    #[serde(default = "momentum")]
    pub momentum: f64,
    /// Weight decay added to the gradient; 0 to 1000. 5e-4 [DeFT].
    #[serde(default = "weight_decay")]
    pub weight_decay: f64,
    /// Passes over the training images; 1 to 100,000. 10 [DeFT].
    #[serde(default = "epochs", deserialize_with = "count")]
    pub epochs: u32,
    /// Images per step; 1 to 65,536. 64 [DeFT].
    #[serde(default = "batch", deserialize_with = "count")]
    pub batch: u32,
    /// Fewest optimiser steps, however few the images are; more epochs are run to reach it; 1 to 10,000,000. 150
    /// [choice].
    #[serde(default = "minimum_steps", deserialize_with = "count")]
    pub minimum_steps: u32,
}

fn momentum() -> f64 {
    0.9
}

fn weight_decay() -> f64 {
    5e-4
}

fn epochs() -> u32 {
    10
}

fn batch() -> u32 {
    64
}

fn minimum_steps() -> u32 {
    150
}

/// Phase I: prompts tuned on confident pseudo-labels (Eq. 1 to 6).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Phase1 {
    /// K, the number of most confident images that are kept per predicted class, for any pool; 1 to 1,000,000. The
    /// paper gives no value; 16 [choice].
    #[serde(deserialize_with = "count")]
    pub seeds_per_class: u32,
    /// Makes K grow with the pool: K is at least this share of N/C, the number of images per class in a balanced pool;
    /// 0 to 1. 0.4 [choice], see docs/decisions/0004.
    pub seed_share: f64,
    /// R, number of iterations of Phase I in CoFT+, including the first; 1 to 100. CoFT itself has one. 3 [choice].
    #[serde(deserialize_with = "count")]
    pub iterations: u32,
    /// How the complement label is drawn. `likely` [choice], see docs/decisions/0004.
    pub complement: Complement,
    /// Initial value of the context. The paper does not state it; in DeFT it is random. `template` [choice].
    pub context: ContextInit,
    /// M, number of learnable context vectors of each prompt, where the context starts at random; 1 to 1000. 16 [DeFT].
    #[serde(deserialize_with = "count")]
    pub context_tokens: u32,
    /// Standard deviation of the context's initial values; above 0, to 1000. 0.02 [DeFT].
    pub context_deviation: f64,
    /// Number of visual prompt tokens per block; 1 to 1000. 20 [DeFT].
    #[serde(deserialize_with = "count")]
    pub visual_tokens: u32,
    /// Whether every block has its own visual prompts, instead of the first block alone. true [DeFT].
    pub visual_deep: bool,
    /// λ, weight of the negative-prompt loss; 0 to 1000. 1 [DeFT].
    pub lambda: f64,
    /// Learning rate of the negative prompt, divided by that of the other prompts; above 0, to 1,000,000. 20 [choice],
    /// see docs/decisions/0004.
    pub negative_pace: f64,
    /// Whether the gradient of the negative-prompt loss stops at the image features, an ablation. false [paper].
    pub detach_negative: bool,
    /// Least share of the area that the random crop keeps. 1 switches cropping off; 0.8 [choice].
    pub crop_scale: f64,
    /// Whether training images are mirrored at random. DeFT always does; `auto` [choice], see docs/decisions/0004.
    pub flip: Flip,
    /// Learning rate 0.03, 10 epochs of 64 [DeFT]; at least 150 steps [choice].
    pub sgd: Sgd,
}

/// Initial value of the learnable context of the prompts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContextInit {
    /// M vectors drawn from N(0, σ²); the class name and a full stop follow.
    Random,
    /// The template's words before the class name, with N(0, σ²) added, so that tuning starts from the zero-shot
    /// classifier. If the template starts with the class name, the context starts at random.
    Template,
}

/// Whether training images are mirrored at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flip {
    /// Only if mirroring changes the pretrained model's answers no more often than a crop does: so not where left and
    /// right distinguish classes.
    Auto,
    /// Each image is mirrored with probability ½.
    Always,
    /// No image is mirrored.
    Never,
}

/// How the complement label is drawn: a class that the image does not belong to, for the negative prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Complement {
    /// Uniform over the other classes [paper].
    Uniform,
    /// With the probability that the labelling model gives to each other class. These are the classes with which the
    /// image could be confused, so the margin learns to distinguish them.
    Likely,
}

/// Phase II: the whole image encoder and a linear head on the clean pairs (Eq. 7).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Phase2 {
    /// Least share of the area that the random crop keeps; 1 switches cropping off. 0.8 [choice].
    pub crop_scale: f64,
    /// Whether training images are mirrored at random. DeFT always does; `auto` [choice], see docs/decisions/0004.
    pub flip: Flip,
    /// Initial value of the head. `text` [choice]: a class without clean images then keeps its zero-shot row, because
    /// the loss is only over the classes that have some.
    pub head: HeadInit,
    /// Share of each class's confirmed pairs that are used for training, those with the highest confidence of the
    /// labelling model; above 0, to 1, which uses all of them [paper]. 0.5 [choice], see docs/decisions/0004.
    pub clean_share: f64,
    /// Number of image-encoder blocks, counted from the input, that stay frozen together with the patch embedding; 0
    /// trains everything [paper]. 0 to 1000.
    #[serde(deserialize_with = "count")]
    pub frozen_blocks: u32,
    /// Momentum contrast; only in CoFT+.
    pub contrast: Contrast,
    /// Learning rate 5e-4, 10 epochs of 64 [DeFT]; at least 150 steps [choice].
    pub sgd: Sgd,
}

/// Initial value of the linear head of Phase II.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadInit {
    /// The text features of the class names, projected back to the encoder's width and scaled to the zero-shot logits.
    Text,
    /// N(0, 0.01²), bias 0.
    Random,
}

/// Momentum contrast over all images (Eq. 8 to 10).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Contrast {
    /// γ, weight of the contrast loss beside the supervised loss; 0 to 1000. 0.1 [choice].
    pub weight: f64,
    /// μ, momentum of the averaged key encoder; 0 to 1, excluding 1. 0.999 [choice].
    pub momentum: f64,
    /// τ′, temperature; above 0, to 1000. 0.07 [choice].
    pub temperature: f64,
    /// Most past keys in the queue; half the pool where that is less; 1 to 10,000,000. 8192 [choice].
    #[serde(deserialize_with = "count")]
    pub queue: u32,
}

impl Default for Contrast {
    fn default() -> Self {
        Self { weight: 0.1, momentum: 0.999, temperature: 0.07, queue: 8192 }
    }
}

impl Default for Phase1 {
    fn default() -> Self {
        Self {
            seeds_per_class: 16,
            seed_share: 0.4,
            iterations: 3,
            complement: Complement::Likely,
            context: ContextInit::Template,
            context_tokens: 16,
            context_deviation: 0.02,
            visual_tokens: 20,
            visual_deep: true,
            lambda: 1.0,
            negative_pace: 20.0,
            detach_negative: false,
            crop_scale: 0.8,
            flip: Flip::Auto,
            sgd: Sgd::at(0.03),
        }
    }
}

impl Default for Phase2 {
    fn default() -> Self {
        Self {
            crop_scale: 0.8,
            flip: Flip::Auto,
            head: HeadInit::Text,
            clean_share: 0.5,
            frozen_blocks: 0,
            contrast: Contrast::default(),
            sgd: Sgd::at(5e-4),
        }
    }
}

impl Phase1 {
    /// K for a pool of `images` images and `classes` classes.
    pub fn seeds(&self, images: usize, classes: usize) -> usize {
        let balanced = images as f64 / classes.max(1) as f64;
        (self.seeds_per_class as usize).max((self.seed_share * balanced) as usize)
    }
}

impl Sgd {
    fn at(learning_rate: f64) -> Self {
        Self {
            learning_rate,
            momentum: momentum(),
            weight_decay: weight_decay(),
            epochs: epochs(),
            batch: batch(),
            minimum_steps: minimum_steps(),
        }
    }

    /// Number of optimiser steps for `images` training images: whole epochs, and at least `minimum_steps`. `u32::MAX`
    /// if there are more.
    pub fn steps(&self, images: usize) -> u32 {
        let per_epoch = images.div_ceil(self.batch.max(1) as usize).max(1) as u64;
        let steps = per_epoch.saturating_mul(u64::from(self.epochs));
        u32::try_from(steps).unwrap_or(u32::MAX).max(self.minimum_steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_whole_epochs_and_no_fewer_than_the_floor() {
        let sgd = Sgd { minimum_steps: 100, ..Sgd::at(0.1) };
        assert_eq!((sgd.steps(1), sgd.steps(640), sgd.steps(641)), (100, 100, 110));
    }

    #[test]
    fn steps_do_not_wrap() {
        let sgd = Sgd { epochs: 1 << 31, batch: 1, minimum_steps: 3, ..Sgd::at(0.1) };
        assert_eq!((sgd.steps(2), sgd.steps(usize::MAX)), (u32::MAX, u32::MAX));
    }

    #[test]
    fn seeds_grow_with_the_pool_from_a_floor() {
        let phase1 = Phase1::default();
        assert_eq!(
            [(400, 10), (410, 10), (1000, 10), (1000, 43), (0, 10)].map(|(n, c)| phase1.seeds(n, c)),
            [16, 16, 40, 16, 16]
        );
        assert_eq!(Phase1 { seed_share: 0.0, ..phase1 }.seeds(1000, 10), 16, "the paper's K, whatever the pool");
    }
}
