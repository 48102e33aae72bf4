//! A settled file becomes an image: opened safely, read, hashed, decoded, and its canonical pixels kept.
//!
//! Reading and decoding are two steps: whoever knows the content from elsewhere leaves the second one out. A file is
//! read on a thread of its own, since its file system may never answer; decoding runs on a bounded set of blocking
//! threads. User files are read and never written. Whether an image is known already is not known here, nor is where
//! the record goes.

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
use walkdir::{DirEntry, WalkDir};

/// `[ingest]` of the configuration.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Largest file that is read, "1KiB" or more; it is held in memory as a whole, once a thread. "64MiB" [choice].
    pub file_limit: ByteSize,
    /// Files taken in at once; 0 for one a core. 0 [choice].
    pub threads: usize,
    /// Images whose pixels are kept for training, the latest taken in; `round.minimum-images` or more. 10000 [choice].
    pub most_images: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { file_limit: ByteSize::mib(64), threads: 0, most_images: 10_000 }
    }
}

/// Extension of canonical pixels.
const CANONICAL: &str = "qoi";

/// Where it is noted, beside the pixels, what refused files were last looked at with.
const JUDGE: &str = "judge";
/// How much of a file says whether it can be an image, bytes. Videos and other files are not read further. 4096
/// [choice].
const HEAD_BYTES: u64 = 4096;

/// A file as it was read.
pub struct Content {
    pub id: ImageId,
    bytes: Vec<u8>,
    /// The part that is looked at, where it is not all of it.
    region: Option<Region>,
}

/// Why there is no image yet.
#[derive(Debug)]
pub enum Unready {
    /// The file holds no usable image; it goes to the quarantine ledger with this reason.
    Rejected(Rejection),
    /// The file has gone or is being written again; it is observed again when there is something to see.
    Changed,
    /// Not the image's fault: it has to be tried again.
    RetryLater(IngestError),
}

/// Why a file holds no usable image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub reason: String,
    /// Whether that is so until the file changes; otherwise the service's rights may change, and nothing tells of it.
    pub lasts: bool,
}

impl Rejection {
    fn of_content(reason: impl ToString) -> Unready {
        Unready::Rejected(Self { reason: reason.to_string(), lasts: true })
    }
}

/// The disk or the file system did not do its part.
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
    /// Whether it is the source's, and no other source's images are concerned.
    pub fn is_sources(&self) -> bool {
        matches!(self, Self::Read { .. })
    }
}

/// Takes files in.
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

/// Where a source's files are.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    pub dir: PathBuf,
    /// The part of its pictures that is looked at, where it is not all of it.
    pub region: Option<Region>,
}

impl Ingest {
    /// `pixels` is the directory of the canonical pixels; it is made where it is missing.
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

    /// Takes in from these sources, by their keys. One that is not among them is where its key says.
    pub fn with_sources(self, sources: HashMap<PathBuf, Place>) -> Self {
        let shared = Arc::into_inner(self.shared).expect("it is set before anybody else holds it");
        Self { shared: Arc::new(Shared { sources, ..shared }) }
    }

    pub fn sources(&self) -> &HashMap<PathBuf, Place> {
        &self.shared.sources
    }

    /// Leaves so much of the disk free.
    pub fn keeping_free(self, reserve: Reserve) -> Self {
        let shared = Arc::into_inner(self.shared).expect("it is set before anybody else holds it");
        Self { shared: Arc::new(Shared { reserve, ..shared }) }
    }

    /// Files that are taken in at once; asking for more only makes them wait.
    pub fn threads(&self) -> usize {
        self.shared.threads
    }

    /// Images whose pixels are to be kept for training, the latest taken in.
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

    /// Where the canonical pixels of an image are kept.
    pub fn canonical_path(&self, id: &ImageId) -> PathBuf {
        let prefix = id.0.get(..2).unwrap_or("__");
        self.canonical_dir().join(prefix).join(format!("{id}.{CANONICAL}"))
    }

    fn canonical_dir(&self) -> PathBuf {
        self.shared.pixels.join(self.canonical_px().to_string())
    }

    /// The images whose canonical pixels are on the disk, whether anybody knows of them or not.
    pub async fn cached(&self) -> Vec<ImageId> {
        let dir = self.canonical_dir();
        let list = move || {
            let files = WalkDir::new(dir).min_depth(2).max_depth(2).into_iter().flatten();
            let (unfinished, pixels): (Vec<DirEntry>, Vec<DirEntry>) =
                files.partition(|file| coft_fs::is_unfinished(file.path()));
            // One that cannot be removed takes room alone.
            unfinished.iter().for_each(|file| drop(fs::remove_file(file.path())));
            let pixels = pixels.iter().filter(|file| file.path().extension().is_some_and(|found| found == CANONICAL));
            pixels.filter_map(|file| Some(ImageId(file.path().file_stem()?.to_str()?.to_owned()))).collect()
        };
        tokio::task::spawn_blocking(list).await.expect("listing files neither panics nor is aborted")
    }

