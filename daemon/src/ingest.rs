//! A settled file becomes an image: it is opened safely, read, hashed and decoded, and its canonical pixels are kept.
//!
//! Reading and decoding are separate steps, so that a caller that already knows the content can leave out decoding. A
//! file is read on its own thread, because its file system may never answer; decoding uses a bounded set of blocking
//! threads. User files are read and never written. This module knows neither whether an image is already in the
//! catalogue nor where its record goes.

use crate::decode_budget::{DecodeBudget, Held, Party};
use crate::disk_space::{Reserve, Shortage};
use crate::observed_file::{FileFingerprint, ImageRecord, ObservedFile};
use crate::regular::{self, Steps};
use bytesize::ByteSize;
use coft_core::ids::ImageId;
use coft_core::shown::{shown_io, shown_path};
use coft_vision::{DecodeError, Decoded, Preprocess, Region};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use thiserror::Error;
use tokio::sync::{Semaphore, oneshot};
use tracing::debug;
use walkdir::WalkDir;

/// `[ingest]` of the configuration.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Largest file that is read, "1KiB" or more. Each thread holds one whole file in memory. "64MiB" [choice].
    pub file_limit: ByteSize,
    /// Number of files taken in at the same time; 0 for one per core. 0 [choice].
    pub threads: usize,
    /// Number of images whose pixels are kept for training, the latest ones; `round.minimum-images` or more. 10000
    /// [choice].
    pub most_images: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { file_limit: ByteSize::mib(64), threads: 0, most_images: 10_000 }
    }
}

/// File name extension of canonical pixels.
const CANONICAL: &str = "qoi";

/// File beside the pixels that records which program and settings last looked at refused files.
const JUDGE: &str = "judge";
/// Bytes at the beginning of a file that show whether it can be an image; of videos and other files no more is read.
/// 4096 [choice].
const HEAD_BYTES: u64 = 4096;

/// The content of a file.
pub struct Content {
    pub id: ImageId,
    bytes: Vec<u8>,
    /// The part of the picture that is used; `None` for the whole picture.
    region: Option<Region>,
}

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
    /// True where the reason lasts until the file changes. False where it also ends when the service's rights change,
    /// which no notice reports.
    pub lasts: bool,
}

impl Rejection {
    fn of_content(reason: impl ToString) -> Unready {
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

/// Takes in files.
#[derive(Clone)]
pub struct Ingest {
    shared: Arc<Shared>,
}

struct Shared {
    file_limit: u64,
    preprocess: Preprocess,
    pixels: PathBuf,
    permits: Arc<Semaphore>,
    budget: DecodeBudget,
    threads: usize,
    most_images: u64,
    reserve: Reserve,
    judge: String,
    sources: HashMap<PathBuf, Place>,
}

/// Directory of a source, and the part of its pictures that is used.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    pub dir: PathBuf,
    /// The part of each picture that is used; `None` for the whole picture.
    pub region: Option<Region>,
}

impl Ingest {
    /// `pixels` is the directory of the canonical pixels; it is created when needed.
    pub fn new(settings: &Settings, preprocess: Preprocess, pixels: PathBuf, budget: DecodeBudget) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if settings.threads == 0 { cores } else { settings.threads };
        let permits = Arc::new(Semaphore::new(threads));
        let (file_limit, most_images) = (settings.file_limit.as_u64(), settings.most_images);
        let (reserve, judge) = (Reserve::of(0), program_and_settings(settings, budget.limit()));
        let sources = HashMap::new();
        let shared =
            Shared { file_limit, preprocess, pixels, permits, budget, threads, most_images, reserve, judge, sources };
        Self { shared: Arc::new(shared) }
    }

    /// Sets the places of the sources, by source key. For a source that is not among them, the key is the directory.
    pub fn with_sources(self, sources: HashMap<PathBuf, Place>) -> Self {
        let shared = Arc::into_inner(self.shared).expect("it is set before anybody else holds it");
        Self { shared: Arc::new(Shared { sources, ..shared }) }
    }

    pub fn sources(&self) -> &HashMap<PathBuf, Place> {
        &self.shared.sources
    }

    /// Sets how much of the disk stays free.
    pub fn keeping_free(self, reserve: Reserve) -> Self {
        let shared = Arc::into_inner(self.shared).expect("it is set before anybody else holds it");
        Self { shared: Arc::new(Shared { reserve, ..shared }) }
    }

