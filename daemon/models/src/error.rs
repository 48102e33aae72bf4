//! Why a directory is not a usable model.

use crate::shape::ShapeError;
use crate::tokenizer::TokenizerError;
use crate::weights::WeightsError;
use coft_core::shown::shown_path;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why a directory is not a usable model.
#[derive(Debug, Error)]
pub enum ModelError {
    /// Files are missing, or there are several and it is unclear which one is meant.
    #[error("the model directory {} lacks {lacking}", shown_path(dir))]
    Incomplete {
        /// Directory of the model.
        dir: PathBuf,
        /// What is missing, in words.
        lacking: String,
    },
    /// A file or directory cannot be read.
    #[error("{}: {source}", shown_path(path))]
    Read {
        /// Its path.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A file is not JSON of the right form.
    #[error("{}: {source}", shown_path(path))]
    Json {
        /// Its path.
        path: PathBuf,
        /// Where the JSON is wrong, and how.
        source: serde_json::Error,
    },
    /// The sizes or the preprocessing that a file states cannot be used.
    #[error("{}: {fault}", shown_path(path))]
    Config {
        /// Path of the file that states them.
        path: PathBuf,
        /// What is wrong, in words.
        fault: String,
    },
    /// The weights cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The weights are PyTorch pickles. Only coftctl reads them, when it imports a model.
    #[error(
        "{} is a PyTorch pickle, which coft reads only to import it: run coftctl model import {} --name NAME, then use \
         NAME in place of the directory",
        shown_path(path),
        shown_path(dir)
    )]
    Pickle {
        /// Path of the pickle, or of the index of its shards.
        path: PathBuf,
        /// Directory of the model.
        dir: PathBuf,
    },
    /// The tensors are not those of a CLIP of the stated sizes.
    #[error("{}: {source}", shown_path(path))]
    Shape {
        /// Path of the first file with weights.
        path: PathBuf,
        /// The tensor, and what is wrong with it.
        source: ShapeError,
    },
    /// The files of the tokeniser are missing, or do not match each other or the model.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// coft does not support the model's preprocessing.
    #[error(transparent)]
    Preprocess(#[from] coft_vision::PreprocessError),
}
