//! Per-image answers for measurements: the labels and scores of the pool, and each model's predictions for test images.
//!
//! `pool.safetensors`: of every image, `zero-shot-label` (i64 [N], the zero-shot prediction, also where the user gave a
//! label), `deployed-label` (i64 [N]), the zero-shot probabilities `plain/zero-shot` (f32 [N, C]) and the normalised
//! embedding by the zero-shot model, `embedding/zero-shot` (f32 [N, D]). CoFT and CoFT+ add `standing` (i64 [N]), the
//! position of the image that stands for each as its near-duplicate, and of the M that stand for themselves `label1`,
//! `label2` (i64 [M]), `clean1`, `clean2`, `seed1`, `seed2` (u8 [M]; 1 where the pair (x, label) trains that model),
//! `margin1`, `margin2` (f32 [M]; s⁺ − s⁻ by the validating model), and the probabilities of every other candidate,
//! `plain/…` and `shifted/…` (f32 [M, C]).
//!
//! `test.safetensors`: probabilities (f32 [T, C]) of every candidate by its name and of the model that was `deployed`,
//! and their energies, `energy/…` (f32 [T, 1]). True labels are never read.

use crate::clip::tensors::to_safetensors;
use crate::clip::to_f32;
use crate::error::RoundError;
use crate::model::ImageClassifier;
use crate::pool::Pool;
use crate::predict::SCORING_BATCH;
use coft_core::decision::energy;
use std::path::Path;
use tch::{Tensor, no_grad};

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

    /// Probabilities and energy of every image of the pool.
    pub fn model(&mut self, name: &str, pool: &Pool, model: &ImageClassifier) {
        let logits: Vec<Tensor> =
            pool.everything().chunks(SCORING_BATCH).map(|chunk| no_grad(|| model.logits(&pool.batch(chunk)))).collect();
        if !logits.is_empty() {
            let logits = Tensor::cat(&logits, 0);
            let rows = to_f32(&logits);
            let energies: Vec<f32> =
                rows.chunks_exact(logits.size()[1] as usize).map(|row| energy(row) as f32).collect();
            self.0.push((name.to_owned(), model.probabilities(&logits)));
            self.floats(&format!("energy/{name}"), &energies, 1);
        }
    }

    pub fn write(&self, path: &Path) -> Result<(), RoundError> {
        let named: Vec<(&str, Tensor)> = self.0.iter().map(|(name, t)| (name.as_str(), t.shallow_clone())).collect();
        coft_fs::write_synced(path, &to_safetensors(&named)).map_err(RoundError::write(path))
    }
}
