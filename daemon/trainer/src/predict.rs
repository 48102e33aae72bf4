//! Predictions for every image of the pool, without gradients, kept in the journal.

use crate::error::RoundError;
use crate::fit::{TrainContext, no_memory};
use crate::journal::Saved;
use crate::pool::Pool;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use tch::{Kind, Tensor, no_grad_guard};

/// Number of images in a forward pass without gradients.
pub const SCORING_BATCH: usize = 128;

impl TrainContext<'_> {
    /// Runs `forward` on every image of the pool. `forward` is called with chunks of the pool, and returns K tensors
    /// with a row for each image of the chunk.
    ///
    /// A prediction that was cut off continues from where it was last saved, and a finished one is read back from the
    /// journal. So each `name` must stand for one prediction of the round only. A chunk that does not fit into memory
    /// is computed in micro-batches; its last bits may then differ.
    pub fn predict<const K: usize>(
        &mut self,
        name: &str,
        pool: &Pool,
        forward: impl Fn(&[usize]) -> [Tensor; K],
    ) -> Result<[Tensor; K], RoundError> {
        let rows = |tensors: &[Tensor; K], count: usize| tensors.iter().all(|t| t.size()[0] == count as i64);
        let done = self.journal.result(name).and_then(from_named).filter(|found| rows(found, pool.len()));
        if let Some(done) = done {
            self.reporter.resume(pool.len() as u64)?;
            return Ok(done);
        }
        let mut found: Vec<[Tensor; K]> = Vec::new();
        let mut first = 0;
        if let Some(Saved { step, tensors, .. }) = self.journal.progress(name) {
            let visited = (step as usize * SCORING_BATCH).min(pool.len());
            if let Some(saved) = from_named(tensors).filter(|saved| rows(saved, visited)) {
                first = step as usize;
                found.push(saved);
                self.reporter.resume(visited as u64)?;
            }
        }
        let (everything, mut micro_batches) = (pool.everything(), 1);
        for (number, chunk) in everything.chunks(SCORING_BATCH).enumerate().skip(first) {
            let whole = |micro_batches: usize| {
                let _guard = no_grad_guard(); // a panic drops the guard; it would not undo no_grad
                let found: Vec<[Tensor; K]> = chunk.chunks(chunk.len().div_ceil(micro_batches)).map(&forward).collect();
                joined(&found)
            };
            let predicted = loop {
                match catch_unwind(AssertUnwindSafe(|| whole(micro_batches))) {
                    Ok(predicted) => break predicted,
                    Err(panic) if no_memory(&*panic) && micro_batches < chunk.len() => {
                        micro_batches *= 2;
                        self.warn(format!(
                            "memory does not hold {} images for {name}; they are looked at in {micro_batches} parts \
                             from here on",
                            chunk.len()
                        ))?;
                    }
                    Err(panic) => resume_unwind(panic),
                }
            };
            found.push(predicted);
            if self.journal.due() && (number + 1) * SCORING_BATCH < pool.len() {
                let tensors = named(&joined(&found)).into_iter().collect();
                self.keep_progress(name, &Saved { attempt: 0, step: number as u32 + 1, tensors })?;
            }
            self.reporter.advance(chunk.len() as u64, None)?;
        }
        let found = joined(&found);
        self.keep_result(name, named(&found))?;
        Ok(found)
    }
}

/// Concatenates the rows of all `results`; tensors without rows where there are no results.
fn joined<const K: usize>(results: &[[Tensor; K]]) -> [Tensor; K] {
    std::array::from_fn(|k| match results {
        [] => Tensor::zeros([0], (Kind::Float, tch::Device::Cpu)),
        results => Tensor::cat(&results.iter().map(|result| &result[k]).collect::<Vec<_>>(), 0),
    })
}

fn named<const K: usize>(tensors: &[Tensor; K]) -> Vec<(String, Tensor)> {
    tensors.iter().enumerate().map(|(k, tensor)| (k.to_string(), tensor.shallow_clone())).collect()
}

/// The inverse of [`named`]; `None` where a tensor is missing.
fn from_named<const K: usize>(mut named: BTreeMap<String, Tensor>) -> Option<[Tensor; K]> {
    let tensors: Option<Vec<Tensor>> = (0..K).map(|k| named.remove(&k.to_string())).collect();
    tensors?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{self, Bench};
    use crate::progress::Stop;
    use std::cell::Cell;
    use std::sync::atomic::Ordering;

    /// The mean pixel and the position of each image.
    fn means(pool: &Pool, chunk: &[usize]) -> [Tensor; 2] {
        let positions: Vec<i64> = chunk.iter().map(|&image| image as i64).collect();
        [pool.batch(chunk).mean_dim([1i64, 2, 3].as_slice(), false, Kind::Float), Tensor::from_slice(&positions)]
    }

    #[test]
    fn a_prediction_that_was_cut_off_goes_on_and_one_that_is_over_is_read_back() {
        let bench = Bench::new(30); // 300 images, three chunks
        let pool = bench.pool();
        let expected = means(&pool, &pool.everything());
        let calls = Cell::new(0);
        // Each run is cancelled in its first new chunk.
        let run = |cancels: bool| {
            let mut ctx = bench.train_context();
            ctx.save_every_step();
            let cancel = ctx.cancel();
            ctx.borrow().predict("test", &pool, |chunk| {
                calls.set(calls.get() + 1);
                cancel.store(cancels, Ordering::Relaxed);
                means(&pool, chunk)
            })
        };
        for number in 1..=2 {
            assert!(matches!(run(true), Err(RoundError::Stop(Stop::Cancelled))));
            assert_eq!(calls.get(), number);
        }
        for _ in 0..2 {
            let found = run(false).unwrap();
            assert_eq!(calls.get(), 3);
            assert!(found.iter().zip(&expected).all(|(a, b)| a.equal(b)));
        }
    }

    #[test]
    fn a_chunk_that_memory_does_not_hold_is_computed_in_micro_batches() {
        let bench = Bench::new(2);
        let (pool, mut ctx) = (bench.pool(), bench.train_context());
        let found = ctx.borrow().predict("test", &pool, |chunk| {
            if chunk.len() > 5 {
                fixture::exhaust_memory();
            }
            means(&pool, chunk)
        });
        assert!(found.unwrap()[1].equal(&means(&pool, &pool.everything())[1]));
        let warnings = ctx.warnings();
        assert!(warnings.last().unwrap().contains("in 4 parts"), "{warnings:?}");
        let weight = Tensor::from_slice(&[1.0f32]).set_requires_grad(true);
        assert!((weight * 2.0).requires_grad(), "training goes on");
    }
}
