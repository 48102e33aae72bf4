//! The catalogue: images by content, the files that hold them, the answers about them, the quarantine ledger and the
//! history of rounds.
//!
//! One thread owns the database; other parts hold a [`Catalog`] and wait for replies. Nothing here opens an image.

mod again;
mod answers;
mod cuts;
mod delays;
mod entries;
mod forgotten;
mod jobs;
mod known;
mod observations;
mod repair;
mod schema;

#[cfg(test)]
pub use answers::Last;
pub use answers::{Answer, Budget, Standing, Turn, Unanswered};
pub use cuts::Cut;
pub use delays::DelayCounts;
use delays::Delays;

use crate::observed_file::{Arrival, FileFingerprint, ImageRecord, ObservedFile};
use coft_core::ids::ImageId;
use coft_core::shown::{shown_io, shown_path};
use nix::sys::statvfs::{FsFlags, statvfs};
use repair::Keeper;
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, OptionalExtension, params, params_from_iter};
use schema::VERSION;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};
use thiserror::Error;
use tokio::sync::{oneshot, watch};

#[derive(Debug, Error)]
pub enum CatalogError {
    #[error("the catalogue {} is damaged ({detail}); a new one takes its place", shown_path(path))]
    Damaged { path: PathBuf, detail: String },
    #[error(
        "the catalogue {} was written by a newer version of coft (format {found}, this one knows {VERSION}); upgrade coft",
        shown_path(path)
    )]
    Newer { path: PathBuf, found: i64 },
    #[error("the disk is full: the catalogue {} cannot be written; free some space", shown_path(path))]
    DiskFull { path: PathBuf },
    #[error("the catalogue {} cannot be written: {}", shown_path(path), shown_io(&ErrorKind::ReadOnlyFilesystem.into()))]
    ReadOnly { path: PathBuf },
    #[error("the catalogue {}: {source}", shown_path(path))]
    Sqlite { path: PathBuf, source: rusqlite::Error },
    #[error("the catalogue {}: {}", shown_path(path), shown_io(source))]
    Io { path: PathBuf, source: std::io::Error },
}

/// What happened to a file, to be stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    Image {
        observed: ObservedFile,
        record: ImageRecord,
        came: Arrival,
    },
    Quarantined {
        observed: ObservedFile,
        reason: String,
    },
    /// The file holds an image that is known.
    Seen {
        observed: ObservedFile,
        image: ImageId,
        came: Arrival,
    },
    /// The file or directory has a new name.
    Moved {
        source: PathBuf,
        from: PathBuf,
        to: PathBuf,
    },
    /// The file or directory does not exist any more: its entries in the quarantine are removed, its images stay as
    /// long as their pixels are kept.
    Gone {
        source: PathBuf,
        path: PathBuf,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Images that were ever taken in. The number never falls: schedules count new images by it.
    pub images: u64,
    pub quarantined: u64,
    /// Images and quarantined files of each source, also of sources that are not configured any more.
    pub sources: HashMap<PathBuf, (u64, u64)>,
}

/// The images that rounds choose from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// The images of the given sources whose canonical pixels are kept, the most recently taken in first.
    pub kept: Vec<ImageId>,
    /// Images that were ever taken in.
    pub all: u64,
}

/// Sends queries to the catalogue's thread.
#[derive(Clone, Debug)]
pub struct Catalog {
    path: PathBuf,
    jobs: mpsc::Sender<Job>,
    /// What happened to a damaged catalogue, once there was one.
    note: Arc<Mutex<Option<String>>>,
    /// The sources whose pictures need an answer.
    answering: Arc<[PathBuf]>,
    /// Grows each time when pictures arrive that need an answer.
    arrivals: Arc<watch::Sender<u64>>,
    delays: Arc<Delays>,
}

/// A query: sends its reply to the caller, and returns the damage that it found, if any.
type Job = Box<dyn FnOnce(&mut Connection) -> Option<String> + Send>;

impl Catalog {
    /// Opens the catalogue or creates a new one, and checks it. A damaged catalogue is moved aside and replaced by a
    /// new one, now and whenever damage is found later; [`Catalog::note`] then says so.
    ///
    /// # Errors
    /// The catalogue cannot be read or written, or a newer version has written it: then it is left untouched.
    pub fn open(path: &Path) -> Result<Self, CatalogError> {
        let (keeper, note) = Keeper::open(path)?;
        Arrival::after(keeper.latest().map_err(|error| refine(path, error))?);
        let (jobs, inbox) = mpsc::channel::<Job>();
        thread::Builder::new()
            .name("catalogue".into())
            .spawn(move || keeper.work(&inbox))
            .map_err(|source| CatalogError::Io { path: path.to_owned(), source })?;
        let arrivals = Arc::new(watch::channel(0).0);
        Ok(Self { path: path.to_owned(), jobs, note, answering: Arc::default(), arrivals, delays: Arc::default() })
    }

