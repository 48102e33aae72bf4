//! From a model in torch to a candidate directory: the ONNX graph, its weights, and the test that travels with it.

pub mod candidate;
pub mod classifier;
pub mod graph;
mod int8;
#[rustfmt::skip]
#[allow(clippy::all, dead_code)]
mod onnx;
#[cfg(test)]
mod tests;
