//! The numbers of the method, with their units, ranges and sources. The few that a rule fixes are named in
//! docs/paper-map.md.
//!
//! Sources: [paper] arXiv 2602.04337; [DeFT] "Vision-Language Models are Strong Noisy Label Detectors" (NeurIPS 2024);
//! [choice] ours, where both are silent.

mod ranges;

use ranges::count;
use serde::{Deserialize, Serialize};

/// The settings of one round.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Settings of Phase I, which makes the labels.
    pub phase1: Phase1,
    /// Settings of Phase II, which trains on them.
    pub phase2: Phase2,
    /// Which of the round's models is deployed. `chosen` [choice], see docs/decisions/0005.
    pub deploy: Deploy,
    /// What matrix products are computed in while training. `auto` [choice], see docs/decisions/0014.
    pub mixed_precision: MixedPrecision,
}

/// Weights, their gradients, norms and losses stay in single precision whatever it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MixedPrecision {
    /// bfloat16 where it was measured to pay: on processors with matrix units for it, and models that are wide enough.
    #[default]
    Auto,
    /// bfloat16 always.
    Bf16,
    /// Single precision always.
    Off,
}

/// A model that a round leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deploy {
    /// The one that the rule finds best; nothing where that is zero-shot.
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
    /// The candidate's name in the report; none where the rule chooses.
    pub fn candidate(self) -> Option<&'static str> {
        match self {
            Deploy::Chosen => None,
            Deploy::Phase1Model1 => Some("phase1-model1"),
            Deploy::Phase1Model2 => Some("phase1-model2"),
            Deploy::Model1 => Some("model1"),
            Deploy::Model2 => Some("model2"),
            Deploy::Average => Some("average"),
            Deploy::AverageHalf => Some("average-half"),
        }
    }
}

/// SGD with momentum and a cosine schedule to zero.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Sgd {
    /// Peak learning rate; above 0, to 1000. It has no default here: those of the phases differ.
    pub learning_rate: f64,
    /// Momentum; 0 to 1, without 1. 0.9 [DeFT].
    #[serde(default = "momentum")]
    pub momentum: f64,
    /// Weight decay added to the gradient; 0 to 1000. 5e-4 [DeFT].
    #[serde(default = "weight_decay")]
    pub weight_decay: f64,
    /// Passes over the training images; 1 to 100,000. 10 [DeFT].
    #[serde(default = "epochs", deserialize_with = "count")]
    pub epochs: u32,
    /// Images a step; 1 to 65,536. 64 [DeFT].
    #[serde(default = "batch", deserialize_with = "count")]
    pub batch: u32,
    /// Fewest optimiser steps, however few the images; more epochs are run to reach it; 1 to 10,000,000. 150 [choice].
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
    /// K, the most confident images kept of each predicted class, whatever the pool; 1 to 1,000,000. The paper gives
    /// no value; 16 [choice].
    #[serde(deserialize_with = "count")]
    pub seeds_per_class: u32,
    /// K grows with the pool: at least this share of N/C, the images that a class would have in a balanced pool;
    /// 0 to 1. 0.4 [choice], see docs/decisions/0004.
    pub seed_share: f64,
    /// R, iterations of Phase I in CoFT+, the first included; 1 to 100. CoFT itself has one. 3 [choice].
    #[serde(deserialize_with = "count")]
    pub iterations: u32,
    /// How the complement label is drawn. `likely` [choice], see docs/decisions/0004.
    pub complement: Complement,
    /// Where the context starts. The paper does not say; DeFT starts at random. `template` [choice].
    pub context: ContextInit,
    /// M, learnable context vectors of each prompt where the context starts at random; 1 to 1000. 16 [DeFT].
    #[serde(deserialize_with = "count")]
    pub context_tokens: u32,
    /// Standard deviation of the context's initial values; above 0, to 1000. 0.02 [DeFT].
    pub context_deviation: f64,
    /// Visual prompt tokens of a block; 1 to 1000. 20 [DeFT].
    #[serde(deserialize_with = "count")]
    pub visual_tokens: u32,
    /// Fresh visual prompts in every block instead of the first alone. true [DeFT].
    pub visual_deep: bool,
    /// λ, weight of the negative-prompt loss; 0 to 1000. 1 [DeFT].
    pub lambda: f64,
    /// Learning rate of the negative prompt, over that of the other prompts; above 0, to 1,000,000. 20 [choice], see
    /// docs/decisions/0004.
    pub negative_pace: f64,
    /// Cuts the gradient of the negative-prompt loss at the image features, an ablation. false [paper].
    pub detach_negative: bool,
    /// Random crop of at least this share of the area, and flips. 1 switches the crop off; 0.8 [choice].
    pub crop_scale: f64,
    /// Mirrors training images at random. DeFT always does; `auto` [choice], see docs/decisions/0004.
    pub flip: Flip,
    /// Learning rate 0.03, 10 epochs of 64 [DeFT]; at least 150 steps [choice].
    pub sgd: Sgd,
}

