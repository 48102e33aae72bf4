//! Phase II: the whole image encoder and a linear head, trained on the clean pairs (Eq. 7); in CoFT+ with momentum contrast
//! over all images beside it (Eq. 8 to 10).
//!
//! N images of the pool, C classes, B images of a batch, W encoder width.

mod contrast;

use crate::checkpoint::Checkpoint;
use crate::clip::VisionTower;
use crate::error::RoundError;
use crate::fit::{self, Objective, Plan, TrainContext};
use crate::model::Phase2Weights;
use crate::pool::{Batch, BatchSampler, Pool};
use coft_core::candidate::ModelIndex;
use coft_core::event::Stage;
use coft_core::settings::{HeadInit, Phase2};
use contrast::MomentumQueue;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use tch::{Reduction, Tensor};

/// The clean pairs of one model: which images of the pool are used for training, and the label of every image.
#[derive(Clone, Copy, Debug)]
pub struct Clean<'a> {
    /// Whether each image is in a clean pair. [N]
    pub kept: &'a [bool],
    /// The label of each image. [N]
    pub labels: &'a [usize],
}

/// One fine-tuning.
#[derive(Clone, Copy, Debug)]
pub struct FineTuning<'a> {
    pub checkpoint: &'a Checkpoint,
    pub pool: &'a Pool<'a>,
    /// Normalised text features of the class names, from which the head is made. [C, D]
    pub text: &'a Tensor,
    /// Mean length of the pool's image embeddings before normalisation.
    pub embedding_norm: f64,
    pub settings: &'a Phase2,
    /// Whether training images are mirrored at random.
    pub flip: bool,
    /// Momentum contrast, in CoFT+.
    pub contrast: bool,
    pub seed: u64,
    pub model: ModelIndex,
}

impl FineTuning<'_> {
    /// The weights that training starts from. A model without enough clean pairs keeps them.
    pub fn start(&self) -> Phase2Weights {
        Phase2Weights::pretrained(self.checkpoint, self.text, self.embedding_norm)
    }

    /// The objective that is minimised over the clean pairs.
    #[cfg(test)]
    pub fn objective<'a>(&'a self, clean: &Clean<'a>, name: &str) -> impl Objective + 'a {
        Tuning::new(self, clean, name)
    }

    /// The images that batches are drawn from.
    pub fn visited(&self, clean: &Clean) -> Vec<usize> {
        (0..clean.kept.len()).filter(|&i| clean.kept[i] || self.contrast).collect()
    }

    /// Fine-tunes one model on its clean pairs, from the pretrained weights. The model stays pretrained where
    /// [`taught`] has fewer than two classes.
    pub fn run(&self, clean: &Clean, ctx: &mut TrainContext) -> Result<Phase2Weights, RoundError> {
        let name = format!("phase 2 of model {}", self.model);
        if let Some(weights) = ctx.journal.result(&name).and_then(Phase2Weights::from_named) {
            return Ok(weights);
        }
        if taught(clean).len() < 2 {
            return Ok(self.start());
        }
        let tuned = self.tuned(clean, &name, ctx)?;
        ctx.keep_result(&name, tuned.named())?;
        Ok(tuned)
    }

    /// The training alone. `name` selects its random streams.
    pub fn tuned(&self, clean: &Clean, name: &str, ctx: &mut TrainContext) -> Result<Phase2Weights, RoundError> {
        let stage = Stage::phase2(self.model);
        let images = self.visited(clean);
        let plan = Plan {
            stage,
            sampler: BatchSampler {
                images: &images,
                batch: self.settings.sgd.batch as usize,
                crop_scale: self.settings.crop_scale,
                flip: self.flip,
                views: if self.contrast { 2 } else { 1 },
                seed: self.seed,
                name: name.to_owned(),
            },
            sgd: &self.settings.sgd,
            steps: self.settings.sgd.steps(images.len()),
            kind: ctx.kind(self.checkpoint),
        };
        Ok(fit::fit(&plan, self.pool, ctx, || Tuning::new(self, clean, name))?.weights)
    }
}

