//! Decides whether a round fits into memory, and whether its pool is held in memory too.

use crate::checkpoint::Checkpoint;
use crate::error::RoundError;
use crate::memory::Estimate;
use crate::pool;
use coft_core::spec::{Method, RoundSpec};
use std::path::Path;

/// How a round fits into memory.
#[derive(Debug)]
pub struct Room {
    /// The estimate and the free memory, bytes; `None` where the free memory is unknown.
    pub memory: Option<(Estimate, u64)>,
    /// Size of the pool's pixels, bytes.
    pub pixels: u64,
    /// Whether the pixels are held in memory: only if a batch then needs no more micro-batches. Beside a GPU they may
    /// take half of the CPU's memory.
    pub held: bool,
    /// Number of micro-batches that a batch is computed in, as far as it is known beforehand.
    pub micro_batches: usize,
}

impl Room {
    /// Decides before an image is decoded. An error where one image at a time does not fit even with the pool left on
    /// the disk. `free` is the free memory of the device and `host`, beside a GPU, that of the CPU, bytes.
    pub fn of(
        spec: &RoundSpec,
        paths: &[&Path],
        teacher: &Checkpoint,
        other: Option<&Checkpoint>,
        (free, host): (Option<u64>, Option<u64>),
    ) -> Result<Self, RoundError> {
        let of = |checkpoint: &Checkpoint| pool::bytes(paths, &checkpoint.preprocess);
        let pixels = of(teacher) + other.map_or(0, of);
        let beside_gpu = host.is_none_or(|host| pixels <= host / 2);
        let Some(free) = free else { return Ok(Self { memory: None, pixels, held: beside_gpu, micro_batches: 1 }) };
        let estimate = |pixels| Estimate::new(teacher, other.unwrap_or(teacher), pixels, spec);
        let (held, read) = (estimate(pixels), estimate(0));
        let batch = spec.settings.phase1.sgd.batch.max(spec.settings.phase2.sgd.batch) as usize;
        let micro_batches = match read.micro_batches(batch, free) {
            Err(failure) if spec.method != Method::ZeroShot => return Err(failure),
            micro_batches => micro_batches.ok(),
        };
        let costs_nothing = held.micro_batches(batch, free).is_ok_and(|held| micro_batches == Some(held));
        let whole = paths.is_empty() || (beside_gpu && costs_nothing);
        let estimate = if whole { held } else { read };
        Ok(Self { memory: Some((estimate, free)), pixels, held: whole, micro_batches: micro_batches.unwrap_or(1) })
    }
}
