//! A settled file becomes an image: opened safely, hashed, decoded, and its canonical pixels kept.
//!
//! Work runs on a bounded set of blocking threads. User files are read and never written. Whether an image is known
//! already is not known here, nor is where the record goes.

use crate::room::{Reserve, Shortage};
use crate::sighting::{ImageRecord, Sighting, Stamp};
use bytesize::ByteSize;
use coft_core::ids::ImageId;
use coft_vision::Preprocess;
use nix::fcntl::OFlag;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;
use tokio::sync::Semaphore;
use walkdir::WalkDir;

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

/// What became of a file.
#[derive(Debug)]
pub enum Taken {
    Image(ImageRecord),
    /// The file holds no usable image; it goes to the quarantine ledger with this reason.
    Refused(String),
    /// The file has gone or is being written again; another sighting follows when there is something to see.
    Moving,
    /// Not the image's fault: it has to be tried again.
    Deferred(Trouble),
}

/// The disk or the file system did not do its part.
#[derive(Debug, Error)]
pub enum Trouble {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the disk is full: {shortage}; free {} there", shortage.lacking)]
    NoRoom { shortage: Shortage },
    #[error("the disk is full: cannot keep the pixels of an image in {}; free some space", path.display())]
    DiskFull { path: PathBuf },
    #[error("cannot keep the pixels of an image in {}: {source}", path.display())]
    Keep { path: PathBuf, source: io::Error },
    #[error("cannot remove the pixels {}: {source}", path.display())]
    Discard { path: PathBuf, source: io::Error },
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
    threads: usize,
    most_images: u64,
    reserve: Reserve,
}

impl Ingest {
    /// `pixels` is the directory of the canonical pixels; it is made where it is missing.
    pub fn new(settings: &Settings, preprocess: Preprocess, pixels: PathBuf) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if settings.threads == 0 { cores } else { settings.threads };
        let permits = Arc::new(Semaphore::new(threads));
        let (file_limit, most_images) = (settings.file_limit.as_u64(), settings.most_images);
        let reserve = Reserve::of(0);
        let shared = Shared { file_limit, preprocess, pixels, permits, threads, most_images, reserve };
        Self { shared: Arc::new(shared) }
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
            let pixels = files.filter(|file| file.path().extension().is_some_and(|found| found == CANONICAL));
            pixels.filter_map(|file| Some(ImageId(file.path().file_stem()?.to_str()?.to_owned()))).collect()
        };
        tokio::task::spawn_blocking(list).await.expect("listing files neither panics nor is aborted")
    }

    /// Removes the canonical pixels of images, where there are any. What cannot be removed stays, and the first of it is told.
    pub async fn discard(&self, images: Vec<ImageId>) -> Result<(), Trouble> {
        let ingest = self.clone();
        let remove = move || {
            let mut trouble = None;
            for path in images.iter().map(|id| ingest.canonical_path(id)) {
                match fs::remove_file(&path) {
                    Err(source) if source.kind() != io::ErrorKind::NotFound => {
                        trouble.get_or_insert(Trouble::Discard { path, source });
                    }
                    _ => {}
                }
            }
            trouble.map_or(Ok(()), Err)
        };
        tokio::task::spawn_blocking(remove).await.expect("removing files neither panics nor is aborted")
    }

    /// Whether there is room for canonical pixels.
    pub async fn room(&self) -> Result<(), Trouble> {
        let ingest = self.clone();
        let look = tokio::task::spawn_blocking(move || ingest.room_now());
        look.await.expect("looking at a disk neither panics nor is aborted")
    }

    fn room_now(&self) -> Result<(), Trouble> {
        let path = &self.shared.pixels;
        match self.shared.reserve.shortage(path, 0) {
            Ok(None) => Ok(()),
            Ok(Some(shortage)) => Err(Trouble::NoRoom { shortage }),
            Err(source) => Err(Trouble::Keep { path: path.clone(), source }),
        }
    }

    /// Reads a file and keeps its canonical pixels; does not read it where there is no room for them.
    pub async fn take(&self, sighting: Sighting) -> Taken {
        let permit = Arc::clone(&self.shared.permits).acquire_owned().await.expect("the semaphore is never closed");
        let ingest = self.clone();
        let work = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            ingest.take_now(&sighting)
        });
        match work.await {
            Ok(taken) => taken,
            // A decoder's panic is that file's fault, and no reason to stop taking in the others.
            Err(error) if error.is_panic() => Taken::Refused("the image makes its decoder fail; convert it".into()),
            Err(_) => Taken::Moving,
        }
    }

    fn take_now(&self, sighting: &Sighting) -> Taken {
        if let Err(trouble) = self.room_now() {
            return Taken::Deferred(trouble);
        }
        let bytes = match read(&sighting.source, &sighting.path, self.shared.file_limit) {
            Ok((bytes, stamp)) if stamp == sighting.stamp => bytes,
            Ok(_) => return Taken::Moving,
            Err(ReadError::Changed) => return Taken::Moving,
            Err(ReadError::Io(source)) => {
                return match source.kind() {
                    io::ErrorKind::NotFound => Taken::Moving,
                    io::ErrorKind::PermissionDenied => {
                        Taken::Refused("the file may not be read; let the service's user read it".into())
                    }
                    _ => Taken::Deferred(Trouble::Read { path: sighting.path.clone(), source }),
                };
            }
            Err(error) => return Taken::Refused(error.to_string()),
        };
        let decoded = match coft_vision::decode(&bytes) {
            Ok(decoded) => decoded,
            Err(error) => return Taken::Refused(error.to_string()),
        };
        let id = ImageId(hex(&Sha256::digest(&bytes)));
        let canonical = self.shared.preprocess.canonical(&decoded);
        let path = self.canonical_path(&id);
        if let Err(source) = keep(&path, |out| coft_vision::save_canonical(&canonical, out)) {
            return Taken::Deferred(match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Trouble::DiskFull { path },
                _ => Trouble::Keep { path, source },
            });
        }
        Taken::Image(ImageRecord {
            id,
            width_px: decoded.pixels.width(),
            height_px: decoded.pixels.height(),
            bytes: bytes.len() as u64,
            canonical_px: self.canonical_px(),
        })
    }
}

