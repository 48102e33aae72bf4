//! Phase II: the whole image encoder and a linear head, trained on the clean pairs (Eq. 7); in CoFT+ with momentum contrast
//! over all images beside it (Eq. 8 to 10).
//!
//! N images of the pool, C classes, B images of a batch, W encoder width, Q keys of the queue.

use crate::checkpoint::Checkpoint;
use crate::clip::{Tensors, VisionTower, normalised};
use crate::failure::Failure;
use crate::fit::{self, Desk, Objective, Plan};
use crate::model::Weights;
use crate::pool::{Batch, Pool, Visits};
use coft_core::event::Stage;
use coft_core::settings::{Contrast, Phase2};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use tch::{Kind, Reduction, Tensor, no_grad};

/// The clean pairs of one model: which images of the pool teach, and the label of every image.
#[derive(Clone, Copy, Debug)]
pub struct Clean<'a> {
    /// [N]
    pub kept: &'a [bool],
    /// [N]
    pub labels: &'a [usize],
}

/// One fine-tuning.
#[derive(Clone, Copy, Debug)]
pub struct FineTuning<'a> {
    pub checkpoint: &'a Checkpoint,
    pub pool: &'a Pool<'a>,
    /// Normalised text features of the class names, where the head starts. [C, D]
    pub text: &'a Tensor,
    /// Mean length of the pool's image embeddings before normalisation.
    pub embedding_norm: f64,
    pub settings: &'a Phase2,
    /// Whether training images are mirrored at random.
    pub flip: bool,
    /// Momentum contrast, in CoFT+.
    pub contrast: bool,
    pub seed: u64,
    /// 1 or 2.
    pub model: usize,
}

impl FineTuning<'_> {
    /// Where training starts, and what a model without any clean pair stays.
    pub fn start(&self) -> Weights {
        Weights::pretrained(self.checkpoint, self.text, self.embedding_norm)
    }

    /// What is minimised over the clean pairs.
    #[cfg(test)]
    pub fn objective<'a>(&'a self, clean: &Clean<'a>, name: &str) -> impl Objective + 'a {
        Tuning::new(self, clean, name)
    }

    /// Images of a training, the images that a step is drawn from.
    pub fn visited(&self, clean: &Clean) -> Vec<usize> {
        (0..clean.kept.len()).filter(|&i| clean.kept[i] || self.contrast).collect()
    }

    /// Fine-tunes one model on its clean pairs, from the pretrained weights.
    ///
    /// Without any clean pair the model stays as it was: a mean over nothing is not a number.
    pub fn run(&self, clean: &Clean, desk: &mut Desk) -> Result<Weights, Failure> {
        let stage = if self.model == 1 { Stage::Phase2Model1 } else { Stage::Phase2Model2 };
        let name = format!("phase 2 of model {}", self.model);
        if let Some(weights) = desk.journal.result(&name).and_then(Weights::from_named) {
            return Ok(weights);
        }
        if !clean.kept.contains(&true) {
            return Ok(self.start());
        }
        let images = self.visited(clean);
        let plan = Plan {
            stage,
            visits: Visits {
                images: &images,
                batch: self.settings.sgd.batch as usize,
                crop_scale: self.settings.crop_scale,
                flip: self.flip,
                views: if self.contrast { 2 } else { 1 },
                seed: self.seed,
                name: name.clone(),
            },
            sgd: &self.settings.sgd,
            steps: self.settings.sgd.steps(images.len()),
            kind: desk.kind(self.checkpoint),
        };
        let tuned = fit::fit(&plan, self.pool, desk, || Tuning::new(self, clean, &name))?.weights;
        desk.journal.keep_result(&name, &tuned.named())?;
        Ok(tuned)
    }
}

struct Tuning<'a> {
    weights: Weights,
    encoder: VisionTower,
    frozen: u32,
    clean: Clean<'a>,
    /// Classes that have a clean pair, in order. The loss is over these alone: nothing was seen that speaks against the others,
    /// whose rows of the head stay zero-shot's but for the weight decay.
    taught: Vec<usize>,
    keys: Option<Keys<'a>>,
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
        let keys = task.contrast.then(|| Keys::new(task.checkpoint, &task.settings.contrast, capacity));
        let pairs = clean.labels.iter().zip(clean.kept).filter(|&(_, &kept)| kept);
        let taught: BTreeSet<usize> = pairs.map(|(&label, _)| label).collect();
        Self { weights, encoder, frozen, clean: *clean, taught: taught.into_iter().collect(), keys }
    }
}

