//! The catalogue: images by content, the files they were seen in, the quarantine ledger and the history of rounds.
//!
//! One thread owns the database; everybody else holds a [`Catalog`] and waits for answers. Nothing here opens an image.

mod known;
mod repair;
mod rounds;

use crate::sighting::{ImageRecord, Sighting, Stamp};
use coft_core::ids::ImageId;
use repair::Keeper;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, params};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};
use thiserror::Error;
use tokio::sync::oneshot;

const SCHEMA: &str = include_str!("catalog.sql");
const VERSION: i64 = 1;

#[derive(Debug, Error)]
pub enum CatalogError {
    #[error("the catalogue {} is damaged ({detail}); a new one takes its place", path.display())]
    Damaged { path: PathBuf, detail: String },
    #[error("the catalogue {} was written by a newer version of coft (format {found}, this one knows {VERSION}); upgrade coft", path.display())]
    Newer { path: PathBuf, found: i64 },
    #[error("the disk is full: the catalogue {} cannot be written; free some space", path.display())]
    DiskFull { path: PathBuf },
    #[error("the catalogue {}: {source}", path.display())]
    Sqlite { path: PathBuf, source: rusqlite::Error },
    #[error("the catalogue {}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
}

/// What became of a file, to be written down.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    Image {
        sighting: Sighting,
        record: ImageRecord,
    },
    Quarantined {
        sighting: Sighting,
        reason: String,
    },
    /// The file holds an image that is known.
    Seen {
        sighting: Sighting,
        image: ImageId,
    },
    /// The file or directory has another name now.
    Moved {
        from: PathBuf,
        to: PathBuf,
    },
    /// The file or directory is not there any more: what was wrong with it does not matter, its images stay.
    Gone(PathBuf),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Images that were ever taken in.
    pub images: u64,
    pub quarantined: u64,
    /// Images and quarantined files of each source.
    pub sources: HashMap<PathBuf, (u64, u64)>,
}

/// What rounds choose from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// The images whose canonical pixels are kept, the latest taken in first.
    pub kept: Vec<ImageId>,
    /// Images that were ever taken in.
    pub all: u64,
}

/// The way to ask the catalogue.
#[derive(Clone)]
pub struct Catalog {
    path: PathBuf,
    jobs: mpsc::Sender<Job>,
    /// What became of a damaged catalogue, once there was one.
    note: Arc<Mutex<Option<String>>>,
}

/// Answers whoever asked, and tells of damage that it met.
type Job = Box<dyn FnOnce(&mut Connection) -> Option<String> + Send>;