    /// What happened to a damaged catalogue since the service started; none if there was no damage.
    pub fn note(&self) -> Option<String> {
        self.note.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the file is unchanged since it was taken in or quarantined and, for an image, its pixels of this size
    /// are kept or were evicted. A file that had gone and is back is marked as present.
    pub async fn knows(&self, observed: &ObservedFile, canonical_px: u32) -> Result<bool, CatalogError> {
        let ObservedFile { source, path, fingerprint } = observed.clone();
        self.ask(move |db| {
            let (source, path) = (source.as_os_str().as_bytes(), path.as_os_str().as_bytes());
            let FileFingerprint { bytes, modified_ns, changed_ns } = fingerprint;
            let mut image = db.prepare_cached(
                "SELECT gone IS NOT NULL FROM paths JOIN images ON image = id
                 WHERE path = ?1 AND paths.source = ?2 AND paths.bytes = ?3 AND modified_ns = ?4 AND changed_ns = ?5
                 AND canonical_px IN (?6, 0)",
            )?;
            let as_it_was = params![path, source, bytes, modified_ns, changed_ns, canonical_px];
            if let Some(had_gone) = image.query_row(as_it_was, |row| row.get::<_, bool>(0)).optional()? {
                if had_gone {
                    db.execute("UPDATE paths SET gone = NULL WHERE path = ?1 AND source = ?2", [path, source])?;
                }
                return Ok(true);
            }
            db.prepare_cached(
                "SELECT 1 FROM quarantine
                 WHERE path = ?1 AND source = ?2 AND bytes = ?3 AND modified_ns = ?4 AND changed_ns = ?5",
            )?
            .exists(params![path, source, bytes, modified_ns, changed_ns])
        })
        .await
    }

    /// Writes entries, all of them or none.
    pub async fn record(&self, entries: Vec<Entry>) -> Result<(), CatalogError> {
        let (now, answering, arrivals) = (unix_time(), Arc::clone(&self.answering), Arc::clone(&self.arrivals));
        let delays = Arc::clone(&self.delays);
        self.ask(move |db| {
            let transaction = db.transaction()?;
            let mut owed = Vec::new();
            for entry in &entries {
                owed.extend(entries::record(&transaction, entry, now, &answering)?);
            }
            transaction.commit()?;
            if !owed.is_empty() {
                delays.come(&owed);
                arrivals.send_modify(|arrivals| *arrivals += 1);
            }
            Ok(())
        })
        .await
    }

    pub async fn counts(&self) -> Result<Counts, CatalogError> {
        self.ask(|db| {
            let images = db.query_row("SELECT images FROM totals", [], |row| row.get(0))?;
            let mut statement = db.prepare_cached("SELECT source, images, quarantined FROM sources")?;
            let sources = statement.query_map([], |row| Ok((path_of(row.get(0)?), (row.get(1)?, row.get(2)?))))?;
            let sources: HashMap<PathBuf, (u64, u64)> = sources.collect::<Result<_, _>>()?;
            Ok(Counts { images, quarantined: sources.values().map(|(_, quarantined)| quarantined).sum(), sources })
        })
        .await
    }

    /// The images of these sources with canonical pixels of this size: those that a file of the sources holds or was
    /// the last to hold. Images from a catalogue of version 1 whose source is unknown are among them.
    pub async fn pool(&self, canonical_px: u32, sources: &[PathBuf]) -> Result<Pool, CatalogError> {
        let mut parameters = vec![Value::from(canonical_px)];
        parameters.extend(sources.iter().map(|path| Value::Blob(path.as_os_str().as_bytes().to_vec())));
        self.ask(move |db| {
            let named: Vec<String> = (2..=parameters.len()).map(|number| format!("?{number}")).collect();
            let named = named.join(", ");
            let mut statement = db.prepare_cached(&format!(
                "SELECT id FROM images WHERE canonical_px = ?1
                 AND (images.source IS NULL OR images.source IN ({named})
                      OR EXISTS (SELECT 1 FROM paths WHERE image = id AND paths.source IN ({named})))
                 ORDER BY added DESC, id"
            ))?;
            let kept = statement.query_map(params_from_iter(parameters), |row| row.get(0).map(ImageId))?;
            let kept = kept.collect::<Result<_, _>>()?;
            let all = db.query_row("SELECT images FROM totals", [], |row| row.get(0))?;
            Ok(Pool { kept, all })
        })
        .await
    }

    /// The images that a file held last, even if the file has gone: that of the given source, otherwise one of each
    /// source that has the file.
    pub async fn images_at(&self, path: &Path, source: Option<&Path>) -> Result<Vec<ImageId>, CatalogError> {
        let bytes = |path: &Path| path.as_os_str().as_bytes().to_owned();
        let (path, source) = (bytes(path), source.map(bytes));
        self.ask(move |db| {
            let mut statement = db.prepare_cached(
                "SELECT image FROM paths WHERE path = ?1 AND source = coalesce(?2, source) ORDER BY source",
            )?;
            statement.query_map(params![path, source], |row| row.get(0).map(ImageId))?.collect()
        })
        .await
    }

    /// Records that the canonical pixels of these images are lost; their files are then taken in again.
    pub async fn pixels_lost(&self, images: Vec<ImageId>) -> Result<(), CatalogError> {
        self.ask(move |db| {
            let transaction = db.transaction()?;
            for image in &images {
                transaction
                    .execute("UPDATE images SET canonical_px = NULL WHERE id = ?1 AND canonical_px <> 0", [&image.0])?;
            }
            transaction.commit()
        })
        .await
    }

    /// If canonical pixels of this size are kept for more than `limit` images, evicts all images but the latest `most`
    /// and returns the evicted ones. Their records stay, so that their files are not taken in again. The caller has to
    /// remove the pixels. If an evicted image turns up in a new file, it is kept again, in its old place in the order.
    pub async fn evict(&self, canonical_px: u32, limit: u64, most: u64) -> Result<Vec<ImageId>, CatalogError> {
        self.ask(move |db| {
            let kept = "SELECT images FROM kept WHERE canonical_px = ?1";
            let kept: Option<u64> = db.query_row(kept, [canonical_px], |row| row.get(0)).optional()?;
            if kept.unwrap_or(0) <= limit {
                return Ok(Vec::new());
            }
            let mut statement = db.prepare_cached(
                "UPDATE images SET canonical_px = 0 WHERE id IN
                 (SELECT id FROM images WHERE canonical_px = ?1 ORDER BY added DESC, id LIMIT -1 OFFSET ?2)
                 RETURNING id",
            )?;
            statement.query_map(params![canonical_px, most], |row| row.get(0).map(ImageId))?.collect()
        })
        .await
    }

    /// Those of the images that were evicted.
    pub async fn evict_among(&self, images: Vec<ImageId>) -> Result<Vec<ImageId>, CatalogError> {
        self.ask(move |db| {
            let mut statement = db.prepare_cached("SELECT 1 FROM images WHERE id = ?1 AND canonical_px = 0")?;
            let mut found = Vec::new();
            for image in images {
                if statement.exists([&image.0])? {
                    found.push(image);
                }
            }
            Ok(found)
        })
        .await
    }

    /// Marks every quarantined file as changed, so that it is looked at again: the cause may have been the service's
    /// settings or permissions.
    pub async fn doubt_quarantine(&self) -> Result<(), CatalogError> {
        self.ask(|db| db.execute("UPDATE quarantine SET changed_ns = 0 WHERE changed_ns <> 0", []).map(drop)).await
    }

    /// The quarantined files, with what is wrong with each.
    #[cfg(test)]
    pub async fn quarantine(&self) -> Result<Vec<(PathBuf, String)>, CatalogError> {
        self.ask(|db| {
            let mut statement = db.prepare_cached("SELECT path, reason FROM quarantine ORDER BY path")?;
            let rows = statement.query_map([], |row| Ok((path_of(row.get(0)?), row.get(1)?)))?;
            rows.collect()
        })
        .await
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, CatalogError> {
        let (reply, answer) = oneshot::channel();
        let job = move |connection: &mut Connection| {
            let answer = question(connection);
            let damage = answer.as_ref().err().filter(|error| is_damage(error)).map(ToString::to_string);
            // The caller may have gone; the work is done all the same.
            let _ = reply.send(answer);
            damage
        };
        self.jobs.send(Box::new(job)).expect("the owner lives as long as a Catalog does");
        let answer = answer.await.expect("a question does not panic");
        answer.map_err(|error| refine(&self.path, error))
    }
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn refine(path: &Path, error: rusqlite::Error) -> CatalogError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        _ if is_damage(&error) => CatalogError::Damaged { path, detail: error.to_string() },
        Some(ErrorCode::DiskFull) => CatalogError::DiskFull { path },
        Some(ErrorCode::ReadOnly) => CatalogError::ReadOnly { path },
        // SQLite cannot create the log that it keeps beside a database.
        Some(ErrorCode::CannotOpen) if is_on_read_only_disk(&path) => CatalogError::ReadOnly { path },
        _ => CatalogError::Sqlite { path, source: error },
    }
}

fn is_on_read_only_disk(path: &Path) -> bool {
    let disk = path.parent().and_then(|dir| statvfs(dir).ok());
    disk.is_some_and(|disk| disk.flags().contains(FsFlags::ST_RDONLY))
}

fn path_of(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(&bytes))
}

fn unix_time() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

#[cfg(test)]
mod tests;