struct Tuning<'a> {
    weights: Phase2Weights,
    encoder: VisionTower,
    frozen: u32,
    clean: Clean<'a>,
    /// Classes that have a clean pair, in order. The loss is computed over these alone: no image speaks against the
    /// other classes, so their rows of the head keep their zero-shot values except for the weight decay.
    taught: Vec<usize>,
    momentum_queue: Option<MomentumQueue<'a>>,
}

impl<'a> Tuning<'a> {
    fn new(task: &FineTuning<'a>, clean: &Clean<'a>, name: &str) -> Self {
        let weights = task.start().with_head(task.settings.head, task.seed, name);
        let frozen = task.settings.frozen_blocks;
        for (_, tensor) in weights.encoder.iter().filter(|(name, _)| is_frozen(name, frozen)) {
            let _ = tensor.set_requires_grad(false);
        }
        let encoder = weights.model(task.checkpoint).encoder;
        let capacity = (task.settings.contrast.queue as usize).min(task.pool.len() / 2).max(1);
        let momentum_queue =
            task.contrast.then(|| MomentumQueue::new(task.checkpoint, &task.settings.contrast, capacity));
        let taught = match task.settings.head {
            HeadInit::Text => taught(clean),
            HeadInit::Random => (0..task.text.size()[0] as usize).collect(), // there is no zero-shot row to keep
        };
        Self { weights, encoder, frozen, clean: *clean, taught, momentum_queue }
    }
}

/// Classes that have a clean pair, in order. Fewer than two are not enough for training: the model would never see
/// another class.
pub fn taught(clean: &Clean) -> Vec<usize> {
    let pairs = clean.labels.iter().zip(clean.kept).filter(|&(_, &kept)| kept);
    let classes: BTreeSet<usize> = pairs.map(|(&label, _)| label).collect();
    classes.into_iter().collect()
}

/// Whether a tensor of the encoder belongs to the layers before block `blocks`.
fn is_frozen(name: &str, blocks: u32) -> bool {
    let inner = name.strip_prefix(VisionTower::ENCODER).unwrap_or(name);
    let block = inner.strip_prefix("encoder.layers.").and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
    blocks > 0 && block.map_or(!inner.starts_with("post_layernorm"), |block| block < blocks)
}

