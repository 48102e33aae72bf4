//! Whether a round fits into memory, before it starts.
//!
//! The estimate is for libtorch on the CPU in single precision. It counts what grows with the model, the pool and the batch;
//! the program itself is part of `BASE`. On a GPU nothing is estimated: there an allocation fails, which halves the batch.

use crate::checkpoint::Checkpoint;
use crate::failure::Failure;
use crate::pool::Pool;
use sysinfo::System;
use tch::Device;

/// Values a token and a unit of width that a block keeps for the backward pass: two norms, query, key, value, mixed values,
/// two residual sums, the hidden layer before and after its activation (4 each), and what the activation keeps (4). [choice]
const KEPT: u64 = 20;
const FLOAT: u64 = 4;
/// libtorch, buffers and fragmentation, bytes. [choice]
const BASE: u64 = 300_000_000;

/// What a round needs, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// Pixels of the pool, the pretrained model, and what Phase II adds: weights, gradients and moments of one encoder, and
    /// the weights of both models.
    fixed: u64,
    /// What a training image keeps until its gradients are there.
    image: u64,
}

impl Estimate {
    pub fn new(teacher: &Checkpoint, student: &Checkpoint, pool: &Pool, contrast: bool, visual_tokens: u64) -> Self {
        let bytes = |checkpoint: &Checkpoint, prefix: &str| -> u64 {
            let named = checkpoint.tensors.iter().filter(|(name, _)| name.starts_with(prefix));
            named.map(|(_, tensor)| tensor.numel() as u64 * FLOAT).sum()
        };
        let encoder = bytes(student, crate::clip::VisionTower::ENCODER);
        let distils = !std::ptr::eq(teacher, student);
        let pretrained = bytes(teacher, "") + if distils { bytes(student, "") } else { 0 };
        let copies = if contrast { 6 } else { 5 };
        let image = |checkpoint: &Checkpoint| {
            let v = &checkpoint.config.vision_config;
            let side = (v.image_size / v.patch_size) as u64;
            let tokens = 1 + visual_tokens + side * side;
            v.num_hidden_layers as u64 * tokens * v.hidden_size as u64 * KEPT * FLOAT
        };
        Self { fixed: BASE + pool.bytes() + pretrained + copies * encoder, image: image(teacher).max(image(student)) }
    }

    /// In how many parts a batch has to be computed to fit into `available` bytes; refused where one image does not.
    pub fn parts(self, batch: usize, available: u64) -> Result<usize, Failure> {
        let needed = |parts: usize| self.fixed + batch.div_ceil(parts) as u64 * self.image;
        let mut parts = 1;
        while needed(parts) > available {
            if parts >= batch {
                return Err(Failure::Memory { needed: needed(parts), available });
            }
            parts *= 2;
        }
        Ok(parts)
    }
}

/// Memory that this process may still take, bytes: what the machine has, or its control group where that is less. Nothing on a
/// GPU, whose memory is not counted here.
pub fn available(device: Device) -> Option<u64> {
    if device != Device::Cpu {
        return None;
    }
    let mut system = System::new();
    system.refresh_memory();
    let machine = system.available_memory();
    Some(system.cgroup_limits().map_or(machine, |group| machine.min(group.free_memory)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Bench;

    #[test]
    fn a_batch_is_split_until_it_fits_and_refused_with_numbers_where_one_image_does_not() {
        let estimate = Estimate { fixed: 1000, image: 10 };
        assert_eq!(estimate.parts(64, 1640).unwrap(), 1);
        assert_eq!(estimate.parts(64, 1639).unwrap(), 2);
        assert_eq!(estimate.parts(64, 1010).unwrap(), 64);
        let refused = estimate.parts(64, 1009).unwrap_err().to_string();
        assert_eq!(refused, "the round needs 1010 B of memory even with one image at a time; 1009 B are free");
    }

    #[test]
    fn the_demo_model_fits_anywhere_and_contrast_costs_an_encoder() {
        let bench = Bench::new(1);
        let pool = bench.pool();
        let of = |contrast| Estimate::new(&bench.checkpoint, &bench.checkpoint, &pool, contrast, 20);
        assert!(of(true).fixed > of(false).fixed);
        let megabytes = (of(true).fixed + 64 * of(true).image) / 1_000_000;
        assert!((300..1000).contains(&megabytes), "{megabytes} MB");
        assert!(available(Device::Cpu).unwrap() > 0);
    }
}
