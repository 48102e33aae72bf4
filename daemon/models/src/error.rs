//! Why a directory is no model that can be used.

use crate::shape::ShapeError;
use crate::tokenizer::TokenizerError;
use crate::weights::WeightsError;
use coft_core::shown::shown_path;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum ModelError {
    #[error("the model directory {} lacks {lacking}", shown_path(dir))]
    Incomplete { dir: PathBuf, lacking: String },
    #[error("{}: {source}", shown_path(path))]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: {source}", shown_path(path))]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("{}: {fault}", shown_path(path))]
    Config { path: PathBuf, fault: String },
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error("{}: {source}", shown_path(path))]
    Shape { path: PathBuf, source: ShapeError },
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error(transparent)]
    Preprocess(#[from] coft_vision::PreprocessError),
}
