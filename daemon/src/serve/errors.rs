//! Why a request is not answered, and why a generation cannot be loaded.

use super::ort;
use crate::decode_budget::{self, Party};
use coft_core::ids::GenerationId;
use coft_core::shown::shown_path;
use std::path::PathBuf;
use thiserror::Error;

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ServeError {
    #[error("no more than {0} images of {1} may wait at a time, the share of one user")]
    Busy(usize, Party),
    #[error("no more than {0} images of all users together may wait at a time")]
    BusyWithAll(usize),
    #[error("no more than {0} batch sockets of {1} may be open at a time, the share of one user")]
    TooManyBatches(usize, Party),
    #[error("no more than {0} batch sockets of all users together may be open at a time")]
    TooManyBatchesOfAll(usize),
    #[error("no generation serves yet")]
    NotReady,
    /// No generation serves yet; the text is the reason.
    #[error("{0}")]
    Waiting(String),
    #[error("generation {generation} is being loaded")]
    Loading { generation: GenerationId },
    #[error("generation {generation} cannot be loaded: {cause}")]
    NotLoaded { generation: GenerationId, cause: String },
    #[error("the deadline passed before the image was answered")]
    DeadlineExceeded,
    #[error("the image cannot be used: {0}")]
    BadImage(String),
    #[error("the descriptor is not a regular file")]
    NotAFile,
    #[error("the image has {size} bytes; at most {limit} are read")]
    TooLarge { size: u64, limit: u64 },
    #[error("the image is too large: {0}")]
    OverBudget(decode_budget::TooLarge),
    #[error("the service is stopping")]
    Stopped,
    #[error("{0}")]
    Internal(String),
}

#[derive(Debug, Error)]
pub enum LoadError {
    #[error("{}: {cause}", shown_path(path))]
    Read { path: PathBuf, cause: String },
    #[error(transparent)]
    Session(#[from] ort::SessionError),
    #[error(transparent)]
    Preprocess(#[from] coft_vision::PreprocessError),
    #[error("{}: {fault}", shown_path(path))]
    Probe { path: PathBuf, fault: String },
    #[error("no provider is left: {0}")]
    NoProvider(String),
}