/// Whether a tensor of the encoder lies before block `blocks`.
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
        self.keys.as_ref().map_or_else(Vec::new, Keys::state)
    }

    fn restore(&mut self, state: BTreeMap<String, Tensor>) {
        if let Some(keys) = &mut self.keys {
            keys.restore(state);
        }
    }

    fn losses(&mut self, batch: &Batch, part: Range<usize>) -> Vec<(&'static str, Tensor)> {
        let of_part = |view: &Tensor| view.narrow(0, part.start as i64, part.len() as i64);
        let class = self.encoder.class_token(&of_part(&batch.views[0]), None); // [B, W]
        let mut losses = Vec::new();

        let taught = |&&i: &&usize| self.clean.kept[i];
        let all = batch.positions.iter().filter(taught).count();
        let rows: Vec<i64> = part
            .clone()
            .filter(|&row| self.clean.kept[batch.positions[row]])
            .map(|row| (row - part.start) as i64)
            .collect();
        if !rows.is_empty() {
            let label = |&row: &i64| self.clean.labels[batch.positions[part.start + row as usize]];
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
        if let Some(keys) = &mut self.keys {
            if part.start == 0 {
                keys.fresh.clear(); // a batch that is computed again
            }
            let loss = keys.contrast(&class, &of_part(&batch.views[1]));
            losses.extend(loss.map(|sum| ("contrast", sum * (keys.settings.weight / batch.positions.len() as f64))));
        }
        losses
    }

    fn stepped(&mut self) {
        if let Some(keys) = &mut self.keys {
            keys.stepped(&self.weights.encoder);
        }
    }
}

/// The averaged key encoder and the queue of past keys.
struct Keys<'a> {
    settings: &'a Contrast,
    weights: Tensors,
    encoder: VisionTower,
    /// [Q, W], oldest first.
    queue: Tensor,
    capacity: i64,
    /// Keys of the batch under way.
    fresh: Vec<Tensor>,
}

const QUEUE: &str = "queue";

impl<'a> Keys<'a> {
    fn new(checkpoint: &Checkpoint, settings: &'a Contrast, capacity: usize) -> Self {
        let weights = checkpoint.tensors.trainable(VisionTower::ENCODER);
        for (_, tensor) in weights.iter() {
            let _ = tensor.set_requires_grad(false); // moved by averaging alone
        }
        let projection = checkpoint.vision.projection.shallow_clone();
        let encoder = VisionTower::with_projection(&checkpoint.config, &weights, projection)
            .expect("a copy of tensors that were loaded with these shapes");
        let width = checkpoint.config.vision_config.hidden_size;
        let queue = Tensor::zeros([0, width], (Kind::Float, checkpoint.device));
        Self { settings, weights, encoder, queue, capacity: capacity as i64, fresh: Vec::new() }
    }

    /// Eq. 9 with queries from class tokens [B, W] and keys from another view [B, 3, S, S]. Nothing until the queue holds
    /// keys of other images.
    fn contrast(&mut self, class: &Tensor, other: &Tensor) -> Option<Tensor> {
        let query = normalised(class);
        // No gradient reaches the keys: they move by averaging alone (Eq. 8).
        let key = no_grad(|| normalised(&self.encoder.class_token(other, None)));
        let loss = (self.queue.size()[0] > 0).then(|| info_nce(&query, &key, &self.queue, self.settings.temperature));
        self.fresh.push(key);
        loss
    }

    /// Eq. 8, θ_k ← μ·θ_k + (1 − μ)·θ_q, and the step's keys into the queue.
    fn stepped(&mut self, trained: &Tensors) {
        no_grad(|| {
            for ((_, key), (_, query)) in self.weights.iter().zip(trained.iter()) {
                let _ = key.shallow_clone().lerp_(query, 1.0 - self.settings.momentum);
            }
        });
        let mut all = vec![self.queue.shallow_clone()];
        all.append(&mut self.fresh);
        let all = Tensor::cat(&all, 0);
        let excess = (all.size()[0] - self.capacity).max(0);
        self.queue = all.narrow(0, excess, all.size()[0] - excess).copy();
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let weights = self.weights.iter().map(|(name, t)| (name.to_owned(), t.shallow_clone()));
        weights.chain([(QUEUE.to_owned(), self.queue.shallow_clone())]).collect()
    }