#[derive(Debug, Error)]
enum ReadError {
    #[error("not a regular file")]
    NotRegular,
    #[error("the file leads out of the watched directory {}", .0.display())]
    Outside(PathBuf),
    #[error("the file has {size}, over the limit of {limit}; raise ingest.file-limit to take it in", size = ByteSize::b(*.size), limit = ByteSize::b(*.limit))]
    TooLarge { size: u64, limit: u64 },
    #[error("the file changed while it was read")]
    Changed,
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The whole file and its stamp; links are not followed, devices and pipes not waited for.
fn read(source: &Path, path: &Path, limit: u64) -> Result<(Vec<u8>, Stamp), ReadError> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let mut file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path).map_err(|error| match error
        .raw_os_error()
    {
        Some(nix::libc::ELOOP) => ReadError::NotRegular,
        _ => ReadError::Io(error),
    })?;
    let before = file.metadata()?;
    if !before.is_file() {
        return Err(ReadError::NotRegular);
    }
    // A directory above the file may have been exchanged for a link since it was seen.
    let opened = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    if !opened.starts_with(fs::canonicalize(source)?) {
        return Err(ReadError::Outside(source.to_owned()));
    }
    if before.len() > limit {
        return Err(ReadError::TooLarge { size: before.len(), limit });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(before.len()).unwrap_or(0));
    Read::by_ref(&mut file).take(limit + 1).read_to_end(&mut bytes)?;
    let stamp = Stamp::of(&file.metadata()?);
    if stamp != Stamp::of(&before) || bytes.len() as u64 != stamp.bytes {
        return Err(ReadError::Changed);
    }
    Ok((bytes, stamp))
}

/// Writes a file so that it is there as a whole or not at all, also after a loss of power.
fn keep(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let dir = path.parent().expect("canonical pixels lie in a directory");
    fs::create_dir_all(dir)?;
    let new = tempfile::Builder::new().prefix(".new-").tempfile_in(dir)?;
    let mut out = BufWriter::new(new.as_file());
    write(&mut out)?;
    out.flush()?;
    drop(out);
    new.as_file().sync_all()?;
    new.persist(path)?;
    File::open(dir)?.sync_all()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