/// Where the learnable context of the prompts starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContextInit {
    /// M vectors of N(0, σ²), then the class name and a full stop.
    Random,
    /// The template's own words before the class name become the context, each moved by N(0, σ²), so that tuning starts
    /// from the zero-shot classifier. A template that starts with the class name starts at random.
    Template,
}

/// Whether training images are mirrored at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flip {
    /// Where mirroring changes the pretrained model's answers no more often than a crop does: not where left and right
    /// tell classes apart.
    Auto,
    /// Each image is mirrored with the probability ½.
    Always,
    /// No image is mirrored.
    Never,
}

/// How the class is drawn that a negative prompt is tuned on: one that the image is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Complement {
    /// Uniform over the other classes [paper].
    Uniform,
    /// With the probability that the labelling model gives to each other class: the classes that the image could be
    /// mistaken for, so that the margin learns to tell those apart.
    Likely,
}

/// Phase II: the whole image encoder and a linear head on the clean pairs (Eq. 7).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Phase2 {
    /// Random crop of at least this share of the area; 1 switches it off. 0.8 [choice].
    pub crop_scale: f64,
    /// Mirrors training images at random. DeFT always does; `auto` [choice], see docs/decisions/0004.
    pub flip: Flip,
    /// Where the head starts. `text` [choice]: a class without clean images then keeps its zero-shot row, since the
    /// loss is over the classes that have some.
    pub head: HeadInit,
    /// Of the pairs of each class that the other model confirms, the share that teaches: those that the labelling model
    /// is surest of; above 0, to 1, which is all of them [paper]. 0.5 [choice], see docs/decisions/0004.
    pub clean_share: f64,
    /// Blocks of the image encoder, from the input, that stay as pretrained together with the patch embedding; 0 trains
    /// everything [paper]. 0 to 1000.
    #[serde(deserialize_with = "count")]
    pub frozen_blocks: u32,
    /// Momentum contrast; in CoFT+ alone.
    pub contrast: Contrast,
    /// Learning rate 5e-4, 10 epochs of 64 [DeFT]; at least 150 steps [choice].
    pub sgd: Sgd,
}

/// Where the linear head of Phase II starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadInit {
    /// The class names' text features, drawn back through the projection and scaled to the zero-shot logits.
    Text,
    /// N(0, 0.01²), bias 0.
    Random,
}

/// Momentum contrast over all images (Eq. 8 to 10).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Contrast {
    /// γ, its weight beside the supervised loss; 0 to 1000. 0.1 [choice].
    pub weight: f64,
    /// μ, of the averaged key encoder; 0 to 1, without 1. 0.999 [choice].
    pub momentum: f64,
    /// τ′; above 0, to 1000. 0.07 [choice].
    pub temperature: f64,
    /// Most past keys that are kept; half the pool where that is less; 1 to 10,000,000. 8192 [choice].
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
    /// K for a pool of `images` in `classes` classes.
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

    /// Optimiser steps for `images` training images: whole epochs, and no fewer than the floor. `u32::MAX` where they
    /// are more.
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