impl Objective for Tuning<'_> {
    fn parameters(&self) -> Vec<(String, Tensor)> {
        let mut named = self.weights.named();
        named.retain(|(name, _)| !name.starts_with(VisionTower::ENCODER) || !is_frozen(name, self.frozen));
        named
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        self.momentum_queue.as_ref().map_or_else(Vec::new, MomentumQueue::state)
    }

    fn restore(&mut self, state: BTreeMap<String, Tensor>) {
        if let Some(momentum_queue) = &mut self.momentum_queue {
            momentum_queue.restore(state);
        }
    }

    fn losses(&mut self, batch: &Batch, micro_batch: Range<usize>) -> Vec<(&'static str, Tensor)> {
        let of_micro_batch = |view: &Tensor| view.narrow(0, micro_batch.start as i64, micro_batch.len() as i64);
        let class = self.encoder.class_token(&of_micro_batch(&batch.views[0]), None); // [B, W]
        let mut losses = Vec::new();

        let taught = |&&i: &&usize| self.clean.kept[i];
        let all = batch.positions.iter().filter(taught).count();
        let rows: Vec<i64> = micro_batch
            .clone()
            .filter(|&row| self.clean.kept[batch.positions[row]])
            .map(|row| (row - micro_batch.start) as i64)
            .collect();
        if !rows.is_empty() {
            let label = |&row: &i64| self.clean.labels[batch.positions[micro_batch.start + row as usize]];
            let place =
                |label: usize| self.taught.binary_search(&label).expect("a clean pair teaches its class") as i64;
            let labels: Vec<i64> = rows.iter().map(|row| place(label(row))).collect();
            let taught: Vec<i64> = self.taught.iter().map(|&class| class as i64).collect();
            let on = |values: &[i64]| Tensor::from_slice(values).to_device(class.device());
            let logits = class.index_select(0, &on(&rows)).linear(&self.weights.weight, Some(&self.weights.bias));
            let logits = logits.index_select(1, &on(&taught)); // [rows, taught]
            let sum = logits.cross_entropy_loss(&on(&labels), None::<&Tensor>, Reduction::Sum, -100, 0.0);
            losses.push(("supervised", sum / all as f64));
        }
        if let Some(momentum_queue) = &mut self.momentum_queue {
            if micro_batch.start == 0 {
                momentum_queue.begin_batch();
            }
            let loss = momentum_queue.contrast(&class, &of_micro_batch(&batch.views[1]));
            losses.extend(
                loss.map(|sum| ("contrast", sum * (momentum_queue.settings.weight / batch.positions.len() as f64))),
            );
        }
        losses
    }

    fn stepped(&mut self) {
        if let Some(momentum_queue) = &mut self.momentum_queue {
            momentum_queue.stepped(&self.weights.encoder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::{argmax, to_f32};
    use crate::fixture::Bench;
    use tch::Kind;

    #[test]
    fn nothing_clean_leaves_the_zero_shot_classifier() {
        let bench = Bench::new(2);
        let (pool, zero_shot, text) = (bench.pool(), bench.zero_shot(), bench.text());
        let task = bench.fine_tuning(&pool, &text, zero_shot.embedding_norm, false);
        let kept = vec![false; pool.len()];
        let clean = Clean { kept: &kept, labels: &zero_shot.labels.classes };
        let mut ctx = bench.train_context();
        let model = task.run(&clean, &mut ctx.borrow()).unwrap().model(&bench.checkpoint);
        // The head differs from zero-shot only in the length of each image's embedding, which does not change the order
        // of the classes.
        assert_eq!(argmax(&model.logits(&pool.batch(&pool.everything()))), zero_shot.labels.classes);
    }

    #[test]
    fn a_class_without_a_clean_pair_keeps_its_row_and_is_not_argued_against() {
        let bench = Bench::new(2);
        let (pool, zero_shot, text) = (bench.pool(), bench.zero_shot(), bench.text());
        let task = bench.fine_tuning(&pool, &text, zero_shot.embedding_norm, false);
        // Pairs of the first and the third class, half of them wrong.
        let labels: Vec<usize> = (0..pool.len()).map(|i| 2 * (i % 2)).collect();
        let kept: Vec<bool> = (0..pool.len()).map(|i| i < 8).collect();
        let clean = Clean { kept: &kept, labels: &labels };
        let mut tuning = Tuning::new(&task, &clean, "test");
        let positions: Vec<usize> = (0..8).collect();
        let batch = Batch { step: 0, views: vec![pool.batch(&positions)], positions };
        let (_, loss) = tuning.losses(&batch, 0..8).pop().unwrap();
        loss.backward();
        let gradient = tuning.weights.weight.grad().abs().sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
        let moved: Vec<bool> = to_f32(&gradient).into_iter().map(|sum| sum > 0.0).collect();
        assert_eq!(moved, (0..10).map(|class| class == 0 || class == 2).collect::<Vec<_>>());
    }

    #[test]
    fn blocks_are_frozen_from_the_input() {
        let frozen = |name: &str, blocks| is_frozen(&format!("vision_model.{name}"), blocks);
        assert!(!frozen("embeddings.class_embedding", 0) && frozen("embeddings.class_embedding", 1));
        assert!(frozen("encoder.layers.0.mlp.fc1.weight", 1) && !frozen("encoder.layers.1.mlp.fc1.weight", 1));
        assert!(!frozen("post_layernorm.weight", 9));
    }
}
