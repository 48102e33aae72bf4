//! A content is decoded and its canonical pixels are kept, one file an image. Decoding uses a bounded set of threads.

use super::{Content, Ingest, IngestError, Rejection, Unready};
use crate::decode_budget::{Held, Party};
use crate::observed_file::ImageRecord;
use coft_core::ids::ImageId;
use coft_vision::{Decoded, Region};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use walkdir::WalkDir;

/// File name extension of canonical pixels.
const CANONICAL: &str = "qoi";

impl Ingest {
    /// Path of the canonical pixels of an image.
    pub fn canonical_path(&self, id: &ImageId) -> PathBuf {
        let prefix = id.0.get(..2).unwrap_or("__");
        self.canonical_dir().join(prefix).join(format!("{id}.{CANONICAL}"))
    }

    fn canonical_dir(&self) -> PathBuf {
        self.shared.pixels.join(self.canonical_px().to_string())
    }

    /// Whether the canonical pixels of an image exist.
    pub fn has_pixels(&self, image: &ImageId) -> bool {
        self.canonical_path(image).is_file()
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

    pub(super) fn disk_space_now(&self) -> Result<(), IngestError> {
        let path = &self.shared.pixels;
        match self.shared.reserve.shortage(path, 0) {
            Ok(None) => Ok(()),
            Ok(Some(shortage)) => Err(IngestError::NoRoom { shortage }),
            Err(source) => Err(IngestError::Keep { path: path.clone(), source }),
        }
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

    pub(super) fn keep_now(&self, content: Content) -> Result<ImageRecord, Unready> {
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

fn cut(decoded: Decoded, region: Option<Region>) -> Decoded {
    match region {
        Some(region) => Decoded { pixels: region.of(&decoded.pixels), ..decoded },
        None => decoded,
    }
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
