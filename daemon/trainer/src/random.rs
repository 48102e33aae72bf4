//! Every random draw of a round comes from a named stream of one seed. So an additional draw in one place changes none
//! in another.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal, Uniform};
use sha2::{Digest, Sha256};
use tch::{Device, Tensor};

/// The random stream called `name` for `seed`.
pub fn stream(seed: u64, name: &str) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(name.as_bytes());
    ChaCha8Rng::from_seed(hash.finalize().into())
}

/// A tensor drawn from N(0, deviation²).
pub fn normal(rng: &mut ChaCha8Rng, shape: &[i64], deviation: f64, device: Device) -> Tensor {
    let law = Normal::new(0.0, deviation).expect("a positive deviation");
    filled(shape, device, || law.sample(rng) as f32)
}

/// A tensor drawn uniformly from ±bound.
pub fn uniform(rng: &mut ChaCha8Rng, shape: &[i64], bound: f64, device: Device) -> Tensor {
    let law = Uniform::new_inclusive(-bound, bound).expect("a positive bound");
    filled(shape, device, || law.sample(rng) as f32)
}

fn filled(shape: &[i64], device: Device, mut draw: impl FnMut() -> f32) -> Tensor {
    let count = shape.iter().product::<i64>() as usize;
    let values: Vec<f32> = (0..count).map(|_| draw()).collect();
    Tensor::from_slice(&values).view(shape).to_device(device)
}
