//! Per-image answers for measuring: what was believed of the pool, and what each model says of images it never saw.
//!
//! `pool.safetensors`: `zero-shot-label`, `label1`, `label2`, `final1`, `final2` (i64 [N]), `clean1`, `clean2`, `seed`
//! (u8 [N]; 1 where the pair (x, label) teaches that model). `test.safetensors`: probabilities (f32 [T, C]) of `zero-shot`,
//! `phase1-model1`, `phase1-model2`, `model1`, `model2`, `deployed`, those that the method has. No label is ever read.

use crate::clip::tensors::to_safetensors;
use crate::export::candidate::write_synced;
use crate::failure::Failure;
use crate::phase1::SCORING_BATCH;
use crate::pool::Pool;
use std::path::Path;
use tch::{Kind, Tensor, no_grad};

#[derive(Debug, Default)]
pub struct Answers(Vec<(&'static str, Tensor)>);

impl Answers {
    pub fn integers(&mut self, name: &'static str, values: &[usize]) {
        let values: Vec<i64> = values.iter().map(|&v| v as i64).collect();
        self.0.push((name, Tensor::from_slice(&values)));
    }

    pub fn flags(&mut self, name: &'static str, chosen: &[usize], images: usize) {
        let mut flags = vec![0u8; images];
        for &image in chosen {
            flags[image] = 1;
        }
        self.0.push((name, Tensor::from_slice(&flags)));
    }

    /// softmax of `logits` of every image of the pool.
    pub fn probabilities(&mut self, name: &'static str, pool: &Pool, logits: impl Fn(&Tensor) -> Tensor) {
        let everything: Vec<usize> = (0..pool.len()).collect();
        let parts: Vec<Tensor> = everything
            .chunks(SCORING_BATCH)
            .map(|chunk| no_grad(|| logits(&pool.batch(chunk)).softmax(-1, Kind::Float)))
            .collect();
        if !parts.is_empty() {
            self.0.push((name, Tensor::cat(&parts, 0)));
        }
    }

    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        write_synced(path, &to_safetensors(&self.0))
    }
}
