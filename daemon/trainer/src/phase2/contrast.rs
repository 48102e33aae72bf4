//! Momentum contrast over all images (Eq. 8 and 9).
//!
//! B images of a batch, W encoder width, Q keys of the queue.

use crate::checkpoint::Checkpoint;
use crate::clip::{Tensors, VisionTower, normalised};
use coft_core::settings::Contrast;
use std::collections::BTreeMap;
use tch::{Kind, Reduction, Tensor, no_grad, no_grad_guard};

/// The queue of past keys, and the momentum encoder that computes keys: an exponential moving average of the trained
/// encoder.
pub struct MomentumQueue<'a> {
    pub settings: &'a Contrast,
    weights: Tensors,
    encoder: VisionTower,
    /// [Q, W], oldest first.
    queue: Tensor,
    capacity: i64,
    /// Keys of the current batch.
    fresh: Vec<Tensor>,
}

const QUEUE: &str = "queue";

impl<'a> MomentumQueue<'a> {
    pub fn new(checkpoint: &Checkpoint, settings: &'a Contrast, capacity: usize) -> Self {
        let weights = checkpoint.tensors.trainable(VisionTower::ENCODER);
        for (_, tensor) in weights.iter() {
            let _ = tensor.set_requires_grad(false); // Eq. 8 alone changes it, not gradients
        }
        let projection = checkpoint.vision.projection.shallow_clone();
        let encoder = VisionTower::with_projection(&checkpoint.config, &weights, projection)
            .expect("a copy of tensors that were loaded with these shapes");
        let width = checkpoint.config.vision_config.hidden_size;
        let queue = Tensor::zeros([0, width], (Kind::Float, checkpoint.device));
        Self { settings, weights, encoder, queue, capacity: capacity as i64, fresh: Vec::new() }
    }

    /// Drops the keys of a batch that is computed again.
    pub fn begin_batch(&mut self) {
        self.fresh.clear();
    }

    /// Eq. 9 with queries from class tokens [B, W] and keys from another view [B, 3, S, S]. `None` until the queue
    /// holds keys of other images.
    pub fn contrast(&mut self, class: &Tensor, other: &Tensor) -> Option<Tensor> {
        let query = normalised(class);
        // No gradient reaches the keys: only Eq. 8 changes the momentum encoder.
        let key = {
            let _guard = no_grad_guard(); // a panic drops the guard; it would not undo no_grad
            normalised(&self.encoder.class_token(other, None))
        };
        let loss = (self.queue.size()[0] > 0).then(|| info_nce(&query, &key, &self.queue, self.settings.temperature));
        self.fresh.push(key);
        loss
    }

    /// Eq. 8, θ_k ← μ·θ_k + (1 − μ)·θ_q; then adds the step's keys to the queue.
    pub fn stepped(&mut self, trained: &Tensors) {
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

    pub fn state(&self) -> Vec<(String, Tensor)> {
        let weights = self.weights.iter().map(|(name, t)| (name.to_owned(), t.shallow_clone()));
        weights.chain([(QUEUE.to_owned(), self.queue.shallow_clone())]).collect()
    }

    pub fn restore(&mut self, mut state: BTreeMap<String, Tensor>) {
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
    use crate::clip::to_f32;
    use crate::fit::Objective;
    use crate::fixture::Bench;
    use crate::phase2::{Clean, Tuning};
    use crate::pool::Batch;
    use std::ops::Range;
    use tch::Device;

    /// Calls `work` with a training with momentum contrast over 20 images, those in `kept` being clean, and with a
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
    fn keys_follow_slowly_and_get_no_gradient() {
        contrasted(Contrast::default(), 0..4, |tuning, batch| {
            assert_eq!(names(&tuning.losses(batch, 0..8)), ["supervised"], "an empty queue has nothing to tell apart");
            tuning.stepped();
            let terms = tuning.losses(batch, 0..8);
            assert_eq!(names(&terms), ["supervised", "contrast"]);
            terms[1].1.backward();
            let momentum_queue = tuning.momentum_queue.as_ref().unwrap();
            assert!(momentum_queue.weights.iter().all(|(_, t)| !t.grad().defined()), "no gradient through keys");
            assert!(tuning.weights.encoder.iter().any(|(_, t)| t.grad().defined()));
            assert_eq!(momentum_queue.queue.size()[0], 8);

            // Eq. 8: a weight of the momentum encoder moves by 1 − μ of the difference.
            let (_, key) = momentum_queue.weights.iter().next().unwrap();
            let (_, query) = tuning.weights.encoder.iter().next().unwrap();
            no_grad(|| {
                let _ = query.shallow_clone().g_add_scalar_(1.0);
            });
            let before = key.copy();
            tuning.stepped();
            let (_, key) = tuning.momentum_queue.as_ref().unwrap().weights.iter().next().unwrap();
            let moved = (key - before).mean(Kind::Float).double_value(&[]);
            assert!((moved - (1.0 - Contrast::default().momentum)).abs() < 1e-5, "{moved}");
        });
    }

    #[test]
    fn the_contrast_is_cross_entropy_of_the_own_key_among_those_of_the_queue() {
        let rows = |values: &[f32]| Tensor::from_slice(values).view([-1, 2]);
        let (query, key) = (rows(&[1.0, 0.0, 0.0, 1.0]), rows(&[0.6, 0.8, 0.0, 1.0]));
        let queue = rows(&[0.0, 1.0, 0.8, 0.6]);
        // At a temperature of 0.5 cosines are multiplied by 2: 0.6, 0 and 0.8 for the first query, 1, 1 and 0.6 for the
        // second.
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
            let momentum_queue = tuning.momentum_queue.as_ref().unwrap();
            assert_eq!((momentum_queue.queue.size()[0], momentum_queue.capacity), (10, 10), "half the pool");
            let terms = tuning.losses(batch, 0..8);
            assert_eq!(names(&terms), ["contrast"]);
            let loss = terms[0].1.double_value(&[]);
            assert!(loss.is_finite() && loss > 0.0, "{loss}");
        });
    }

    #[test]
    fn the_oldest_keys_leave_a_queue_that_is_full() {
        contrasted(Contrast { queue: 5, ..Contrast::default() }, 0..20, |tuning, _| {
            let momentum_queue = tuning.momentum_queue.as_mut().unwrap();
            let width = momentum_queue.queue.size()[1];
            for (fresh, queue) in [(0..2, 0..2), (2..4, 0..4), (4..6, 1..6), (6..13, 8..13)] {
                momentum_queue.fresh =
                    fresh.map(|key| Tensor::full([1, width], key, (Kind::Float, Device::Cpu))).collect();
                momentum_queue.stepped(&tuning.weights.encoder);
                let expected: Vec<f32> = queue.map(|key: i64| key as f32).collect();
                assert_eq!(to_f32(&momentum_queue.queue.select(1, 0)), expected);
            }
        });
    }
}
