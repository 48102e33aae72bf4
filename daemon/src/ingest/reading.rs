//! A settled file is opened safely, read and hashed, on a thread of its own, because its file system may never answer.

use super::{Ingest, IngestError, Rejection, Unready};
use crate::observed_file::{FileFingerprint, ObservedFile};
use crate::regular::{self, Steps};
use bytesize::ByteSize;
use coft_core::ids::ImageId;
use coft_core::shown::shown_path;
use coft_vision::{DecodeError, Region};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::thread;
use thiserror::Error;
use tokio::sync::oneshot;

/// Bytes at the beginning of a file that show whether it can be an image; of videos and other files no more is read.
/// 4096 [choice].
const HEAD_BYTES: u64 = 4096;

/// The content of a file.
pub struct Content {
    pub id: ImageId,
    pub(super) bytes: Vec<u8>,
    /// The part of the picture that is used; `None` for the whole picture.
    pub(super) region: Option<Region>,
}

impl Ingest {
    /// Reads a file, unless there is no space for its pixels. It takes as long as the file system takes, possibly for
    /// ever. When the returned future is dropped, the thread that reads ends with its next step.
    ///
    /// # Errors
    /// The file cannot be read, or cannot be an image.
    pub async fn read(&self, observed: ObservedFile) -> Result<Content, Unready> {
        self.read_where(observed, true).await
    }

    /// Reads a file whose pixels are not to be kept, and need no space.
    ///
    /// # Errors
    /// The file cannot be read, or cannot be an image.
    pub async fn read_whole(&self, observed: ObservedFile) -> Result<Content, Unready> {
        self.read_where(observed, false).await
    }

    async fn read_where(&self, observed: ObservedFile, needs_room: bool) -> Result<Content, Unready> {
        let (reply, answer) = oneshot::channel();
        let (ingest, path) = (self.clone(), observed.path.clone());
        let read = move || {
            let room = if needs_room { ingest.disk_space_now().map_err(Unready::RetryLater) } else { Ok(()) };
            let content = room.and_then(|()| ingest.read_now(&observed, &|| !reply.is_closed()));
            // When the service stops, there is no receiver any more.
            let _ = reply.send(content);
        };
        match thread::Builder::new().name("read".into()).spawn(read) {
            Ok(_) => answer.await.unwrap_or(Err(Unready::Changed)),
            Err(source) => Err(Unready::RetryLater(IngestError::Read { path, source })),
        }
    }

    pub(super) fn read_now(&self, observed: &ObservedFile, is_wanted: &dyn Fn() -> bool) -> Result<Content, Unready> {
        let place = self.shared.sources.get(&observed.source);
        let dir = place.map_or(&observed.source, |place| &place.dir);
        let bytes = match read(observed, dir, self.shared.file_limit, is_wanted) {
            Ok(bytes) => bytes,
            Err(ReadError::Changed) => return Err(Unready::Changed),
            Err(ReadError::Io(source)) => {
                return Err(match source.kind() {
                    io::ErrorKind::NotFound => Unready::Changed,
                    io::ErrorKind::PermissionDenied => Unready::Rejected(Rejection {
                        reason: "the file may not be read; let the service's user read it".into(),
                        lasts: false,
                    }),
                    _ => Unready::RetryLater(IngestError::Read { path: observed.path.clone(), source }),
                });
            }
            Err(error @ (ReadError::NotRegular | ReadError::Outside(_))) => {
                return Err(Unready::Rejected(Rejection { reason: error.to_string(), lasts: false }));
            }
            Err(error) => return Err(Rejection::of_content(error)),
        };
        let region = place.and_then(|place| place.region);
        Ok(Content { id: id_of(Sha256::new().chain_update(&bytes), region), bytes, region })
    }
}

/// Id of the image in a file with this content: the file's SHA-256. Where only a part of the picture is used, the hash
/// covers the file followed by the text of that part.
pub fn id_of(mut file: Sha256, region: Option<Region>) -> ImageId {
    if let Some(region) = region {
        file.update(region.to_string());
    }
    ImageId(coft_fs::hex(&file.finalize()))
}

#[derive(Debug, Error)]
enum ReadError {
    #[error("not a regular file")]
    NotRegular,
    #[error("the file leads out of the watched directory {}", shown_path(.0))]
    Outside(PathBuf),
    #[error(
        "the file has {size}, over the limit of {limit}; raise ingest.file-limit to take it in",
        size = ByteSize::b(*.size),
        limit = ByteSize::b(*.limit)
    )]
    TooLarge { size: u64, limit: u64 },
    #[error("the file changed while it was read")]
    Changed,
    #[error("{0}")]
    Head(DecodeError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Reads a source's whole file as it was observed, if its beginning is that of an image. Links are not followed;
/// devices and pipes are not waited for.
fn read(observed: &ObservedFile, dir: &Path, limit: u64, is_wanted: &dyn Fn() -> bool) -> Result<Vec<u8>, ReadError> {
    let (file, before) = regular::open(&observed.path).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => ReadError::NotRegular,
        // A symbolic link.
        _ if error.raw_os_error() == Some(libc::ELOOP) => ReadError::NotRegular,
        // A socket.
        _ if error.raw_os_error() == Some(libc::ENXIO) => ReadError::NotRegular,
        _ => ReadError::Io(error),
    })?;
    // A directory above the file may have been replaced by a link since the file was observed.
    let opened = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    if !opened.starts_with(fs::canonicalize(dir)?) {
        return Err(ReadError::Outside(dir.to_owned()));
    }
    let unchanged = |file: &File| match FileFingerprint::of(&file.metadata()?) == observed.fingerprint {
        true => Ok(()),
        false => Err(ReadError::Changed),
    };
    unchanged(&file)?;
    let (mut steps, mut bytes) = (Steps::new(&file, is_wanted)?, Vec::new());
    Read::by_ref(&mut steps).take(HEAD_BYTES.min(limit)).read_to_end(&mut bytes)?;
    match coft_vision::head(&bytes) {
        // Truncated: more bytes are needed to decide.
        Ok(_) | Err(DecodeError::Truncated { .. }) => {}
        Err(error) => {
            unchanged(&file)?;
            return Err(ReadError::Head(error));
        }
    }
    if before.len() > limit {
        return Err(ReadError::TooLarge { size: before.len(), limit });
    }
    bytes.reserve_exact(usize::try_from(before.len()).unwrap_or(0).saturating_sub(bytes.len()));
    let rest = (limit + 1).saturating_sub(bytes.len() as u64);
    steps.take(rest).read_to_end(&mut bytes)?;
    unchanged(&file)?;
    if bytes.len() as u64 != observed.fingerprint.bytes {
        return Err(ReadError::Changed);
    }
    Ok(bytes)
}