    /// Number of files taken in at the same time; further requests wait.
    pub fn threads(&self) -> usize {
        self.shared.threads
    }

    /// Number of images whose pixels are kept for training, the latest ones.
    pub fn most_images(&self) -> u64 {
        self.shared.most_images
    }

    /// How the canonical pixels are made.
    pub fn preprocess(&self) -> &Preprocess {
        &self.shared.preprocess
    }

    /// Short side of the canonical pixels, px.
    pub fn canonical_px(&self) -> u32 {
        self.shared.preprocess.shortest_edge
    }

    /// Path of the canonical pixels of an image.
    pub fn canonical_path(&self, id: &ImageId) -> PathBuf {
        let prefix = id.0.get(..2).unwrap_or("__");
        self.canonical_dir().join(prefix).join(format!("{id}.{CANONICAL}"))
    }

    fn canonical_dir(&self) -> PathBuf {
        self.shared.pixels.join(self.canonical_px().to_string())
    }

    /// The images whose canonical pixels are on the disk, including those that the catalogue does not know.
    pub async fn cached(&self) -> Vec<ImageId> {
        let dir = self.canonical_dir();
        let list = move || {
            let files = WalkDir::new(dir).min_depth(2).max_depth(2).into_iter().flatten();
            let pixels = files.filter(|file| file.path().extension().is_some_and(|found| found == CANONICAL));
            pixels.filter_map(|file| Some(ImageId(file.path().file_stem()?.to_str()?.to_owned()))).collect()
        };
        tokio::task::spawn_blocking(list).await.expect("listing files neither panics nor is aborted")
    }

    /// Removes the canonical pixels of images, where there are any. Files that cannot be removed stay; the first such
    /// failure is returned.
    pub async fn discard(&self, images: Vec<ImageId>) -> Result<(), IngestError> {
        let ingest = self.clone();
        let remove = move || {
            let mut error = None;
            for path in images.iter().map(|id| ingest.canonical_path(id)) {
                match fs::remove_file(&path) {
                    Err(source) if source.kind() != io::ErrorKind::NotFound => {
                        error.get_or_insert(IngestError::Discard { path, source });
                    }
                    _ => {}
                }
            }
            error.map_or(Ok(()), Err)
        };
        tokio::task::spawn_blocking(remove).await.expect("removing files neither panics nor is aborted")
    }

    /// Whether there is space for canonical pixels.
    pub async fn disk_space(&self) -> Result<(), IngestError> {
        let ingest = self.clone();
        let look = tokio::task::spawn_blocking(move || ingest.disk_space_now());
        look.await.expect("looking at a disk neither panics nor is aborted")
    }

    fn disk_space_now(&self) -> Result<(), IngestError> {
        let path = &self.shared.pixels;
        match self.shared.reserve.shortage(path, 0) {
            Ok(None) => Ok(()),
            Ok(Some(shortage)) => Err(IngestError::NoRoom { shortage }),
            Err(source) => Err(IngestError::Keep { path: path.clone(), source }),
        }
    }

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

