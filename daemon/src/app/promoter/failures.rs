//! The failures of jobs for which the trainer is not the reason, with advice.

use crate::serve::LoadError;
use crate::store::StoreError;
use coft_core::event::{Failure, FailureKind};

/// The failure of a job that has ended without an outcome.
pub fn unexplained() -> Failure {
    Failure::new(FailureKind::Internal, "the job ended without a verdict", "look into the log")
}

/// The failure of a job that was stopped.
pub fn stopped() -> Failure {
    Failure::new(FailureKind::Cancelled, "the job was stopped", "start it again")
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let (kind, hint) = match &error {
            full if full.is_disk_full() => {
                (FailureKind::DiskFull, "free some space; the active generation keeps serving")
            }
            StoreError::Io { .. } => {
                (FailureKind::Internal, "the active generation keeps serving; look at the named file")
            }
            StoreError::Json { .. }
            | StoreError::Format { .. }
            | StoreError::Digest { .. }
            | StoreError::Name { .. } => {
                (FailureKind::BadModel, "the active generation keeps serving; make or export the model again")
            }
            StoreError::Unknown { .. } => (
                FailureKind::BadModel,
                "the active generation keeps serving; coftctl generation list shows which there are",
            ),
        };
        Self { kind, message: error.to_string(), hint: hint.into() }
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        let hint = "the active generation keeps serving; look at the named file or library".into();
        Self { kind: FailureKind::Internal, message: error.to_string(), hint }
    }
}
