//! CLIP checkpoints as files: which layout a directory has, where each tensor lies, what sizes they make, and the store
//! in which models lie by their content.
//!
//! Tensors are named as Hugging Face's `CLIPModel` names them, whatever the files call them. Nothing here computes with
//! one, opens a connection, or knows rounds and classifiers; so the service, its command line and the trainer share it.

#![warn(missing_docs, clippy::missing_errors_doc)]

pub mod config;
mod error;
#[cfg(test)]
mod fixture;
mod layout;
mod model;
mod pickle;
mod shape;
pub mod store;
mod tensor;
pub mod tokenizer;
mod weights;

pub use error::ModelError;
pub use layout::{ARCHIVE, DESCRIPTIONS, Layout, weights_named_in};
pub use model::Model;
pub use shape::expected;
pub use tensor::{Element, TensorRef};
pub use weights::{Weights, WeightsError};
