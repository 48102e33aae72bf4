//! CLIP as libtorch computes it: configuration, named tensors, and the two towers.
//!
//! Shapes in the margins: B images or prompts, L tokens, W width of a tower, H heads, D embedding width, S image side,
//! P patch side, G = S/P. The towers hold shallow clones of the tensors in a [`Tensors`], so whoever owns those decides
//! whether they are trained.

pub mod autocast;
pub mod block;
pub mod config;
pub mod tensors;
pub mod text;
pub mod vision;

pub use config::ClipConfig;
pub use tensors::Tensors;
pub use text::TextTower;
pub use vision::VisionTower;

use tch::{Kind, Tensor};

/// x / ‖x‖₂ over the last dimension, the normalisation for cosine similarities.
pub fn normalised(x: &Tensor) -> Tensor {
    x / x.norm_scalaropt_dim(2.0, -1, true)
}

/// The tensor's values on the CPU, row-major.
pub fn to_f32(x: &Tensor) -> Vec<f32> {
    let x = x.detach().to_device(tch::Device::Cpu).to_kind(Kind::Float).contiguous();
    let mut values = vec![0f32; x.numel()];
    x.copy_data(&mut values, x.numel());
    values
}

/// The class of each row: the index of its largest value. [B, C] → [B]
pub fn argmax(x: &Tensor) -> Vec<usize> {
    places(&x.argmax(-1, false))
}

/// The rows of `tensor` at these positions.
pub fn rows(tensor: &Tensor, positions: &[usize]) -> Tensor {
    let positions: Vec<i64> = positions.iter().map(|&position| position as i64).collect();
    tensor.index_select(0, &Tensor::from_slice(&positions).to_device(tensor.device()))
}

/// The values at these positions.
pub fn pick<T: Copy>(values: &[T], positions: &[usize]) -> Vec<T> {
    positions.iter().map(|&position| values[position]).collect()
}

/// The values of an integer tensor, as indices on the CPU.
pub fn places(x: &Tensor) -> Vec<usize> {
    let x = x.to_device(tch::Device::Cpu);
    let mut values = vec![0i64; x.numel()];
    x.copy_data(&mut values, x.numel());
    values.into_iter().map(|v| v as usize).collect()
}