    fn read_now(&self, observed: &ObservedFile, is_wanted: &dyn Fn() -> bool) -> Result<Content, Unready> {
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

    /// Whether files that were refused may be accepted now, because another program, or the same with other settings,
    /// has refused them.
    pub async fn judges_otherwise(&self) -> bool {
        let path = self.shared.pixels.join(JUDGE);
        tokio::fs::read_to_string(path).await.ok() != Some(self.judge())
    }

    /// What a refusal depends on besides the file: the program, its settings, and a library that may be installed
    /// later.
    fn judge(&self) -> String {
        format!("{} libheif {}", self.shared.judge, coft_vision::has_libheif())
    }

    /// Records that this program with these settings has looked at the refused files. If that cannot be written, they
    /// are looked at again at the next start.
    pub async fn note_judge(&self) {
        let ingest = self.clone();
        let note = move || {
            let (pixels, judge) = (&ingest.shared.pixels, ingest.judge());
            fs::create_dir_all(pixels)?;
            coft_fs::replace(&pixels.join(JUDGE), judge.as_bytes())
        };
        let noted = tokio::task::spawn_blocking(note).await.expect("writing a file neither panics nor is aborted");
        if let Err(error) = noted {
            debug!(%error, "refused files are looked at again at the next start: {error}");
        }
    }

    /// Whether the canonical pixels of an image exist.
    pub fn has_pixels(&self, image: &ImageId) -> bool {
        self.canonical_path(image).is_file()
    }

    /// Decodes a content and keeps its canonical pixels.
    ///
    /// # Errors
    /// The content is not an image, or its pixels cannot be kept.
    pub async fn keep(&self, content: Content) -> Result<ImageRecord, Unready> {
        let permit = Arc::clone(&self.shared.permits).acquire_owned().await.expect("the semaphore is never closed");
        let ingest = self.clone();
        let work = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            ingest.keep_now(content)
        });
        match work.await {
            Ok(kept) => kept,
            // A panic of the decoder is caused by this file; other files are still taken in.
            Err(error) if error.is_panic() => {
                Err(Rejection::of_content("the image makes its decoder fail; convert it"))
            }
            Err(_) => Err(Unready::Changed),
        }
    }

    fn keep_now(&self, content: Content) -> Result<ImageRecord, Unready> {
        let Content { id, bytes, region } = content;
        let (decoded, held) = self.decode(&bytes)?;
        let decoded = cut(decoded, region);
        let (width_px, height_px) = decoded.pixels.dimensions();
        let canonical = self.shared.preprocess.canonical(&decoded);
        drop(decoded);
        drop(held);
        let path = self.canonical_path(&id);
        if let Err(source) = keep(&path, |out| coft_vision::save_canonical(&canonical, out)) {
            return Err(Unready::RetryLater(match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => IngestError::DiskFull { path },
                _ => IngestError::Keep { path, source },
            }));
        }
        Ok(ImageRecord { id, width_px, height_px, bytes: bytes.len() as u64, canonical_px: self.canonical_px() })
    }

    /// The used part of the picture as an image file: the file itself, or the part that the source's configuration
    /// names.
    ///
    /// # Errors
    /// The file is not an image, so the part cannot be cut out.
    pub async fn looked_at(&self, content: Content) -> Result<Vec<u8>, Unready> {
        let Some(region) = content.region else { return Ok(content.bytes) };
        let ingest = self.clone();
        let work = tokio::task::spawn_blocking(move || {
            let (decoded, _held) = ingest.decode(&content.bytes)?;
            let mut file = Vec::new();
            let part = cut(decoded, Some(region));
            coft_vision::save_canonical(&part.pixels, &mut file).expect("memory takes what is written to it");
            Ok(file)
        });
        // A panic of the decoder is caused by this file.
        work.await.unwrap_or_else(|_| Err(Rejection::of_content("the image makes its decoder fail; convert it")))
    }

    /// Waits for memory of the decode budget, then decodes the picture. Returns the picture with its part of the
    /// budget, or the reason why it is not a usable image.
    fn decode(&self, bytes: &[u8]) -> Result<(Decoded, Held), Unready> {
        let head = coft_vision::head(bytes).map_err(Rejection::of_content)?;
        let held = self.shared.budget.wait_for(&head, Party::Sources, false);
        let held = held.map_err(|error| Rejection::of_content(format!("the image is too large: {error}")))?;
        Ok((coft_vision::decode(bytes).map_err(Rejection::of_content)?, held))
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

fn cut(decoded: Decoded, region: Option<Region>) -> Decoded {
    match region {
        Some(region) => Decoded { pixels: region.of(&decoded.pixels), ..decoded },
        None => decoded,
    }
}

#[derive(Debug, Error)]
enum ReadError {
    #[error("not a regular file")]
    NotRegular,
    #[error("the file leads out of the watched directory {}", shown_path(.0))]
    Outside(PathBuf),
    #[error("the file has {size}, over the limit of {limit}; raise ingest.file-limit to take it in", size = ByteSize::b(*.size), limit = ByteSize::b(*.limit))]
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

/// Identifies the program and its settings.
fn program_and_settings(settings: &Settings, decode_memory: ByteSize) -> String {
    let program = fs::metadata("/proc/self/exe").ok().map(|program| (program.len(), program.modified().ok()));
    format!("{program:?} {settings:?} {decode_memory:?}")
}

/// Writes a file completely or not at all, also if the power fails.
fn keep(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let dir = path.parent().expect("canonical pixels lie in a directory");
    fs::create_dir_all(dir)?;
    coft_fs::replace_with(path, |new| {
        let mut out = BufWriter::new(File::create(new)?);
        write(&mut out)?;
        out.flush()
    })
}

#[cfg(test)]
mod tests;
