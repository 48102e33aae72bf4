//! CLIP checkpoints as files: the layout of a directory, the position of each tensor, the sizes of the model, and the
//! store, which keeps models by their content.
//!
//! Tensors have the names of Hugging Face's `CLIPModel`, whatever their names in the files. This crate does not compute
//! with tensors, open connections, or know rounds and classifiers, so the service, its command line and the trainer can
//! share it. It reads safetensors alone: PyTorch's pickles are recognised by their names and refused.

#![warn(missing_docs, clippy::missing_errors_doc)]

pub mod config;
mod error;
#[cfg(test)]
mod fixture;
mod layout;
mod model;
mod shape;
pub mod store;
mod tensor;
pub mod tokenizer;
mod weights;

pub use error::ModelError;
pub use layout::{ARCHIVE, DESCRIPTIONS, Layout, ModelFiles, is_pickle, weights_named_in};
pub use model::Model;
pub use shape::expected;
pub use tensor::{Element, TensorRef};
pub use weights::{ShardIndex, Weights, WeightsError, refuse_lfs_pointer};
