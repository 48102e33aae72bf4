//! Why there is no image yet: because of the file, or because of the disk.

use crate::disk_space::Shortage;
use coft_core::shown::{shown_io, shown_path};
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why there is no image yet.
#[derive(Debug)]
pub enum Unready {
    /// The file holds no usable image; it goes to the quarantine ledger with this reason.
    Rejected(Rejection),
    /// The file has gone or is being written again; the watch will report it again.
    Changed,
    /// The failure is not caused by the image; reading has to be tried again.
    RetryLater(IngestError),
}

/// Why a file holds no usable image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub reason: String,
    /// True where the reason lasts until the file or the settings change. False where it also ends when the service's
    /// rights change, which no notice reports.
    pub lasts: bool,
}

impl Rejection {
    pub(super) fn of_content(reason: impl ToString) -> Unready {
        Unready::Rejected(Self { reason: reason.to_string(), lasts: true })
    }
}

/// A failure of the disk or the file system.
#[derive(Debug, Error)]
pub enum IngestError {
    #[error("cannot read {}: {source}", shown_path(path))]
    Read { path: PathBuf, source: io::Error },
    #[error("the disk is full: {shortage}; free {} there", shortage.lacking)]
    NoRoom { shortage: Shortage },
    #[error("the disk is full: cannot keep the pixels of an image in {}; free some space", shown_path(path))]
    DiskFull { path: PathBuf },
    #[error("cannot keep the pixels of an image in {}: {}", shown_path(path), shown_io(source))]
    Keep { path: PathBuf, source: io::Error },
    #[error("cannot remove the pixels {}: {}", shown_path(path), shown_io(source))]
    Discard { path: PathBuf, source: io::Error },
}

impl IngestError {
    /// Whether the failure concerns only the file's source, so that images of other sources are not affected.
    pub fn is_sources(&self) -> bool {
        matches!(self, Self::Read { .. })
    }
}
