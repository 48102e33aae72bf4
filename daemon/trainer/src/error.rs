//! Why a round produced no candidate, in the terms of the protocol.

use crate::checkpoint::CheckpointError;
use crate::pool::PoolError;
use crate::progress::Stop;
use coft_core::event::{self, Event, FailureKind, Stage};
use coft_core::shown::{shown_io, shown_path};
use std::any::Any;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

#[derive(Debug, Error)]
pub enum RoundError {
    #[error("{}: {cause}", shown_path(path))]
    Spec { path: PathBuf, cause: String },
    /// The spec asks for a round that no trainer can run.
    #[error("{0}")]
    Asked(&'static str),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A class name that the model cannot use, and its line in the label file.
    #[error("line {line} of the label file: {cause}")]
    Class { line: usize, cause: CheckpointError },
    #[error(transparent)]
    Pool(#[from] PoolError),
    #[error("line {line} of the template file: {cause}")]
    Template { line: usize, cause: CheckpointError },
    #[error(
        "the round needs {} of memory even with one image at a time; {} are free",
        bytesize::ByteSize(*needed), bytesize::ByteSize(*available)
    )]
    Memory { needed: u64, available: u64 },
    #[error("no image was predicted as any class")]
    NoSeeds,
    #[error("the loss is not finite in stage {}, step {step}", stage.as_str())]
    NonFinite { stage: Stage, step: u32 },
    #[error("cannot write {}: {}", shown_path(path), shown_io(cause))]
    Write { path: PathBuf, cause: io::Error },
    #[error(transparent)]
    Stop(#[from] Stop),
    #[error("device cuda: {0}")]
    Cuda(String),
    #[error("{0}")]
    Panic(String),
}

/// Whether libtorch's message says that an allocation failed.
pub fn is_out_of_memory(message: &str) -> bool {
    // Messages of libtorch on the CPU and on a GPU, of cuBLAS, of cuDNN and of C++.
    ["can't allocate memory", "out of memory", "ALLOC_FAILED", "ALLOCATION_FAILED", "bad_alloc"]
        .iter()
        .any(|words| message.contains(words))
}

impl RoundError {
    /// Wraps an error met while writing to `path`.
    pub fn write(path: &Path) -> impl FnOnce(io::Error) -> RoundError {
        let path = path.to_owned();
        move |cause| RoundError::Write { path, cause }
    }

    /// The error behind a panic: damaged pixels that were met in the middle of a training ([`crate::pool`]), or an
    /// exception of libtorch.
    pub fn of_panic(panic: Box<dyn Any + Send>) -> RoundError {
        match panic.downcast::<PoolError>() {
            Ok(error) => RoundError::Pool(*error),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                RoundError::Panic(text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("unknown panic").to_owned())
            }
        }
    }

    /// Adds the line of the class that the error is about, if it is about one.
    pub fn on_line_of(self, lines: &[usize]) -> RoundError {
        match self {
            RoundError::Checkpoint(cause @ CheckpointError::TooLong { number, .. }) if number < lines.len() => {
                RoundError::Class { line: lines[number], cause }
            }
            other => other,
        }
    }

    pub fn kind(&self) -> FailureKind {
        match self {
            RoundError::Spec { .. } | RoundError::Asked(_) | RoundError::Cuda(_) => FailureKind::BadSpec,
            RoundError::Checkpoint(_) | RoundError::Class { .. } | RoundError::Template { .. } => FailureKind::BadModel,
            RoundError::Pool(_) => FailureKind::BadImages,
            RoundError::NoSeeds => FailureKind::NoSeeds,
            RoundError::NonFinite { .. } => FailureKind::NonFinite,
            RoundError::Memory { .. } => FailureKind::OutOfMemory,
            RoundError::Write { cause, .. } if cause.kind() == io::ErrorKind::StorageFull => FailureKind::DiskFull,
            RoundError::Stop(Stop::Cancelled) => FailureKind::Cancelled,
            RoundError::Panic(why) if is_out_of_memory(why) => FailureKind::OutOfMemory,
            RoundError::Write { .. } | RoundError::Stop(_) | RoundError::Panic(_) => FailureKind::Internal,
        }
    }

    pub fn event(&self) -> Event {
        let kind = self.kind();
        let hint = match kind {
            FailureKind::BadSpec if matches!(self, RoundError::Cuda(_)) => {
                "set device = \"cpu\" in [round], or install what a GPU takes (docs/decisions/0015-gpu.md)"
            }
            FailureKind::BadSpec if matches!(self, RoundError::Asked(_)) => "correct the settings of the round",
            FailureKind::BadSpec => "use a daemon and a trainer of the same version",
            FailureKind::BadModel if matches!(self, RoundError::Template { .. }) => {
                "shorten that prompt in the file of classifier.templates, or a class name"
            }
            FailureKind::BadModel => "point classifier.model to a complete CLIP directory and class names that fit it",
            FailureKind::BadImages => {
                "start the round again: what was damaged is left out, and taken in again from its file"
            }
            FailureKind::NoSeeds => "check that the class names describe what the images show",
            FailureKind::NonFinite => "lower the learning rate of that phase",
            FailureKind::OutOfMemory => {
                "free memory, or take a smaller model or fewer classes; a batch is computed in parts by itself, and images that \
                 memory does not hold are read from the disk"
            }
            FailureKind::DiskFull => "free disk space and start the round again; the active generation is untouched",
            FailureKind::Cancelled => "start it again when it suits",
            FailureKind::Internal => "see the journal for the trainer's own messages",
        };
        Event::Failed(event::Failure::new(kind, self.to_string(), hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn a_class_name_that_outgrows_the_window_is_refused_with_its_line() {
        let classes = ["bolt".to_owned(), "very ".repeat(40) + "long"];
        let told = fixture::checkpoint().prompts(fixture::TEMPLATE, &classes, 0).unwrap_err();
        let told = RoundError::from(told).on_line_of(&[2, 5]);
        assert_eq!(told.kind(), FailureKind::BadModel);
        assert!(told.to_string().starts_with("line 5 of the label file: class \"very"), "{told}");
    }
}
