//! Per-image answers for measuring: what was believed of the pool, and what each model says of images it never saw.
//!
//! `pool.safetensors`: `zero-shot-label`, `label1`, `label2` (i64 [N]), `clean1`, `clean2`, `seed1`, `seed2` (u8 [N]; 1
//! where the pair (x, label) teaches that model), `margin1`, `margin2` (f32 [N]; s⁺ − s⁻ by the validating model), and the
//! probabilities of every candidate, `plain/…` and `shifted/…` (f32 [N, C]). `test.safetensors`: probabilities (f32 [T, C])
//! of every candidate by its name, and of what was `deployed`. No label is ever read.

use crate::clip::tensors::to_safetensors;
use crate::export::candidate::write_synced;
use crate::failure::Failure;
use crate::phase1::SCORING_BATCH;
use crate::pool::Pool;
use std::path::Path;
use tch::{Kind, Tensor, no_grad};

#[derive(Debug, Default)]
pub struct Answers(Vec<(String, Tensor)>);

impl Answers {
    pub fn integers(&mut self, name: &str, values: &[usize]) {
        let values: Vec<i64> = values.iter().map(|&v| v as i64).collect();
        self.0.push((name.to_owned(), Tensor::from_slice(&values)));
    }

    pub fn flags(&mut self, name: &str, flags: &[bool]) {
        let flags: Vec<u8> = flags.iter().map(|&flag| flag.into()).collect();
        self.0.push((name.to_owned(), Tensor::from_slice(&flags)));
    }

    /// [N, `columns`]
    pub fn floats(&mut self, name: &str, values: &[f32], columns: usize) {
        self.0.push((name.to_owned(), Tensor::from_slice(values).view([-1, columns as i64])));
    }

    /// softmax of `logits` of every image of the pool.
    pub fn probabilities(&mut self, name: &str, pool: &Pool, logits: impl Fn(&Tensor) -> Tensor) {
        let parts: Vec<Tensor> = pool
            .everything()
            .chunks(SCORING_BATCH)
            .map(|chunk| no_grad(|| logits(&pool.batch(chunk)).softmax(-1, Kind::Float)))
            .collect();
        if !parts.is_empty() {
            self.0.push((name.to_owned(), Tensor::cat(&parts, 0)));
        }
    }

    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        let named: Vec<(&str, Tensor)> = self.0.iter().map(|(name, t)| (name.as_str(), t.shallow_clone())).collect();
        write_synced(path, &to_safetensors(&named))
    }
}
