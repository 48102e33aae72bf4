//! Writes a model as a candidate directory: the ONNX graph, its weights, and the probe that tests them.

pub mod candidate;
pub mod classifier;
pub mod graph;
mod int8;
#[rustfmt::skip]
#[allow(clippy::all, dead_code)]
mod onnx;
#[cfg(test)]
mod tests;