impl Catalog {
    /// Opens the catalogue or makes a new one, and checks it. A damaged one is moved aside, now and whenever damage is
    /// met later, and a new one takes its place; [`Catalog::note`] tells of it.
    ///
    /// # Errors
    /// The catalogue cannot be read or written, or a newer version has written it: then nothing is touched.
    pub fn open(path: &Path) -> Result<Self, CatalogError> {
        let (keeper, note) = Keeper::open(path)?;
        let (jobs, inbox) = mpsc::channel::<Job>();
        thread::Builder::new()
            .name("catalogue".into())
            .spawn(move || keeper.work(&inbox))
            .map_err(|source| CatalogError::Io { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), jobs, note })
    }

    /// What became of a damaged catalogue since the service started; none where there was no damage.
    pub fn note(&self) -> Option<String> {
        self.note.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the file is as it was when it was taken in or quarantined, and, for an image, its pixels of this size are
    /// kept or were let go.
    pub async fn knows(&self, sighting: &Sighting, canonical_px: u32) -> Result<bool, CatalogError> {
        let (path, stamp) = (sighting.path.clone(), sighting.stamp);
        self.ask(move |db| {
            let path = path.as_os_str().as_bytes();
            let mut image = db.prepare_cached(
                "SELECT 1 FROM paths JOIN images ON image = id WHERE path = ?1 AND paths.bytes = ?2
                 AND modified_ns = ?3 AND changed_ns = ?4 AND canonical_px IN (?5, 0)",
            )?;
            let Stamp { bytes, modified_ns, changed_ns } = stamp;
            if image.exists(params![path, bytes, modified_ns, changed_ns, canonical_px])? {
                return Ok(true);
            }
            db.prepare_cached(
                "SELECT 1 FROM quarantine WHERE path = ?1 AND bytes = ?2 AND modified_ns = ?3 AND changed_ns = ?4",
            )?
            .exists(params![path, bytes, modified_ns, changed_ns])
        })
        .await
    }

    /// Writes entries down, all of them or none.
    pub async fn record(&self, entries: Vec<Entry>) -> Result<(), CatalogError> {
        let now = unix_time();
        self.ask(move |db| {
            let transaction = db.transaction()?;
            // The order in which images came is kept within a second, too, and where the clock goes back, as without a battery it
            // does at each start.
            let last: Option<i64> = transaction.query_row("SELECT max(added) FROM images", [], |row| row.get(0))?;
            let now = last.filter(|last| *last >= now).map_or(now, |last| last + 1);
            for entry in &entries {
                record(&transaction, entry, now)?;
            }
            transaction.commit()
        })
        .await
    }

    pub async fn counts(&self) -> Result<Counts, CatalogError> {
        self.ask(|db| {
            let count = |sql: &str| db.query_row(sql, [], |row| row.get(0));
            let mut counts = Counts {
                images: count("SELECT count(*) FROM images")?,
                quarantined: count("SELECT count(*) FROM quarantine")?,
                sources: HashMap::new(),
            };
            let mut grouped = |sql: &str, set: fn(&mut (u64, u64), u64)| -> rusqlite::Result<()> {
                let mut statement = db.prepare_cached(sql)?;
                let mut rows = statement.query([])?;
                while let Some(row) = rows.next()? {
                    set(counts.sources.entry(path_of(row.get(0)?)).or_default(), row.get(1)?);
                }
                Ok(())
            };
            grouped("SELECT source, count(DISTINCT image) FROM paths GROUP BY source", |counts, n| counts.0 = n)?;
            grouped("SELECT source, count(*) FROM quarantine GROUP BY source", |counts, n| counts.1 = n)?;
            Ok(counts)
        })
        .await
    }

    /// The images with canonical pixels of this size.
    pub async fn pool(&self, canonical_px: u32) -> Result<Pool, CatalogError> {
        self.ask(move |db| {
            let mut statement =
                db.prepare_cached("SELECT id FROM images WHERE canonical_px = ?1 ORDER BY added DESC, id")?;
            let kept = statement.query_map([canonical_px], |row| row.get(0).map(ImageId))?.collect::<Result<_, _>>()?;
            let all = db.query_row("SELECT count(*) FROM images", [], |row| row.get(0))?;
            Ok(Pool { kept, all })
        })
        .await
    }

    /// The image that was last seen in a file, which may have gone.
    pub async fn image_at(&self, path: &Path) -> Result<Option<ImageId>, CatalogError> {
        let path = path.as_os_str().as_bytes().to_owned();
        self.ask(move |db| {
            let mut statement = db.prepare_cached("SELECT image FROM paths WHERE path = ?1")?;
            statement.query_row([path], |row| row.get(0).map(ImageId)).optional()
        })
        .await
    }

    /// Takes note that the canonical pixels of these images are lost; their files are then taken in again.
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

    /// Where the canonical pixels of this size of more than `limit` images are kept, lets go of all but the latest `most`, and
    /// tells which: their records stay, their files are not taken in again. It is for the caller to remove the pixels. An image
    /// that turns up in a new file is kept again, in its old place among the others.
    pub async fn let_go(&self, canonical_px: u32, limit: u64, most: u64) -> Result<Vec<ImageId>, CatalogError> {
        self.ask(move |db| {
            let kept = "SELECT count(*) FROM images WHERE canonical_px = ?1";
            if db.query_row(kept, [canonical_px], |row| row.get::<_, u64>(0))? <= limit {
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

    /// Those of the images that were let go.
    pub async fn let_go_among(&self, images: Vec<ImageId>) -> Result<Vec<ImageId>, CatalogError> {
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

    /// Lets every quarantined file count as changed, so that it is looked at again: what was wrong may have been the service's
    /// settings or rights.
    pub async fn doubt_quarantine(&self) -> Result<(), CatalogError> {
        self.ask(|db| db.execute("UPDATE quarantine SET changed_ns = 0", []).map(drop)).await
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
            // Whoever asked may have gone; the work is done all the same.
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

fn open(path: &Path) -> rusqlite::Result<Result<Connection, CatalogError>> {
    let db = Connection::open(path)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "foreign_keys", true)?;
    // A word of another version is no damage.
    db.pragma_update(None, "ignore_check_constraints", true)?;
    let detail: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if detail != "ok" {
        return Ok(Err(CatalogError::Damaged { path: path.to_owned(), detail }));
    }
    let found: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match found {
        0 => db.execute_batch(&format!("BEGIN;\n{SCHEMA}\nCOMMIT;"))?,
        VERSION => {}
        found => return Ok(Err(CatalogError::Newer { path: path.to_owned(), found })),
    }
    rounds::add_columns(&db)?;
    Ok(Ok(db))
}

fn refine(path: &Path, error: rusqlite::Error) -> CatalogError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        _ if is_damage(&error) => CatalogError::Damaged { path, detail: error.to_string() },
        Some(ErrorCode::DiskFull) => CatalogError::DiskFull { path },
        _ => CatalogError::Sqlite { path, source: error },
    }
}

fn record(db: &Transaction<'_>, entry: &Entry, now: i64) -> rusqlite::Result<()> {
    match entry {
        Entry::Image { sighting, record } => {
            let ImageRecord { id, width_px, height_px, bytes, canonical_px } = record;
            db.prepare_cached(
                "INSERT INTO images VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (id) DO UPDATE SET canonical_px = excluded.canonical_px",
            )?
            .execute(params![id.0, width_px, height_px, bytes, now, canonical_px])?;
            let Sighting { source, path, stamp } = sighting;
            let (path, source) = (path.as_os_str().as_bytes(), source.as_os_str().as_bytes());
            db.prepare_cached("INSERT OR REPLACE INTO paths VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(params![
                path,
                source,
                id.0,
                stamp.bytes,
                stamp.modified_ns,
                stamp.changed_ns
            ])?;
            db.prepare_cached("DELETE FROM quarantine WHERE path = ?1")?.execute([path])?;
        }
        Entry::Quarantined { sighting, reason } => {
            let Sighting { source, path, stamp } = sighting;
            let (path, source) = (path.as_os_str().as_bytes(), source.as_os_str().as_bytes());
            db.prepare_cached("INSERT OR REPLACE INTO quarantine VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
                .execute(params![path, source, reason, now, stamp.bytes, stamp.modified_ns, stamp.changed_ns])?;
        }
        Entry::Seen { sighting, image } => known::seen(db, sighting, image)?,
        Entry::Moved { from, to } => known::moved(db, from, to)?,
        Entry::Gone(path) => {
            let path = path.as_os_str().as_bytes();
            let below = [path, b"/"].concat();
            db.prepare_cached("DELETE FROM quarantine WHERE path = ?1 OR substr(path, 1, ?3) = ?2")?
                .execute(params![path, below, below.len() as i64])?;
        }
    }
    Ok(())
}

fn path_of(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(&bytes))
}

fn unix_time() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

#[cfg(test)]
mod tests;