    fn restore(&mut self, mut state: BTreeMap<String, Tensor>) {
        if let Some(queue) = state.remove(QUEUE) {
            self.queue = queue;
        }
        no_grad(|| {
            for (name, tensor) in self.weights.iter() {
                if let Some(saved) = state.get(name) {
                    tensor.shallow_clone().copy_(saved);
                }
            }
        });
    }
}

/// Eq. 9, summed over the batch: −Σ log softmax([q·k, q·Q] / τ′)₁.
///
/// `query` and `key` [B, W] of the same images, `queue` [Q, W], all normalised.
fn info_nce(query: &Tensor, key: &Tensor, queue: &Tensor, temperature: f64) -> Tensor {
    let own = (query * key).sum_dim_intlist([-1i64].as_slice(), true, Kind::Float); // [B, 1]
    let logits = Tensor::cat(&[own, query.matmul(&queue.tr())], 1) / temperature; // [B, 1 + Q]
    let first = Tensor::zeros([logits.size()[0]], (Kind::Int64, logits.device()));
    logits.cross_entropy_loss(&first, None::<&Tensor>, Reduction::Sum, -100, 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::{argmax, to_f32};
    use crate::fixture::Bench;
    use tch::Device;

    /// What `work` makes of a training with momentum contrast over 20 images, of which those in `kept` are clean, and of a
    /// batch of the first 8.
    fn contrasted<T>(contrast: Contrast, kept: Range<usize>, work: impl FnOnce(&mut Tuning, &Batch) -> T) -> T {
        let mut bench = Bench::new(2);
        bench.settings.phase2.contrast = contrast;
        let (pool, zero_shot, text) = (bench.pool(), bench.zero_shot(), bench.text());
        let task = bench.fine_tuning(&pool, &text, zero_shot.embedding_norm, true);
        let kept: Vec<bool> = (0..pool.len()).map(|i| kept.contains(&i)).collect();
        let clean = Clean { kept: &kept, labels: &zero_shot.labels.classes };
        let positions: Vec<usize> = (0..8).collect();
        let views = vec![pool.batch(&positions), pool.shifted(&positions)];
        work(&mut Tuning::new(&task, &clean, "test"), &Batch { step: 0, positions, views })
    }

    fn names(terms: &[(&'static str, Tensor)]) -> Vec<&'static str> {
        terms.iter().map(|(name, _)| *name).collect()
    }

    #[test]
    fn nothing_clean_leaves_the_zero_shot_classifier() {
        let bench = Bench::new(2);
        let (pool, zero_shot, text) = (bench.pool(), bench.zero_shot(), bench.text());
        let task = bench.fine_tuning(&pool, &text, zero_shot.embedding_norm, false);
        let kept = vec![false; pool.len()];
        let clean = Clean { kept: &kept, labels: &zero_shot.labels.classes };
        let mut desk = bench.desk();
        let model = task.run(&clean, &mut desk.borrow()).unwrap().model(&bench.checkpoint);
        // The head differs from zero-shot in each image's length alone, which turns no order round.
        assert_eq!(argmax(&model.logits(&pool.batch(&pool.everything()))), zero_shot.labels.classes);
    }

    #[test]
    fn a_class_without_a_clean_pair_keeps_its_row_and_is_not_argued_against() {
        let bench = Bench::new(2);
        let (pool, zero_shot, text) = (bench.pool(), bench.zero_shot(), bench.text());
        let task = bench.fine_tuning(&pool, &text, zero_shot.embedding_norm, false);
        // Pairs of the first and the third class; as many wrong as right.
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
    fn keys_follow_slowly_and_get_no_gradient() {
        contrasted(Contrast::default(), 0..4, |tuning, batch| {
            assert_eq!(names(&tuning.losses(batch, 0..8)), ["supervised"], "an empty queue has nothing to tell apart");
            tuning.stepped();
            let terms = tuning.losses(batch, 0..8);
            assert_eq!(names(&terms), ["supervised", "contrast"]);
            terms[1].1.backward();
            let keys = tuning.keys.as_ref().unwrap();
            assert!(keys.weights.iter().all(|(_, t)| !t.grad().defined()), "no gradient through keys");
            assert!(tuning.weights.encoder.iter().any(|(_, t)| t.grad().defined()));
            assert_eq!(keys.queue.size()[0], 8);

            // Eq. 8: a key weight moves by 1 - mu of the way.
            let (_, key) = keys.weights.iter().next().unwrap();
            let (_, query) = tuning.weights.encoder.iter().next().unwrap();
            no_grad(|| {
                let _ = query.shallow_clone().g_add_scalar_(1.0);
            });
            let before = key.copy();
            tuning.stepped();
            let (_, key) = tuning.keys.as_ref().unwrap().weights.iter().next().unwrap();
            let moved = (key - before).mean(Kind::Float).double_value(&[]);
            assert!((moved - (1.0 - Contrast::default().momentum)).abs() < 1e-5, "{moved}");
        });
    }

    #[test]
    fn the_contrast_is_cross_entropy_of_the_own_key_among_those_of_the_queue() {
        let rows = |values: &[f32]| Tensor::from_slice(values).view([-1, 2]);
        let (query, key) = (rows(&[1.0, 0.0, 0.0, 1.0]), rows(&[0.6, 0.8, 0.0, 1.0]));
        let queue = rows(&[0.0, 1.0, 0.8, 0.6]);
        // At a temperature of 0.5 cosines count twice: 0.6 against 0 and 0.8, and 1 against 1 and 0.6.
        let [first, second] = [[1.2f64, 0.0, 1.6], [2.0, 2.0, 1.2]]
            .map(|logits| logits.map(f64::exp).iter().sum::<f64>().ln() - logits[0]);
        let got = info_nce(&query, &key, &queue, 0.5).double_value(&[]);
        assert!((got - (first + second)).abs() < 1e-5, "{got} {first} {second}");
    }

    #[test]
    fn the_contrast_counts_gamma_times_its_mean_beside_the_supervised_loss() {
        let total = |weight| {
            let contrast = Contrast { weight, temperature: 0.2, ..Contrast::default() };
            contrasted(contrast, 0..4, |tuning, batch| {
                tuning.losses(batch, 0..8);
                tuning.stepped();
                let terms = tuning.losses(batch, 0..8);
                let of = |view: &Tensor| no_grad(|| normalised(&tuning.encoder.class_token(view, None)));
                let (query, key) = (of(&batch.views[0]), of(&batch.views[1]));
                let mean = info_nce(&query, &key, &key, 0.2).double_value(&[]) / 8.0;
                (terms.iter().map(|(_, term)| term.double_value(&[])).sum::<f64>(), mean)
            })
        };
        let ((once, mean), (twice, _)) = (total(0.3), total(0.6));
        assert!((twice - once - 0.3 * mean).abs() < 1e-5, "{once} {twice} {mean}");
    }

    #[test]
    fn a_batch_without_a_clean_pair_is_contrasted_alone() {
        contrasted(Contrast::default(), 8..20, |tuning, batch| {
            for _ in 0..2 {
                tuning.losses(batch, 0..8);
                tuning.stepped();
            }
            let keys = tuning.keys.as_ref().unwrap();
            assert_eq!((keys.queue.size()[0], keys.capacity), (10, 10), "half the pool");
            let terms = tuning.losses(batch, 0..8);
            assert_eq!(names(&terms), ["contrast"]);
            let loss = terms[0].1.double_value(&[]);
            assert!(loss.is_finite() && loss > 0.0, "{loss}");
        });
    }

    #[test]
    fn the_oldest_keys_leave_a_queue_that_is_full() {
        contrasted(Contrast { queue: 5, ..Contrast::default() }, 0..20, |tuning, _| {
            let keys = tuning.keys.as_mut().unwrap();
            let width = keys.queue.size()[1];
            for (fresh, queue) in [(0..2, 0..2), (2..4, 0..4), (4..6, 1..6), (6..13, 8..13)] {
                keys.fresh = fresh.map(|key| Tensor::full([1, width], key, (Kind::Float, Device::Cpu))).collect();
                keys.stepped(&tuning.weights.encoder);
                let expected: Vec<f32> = queue.map(|key: i64| key as f32).collect();
                assert_eq!(to_f32(&keys.queue.select(1, 0)), expected);
            }
        });
    }

    #[test]
    fn blocks_are_frozen_from_the_input() {
        let frozen = |name: &str, blocks| is_frozen(&format!("vision_model.{name}"), blocks);
        assert!(!frozen("embeddings.class_embedding", 0) && frozen("embeddings.class_embedding", 1));
        assert!(frozen("encoder.layers.0.mlp.fc1.weight", 1) && !frozen("encoder.layers.1.mlp.fc1.weight", 1));
        assert!(!frozen("post_layernorm.weight", 9));
    }
}