    /// Removes the canonical pixels of images, where there are any. What cannot be removed stays, and the first of it is told.
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

    /// Whether there is room for canonical pixels.
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

    /// Reads a file; does not where there is no room for its pixels. It takes as long as the file's file system takes,
    /// even for ever. When nobody waits for the content any more, the thread that reads ends with its next step.
    ///
    /// # Errors
    /// Where there is no file that can be an image.
    pub async fn read(&self, observed: ObservedFile) -> Result<Content, Unready> {
        self.read_where(observed, true).await
    }

    /// The same of a file whose pixels are not to be kept, and need no room.
    ///
    /// # Errors
    /// Where there is no file that can be an image.
    pub async fn read_whole(&self, observed: ObservedFile) -> Result<Content, Unready> {
        self.read_where(observed, false).await
    }

    async fn read_where(&self, observed: ObservedFile, needs_room: bool) -> Result<Content, Unready> {
        let (reply, answer) = oneshot::channel();
        let (ingest, path) = (self.clone(), observed.path.clone());
        let read = move || {
            let room = if needs_room { ingest.disk_space_now().map_err(Unready::RetryLater) } else { Ok(()) };
            let content = room.and_then(|()| ingest.read_now(&observed, &|| !reply.is_closed()));
            // Nobody waits any more while the service stops.
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

    /// Whether files that were refused may be taken in now: another program, or one with other settings, has refused
    /// them.
    pub async fn judges_otherwise(&self) -> bool {
        let path = self.shared.pixels.join(JUDGE);
        tokio::fs::read_to_string(path).await.ok() != Some(self.judge())
    }

    /// What a refusal depends on beside the file: the program, its settings, and a library that may be installed later.
    fn judge(&self) -> String {
        format!("{} libheif {}", self.shared.judge, coft_vision::has_libheif())
    }

    /// Takes note that refused files are looked at by this program with these settings. Where that cannot be written
    /// down, they are looked at again at the next start.
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

    /// Whether the canonical pixels of an image are there.
    pub fn has_pixels(&self, image: &ImageId) -> bool {
        self.canonical_path(image).is_file()
    }

    /// Decodes what was read and keeps its canonical pixels.
    ///
    /// # Errors
    /// Where it is no image, or its pixels cannot be kept.
    pub async fn keep(&self, content: Content) -> Result<ImageRecord, Unready> {
        let permit = Arc::clone(&self.shared.permits).acquire_owned().await.expect("the semaphore is never closed");
        let ingest = self.clone();
        let work = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            ingest.keep_now(content)
        });
        match work.await {
            Ok(kept) => kept,
            // A decoder's panic is that file's fault, and no reason to stop taking in the others.
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

    /// An image file of what is looked at: the file itself, or the part of it that the source asks for.
    ///
    /// # Errors
    /// Where the part cannot be made: the file is no image.
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
        // A decoder's panic is that file's fault.
        work.await.unwrap_or_else(|_| Err(Rejection::of_content("the image makes its decoder fail; convert it")))
    }

    /// The picture, once there is memory to decode it, and its part of the budget; or why it is no usable image.
    fn decode(&self, bytes: &[u8]) -> Result<(Decoded, Held), Unready> {
        let head = coft_vision::head(bytes).map_err(Rejection::of_content)?;
        let held = self.shared.budget.wait_for(&head, Party::Sources, false);
        let held = held.map_err(|error| Rejection::of_content(format!("the image is too large: {error}")))?;
        Ok((coft_vision::decode(bytes).map_err(Rejection::of_content)?, held))
    }
}

/// The image that a file with this content is: its SHA-256; where a part of it is looked at, of the file followed by
/// the words for that part.
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

/// The whole file of a source's directory as it was seen, where its beginning is that of an image; links are not
/// followed, devices and pipes not waited for.
fn read(observed: &ObservedFile, dir: &Path, limit: u64, is_wanted: &dyn Fn() -> bool) -> Result<Vec<u8>, ReadError> {
    let (file, before) = regular::open(&observed.path).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => ReadError::NotRegular,
        // A link.
        _ if error.raw_os_error() == Some(libc::ELOOP) => ReadError::NotRegular,
        // A socket.
        _ if error.raw_os_error() == Some(libc::ENXIO) => ReadError::NotRegular,
        _ => ReadError::Io(error),
    })?;
    // A directory above the file may have been exchanged for a link since it was seen.
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
        // The rest says more.
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

/// The program and its settings.
fn program_and_settings(settings: &Settings, decode_memory: ByteSize) -> String {
    let program = fs::metadata("/proc/self/exe").ok().map(|program| (program.len(), program.modified().ok()));
    format!("{program:?} {settings:?} {decode_memory:?}")
}

/// Writes a file so that it is there as a whole or not at all, also after a loss of power.
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
