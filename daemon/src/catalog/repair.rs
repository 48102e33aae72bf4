//! A damaged catalogue is moved aside, and a new one takes its place: no damage of the catalogue stops the service.
//!
//! The files of the damaged catalogue are kept beside the new one. The history of rounds is copied to the new one if it
//! can still be read; images are taken in anew, because a scan reports every file of every source.

use super::schema::{self, VERSION, open};
use super::{CatalogError, Job, refine, unix_time};
use crate::telemetry::events;
use coft_core::shown::shown_path;
use rusqlite::{Connection, OpenFlags, params};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use tracing::error;

/// Maximum number of damaged catalogues that are kept, the latest ones. 3 [choice].
const KEPT: usize = 3;
/// Suffix of the catalogue's file name; the Unix time, s, follows it.
const DAMAGED: &str = ".damaged-";
/// Suffixes of the files that SQLite keeps beside a database. The log is moved first: a log that is left behind must
/// never meet a new database.
const BESIDE: [&str; 2] = ["-wal", "-shm"];

/// Owns the database, and replaces it when it is damaged.
pub(super) struct Keeper {
    path: PathBuf,
    connection: Connection,
    /// The damage of a catalogue that could not be replaced yet.
    damage: Option<String>,
    note: Note,
}

/// What happened to a damaged catalogue, once one has been replaced.
pub(super) type Note = Arc<Mutex<Option<String>>>;

impl Keeper {
    /// Opens the catalogue. The second value gets a note of what happened to a damaged catalogue, now or later.
    pub fn open(path: &Path) -> Result<(Self, Note), CatalogError> {
        let (connection, told) = open_whole(path, unix_time())?;
        let note = Arc::new(Mutex::new(None));
        let keeper = Self { path: path.to_owned(), connection, damage: None, note: Arc::clone(&note) };
        told.into_iter().for_each(|told| keeper.tell(told));
        Ok((keeper, note))
    }

    /// The largest order of a picture in the catalogue (`Arrival::order`), 0 before the first.
    pub fn latest(&self) -> rusqlite::Result<i64> {
        let latest = "SELECT max(added, (SELECT coalesce(max(arrival), 0) FROM observed)) FROM totals";
        self.connection.query_row(latest, [], |row| row.get(0))
    }

    /// Answers queries until nobody can ask any more.
    pub fn work(mut self, jobs: &mpsc::Receiver<Job>) {
        for job in jobs {
            if self.damage.is_some() {
                // May fail again, for example because the disk is full.
                let _ = self.mend();
            }
            let Some(damage) = job(&mut self.connection) else { continue };
            self.damage = Some(damage);
            if let Err(error) = self.mend() {
                error!(problem = %error, "the damaged catalogue cannot be replaced, trying again until it can: {error}");
            }
        }
    }

    fn mend(&mut self) -> Result<(), CatalogError> {
        let Some(damage) = &self.damage else { return Ok(()) };
        // Closes the damaged database. Until the new one is open, an empty database in memory answers every query with
        // an error.
        self.connection = Connection::open_in_memory().map_err(|error| refine(&self.path, error))?;
        let (connection, told) = replace(&self.path, damage, unix_time())?;
        (self.connection, self.damage) = (connection, None);
        self.tell(told);
        Ok(())
    }

    fn tell(&self, told: String) {
        error!(message_id = events::CATALOG_REBUILT, problem = told, "{told}");
        *self.note.lock().unwrap_or_else(PoisonError::into_inner) = Some(told);
    }
}

/// Opens the catalogue. If it is damaged, replaces it by a new one and returns what happened to the old one.
///
/// # Errors
/// Only for what is no damage: the catalogue cannot be read or written, or a newer version has written it.
fn open_whole(path: &Path, now: i64) -> Result<(Connection, Option<String>), CatalogError> {
    let found = version(path);
    if let Some(found) = found.filter(|found| *found > VERSION) {
        return Err(CatalogError::Newer { path: path.to_owned(), found });
    }
    let opened = open(path).map_err(|error| refine(path, error)).flatten();
    match opened.and_then(|db| has_tables(path, &db).map(|()| db)) {
        Ok(db) => Ok((db, None)),
        Err(CatalogError::Damaged { detail, .. }) => replace(path, &detail, now).map(|(db, note)| (db, Some(note))),
        Err(error) => Err(error),
    }
}

/// The version of a catalogue, read without write access; none if it cannot be read.
fn version(path: &Path) -> Option<i64> {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    db.query_row("PRAGMA user_version", [], |row| row.get(0)).ok()
}

/// Moves the damaged catalogue aside and opens a new one. Nobody may have the damaged one open.
fn replace(path: &Path, detail: &str, now: i64) -> Result<(Connection, String), CatalogError> {
    let failed = |source| CatalogError::Io { path: path.to_owned(), source };
    let aside = move_aside(path, now).map_err(failed)?;
    let db = open(path).map_err(|error| refine(path, error)).flatten()?;
    let history = match take_over_jobs(&db, &aside) {
        Ok(jobs) => format!("{jobs} jobs of the history were kept"),
        Err(_) => "the history of jobs is lost".to_owned(),
    };
    // Clients know an answer by its number, so a new answer must not get a number that was used before.
    let _ = take_over_sequences(&db, &aside);
    let note = format!(
        "the catalogue {} was damaged ({detail}): it is kept as {}, and a new one takes its place; images are taken in anew, \
         {history}",
        shown_path(path),
        shown_path(&aside)
    );
    Ok((db, note))
}

/// Checks the tables, because an empty file or a database without its tables opens without an error.
fn has_tables(path: &Path, db: &Connection) -> Result<(), CatalogError> {
    let names = |db: &Connection| -> rusqlite::Result<BTreeSet<String>> {
        let mut statement = db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?;
        statement.query_map([], |row| row.get(0))?.collect()
    };
    let wanted = schema::empty().and_then(|new| names(&new));
    let found = names(db).map_err(|error| refine(path, error))?;
    match wanted.map_err(|error| refine(path, error))?.difference(&found).next() {
        Some(name) => {
            Err(CatalogError::Damaged { path: path.to_owned(), detail: format!("the table {name} is missing") })
        }
        None => Ok(()),
    }
}

fn move_aside(path: &Path, now: i64) -> io::Result<PathBuf> {
    let mut aside = with_suffix(path, format!("{DAMAGED}{now}"));
    for later in now.. {
        if !aside.try_exists()? {
            break;
        }
        aside = with_suffix(path, format!("{DAMAGED}{}", later.saturating_add(1)));
    }
    for name in BESIDE {
        match fs::rename(with_suffix(path, name), with_suffix(&aside, name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    match fs::rename(path, &aside) {
        // The file was moved by an earlier attempt, which then failed to create a new one.
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    File::open(directory(path))?.sync_all()?;
    // More damaged catalogues than wanted do no harm.
    let _ = remove_oldest(path);
    Ok(aside)
}

fn remove_oldest(path: &Path) -> io::Result<()> {
    let prefix = with_suffix(path, DAMAGED);
    let prefix = prefix.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let mut times = Vec::new();
    for entry in fs::read_dir(directory(path))? {
        let name = entry?.file_name();
        times.extend(name.to_str().and_then(|name| name.strip_prefix(prefix)?.parse::<i64>().ok()));
    }
    times.sort_unstable();
    for time in times.iter().rev().skip(KEPT) {
        let old = with_suffix(path, format!("{DAMAGED}{time}"));
        for file in BESIDE.iter().map(|name| with_suffix(&old, name)).chain([old.clone()]) {
            let _ = fs::remove_file(file);
        }
    }
    Ok(())
}

/// Copies the history of rounds from the damaged catalogue; returns the number of rounds.
fn take_over_jobs(db: &Connection, damaged: &Path) -> rusqlite::Result<usize> {
    if !damaged.is_file() {
        return Err(rusqlite::Error::QueryReturnedNoRows); // ATTACH would create the file
    }
    db.execute("ATTACH DATABASE ?1 AS damaged", params![damaged.to_string_lossy()])?;
    // The damaged catalogue may be of an earlier version, with fewer columns.
    let common = "SELECT group_concat(name) FROM pragma_table_info('rounds', 'main')
                  WHERE name IN (SELECT name FROM pragma_table_info('rounds', 'damaged'))";
    let copied = db.query_row(common, [], |row| row.get::<_, Option<String>>(0)).and_then(|columns| {
        let columns = columns.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        let copy = format!("INSERT INTO main.rounds ({columns}) SELECT {columns} FROM damaged.rounds ORDER BY round");
        db.execute(&copy, [])
    });
    db.execute("DETACH DATABASE damaged", [])?;
    copied
}

/// Continues the sequence numbers of the damaged catalogue's answers. A catalogue of an early version has none.
fn take_over_sequences(db: &Connection, damaged: &Path) -> rusqlite::Result<()> {
    if !damaged.is_file() {
        return Ok(()); // ATTACH would create the file
    }
    db.execute("ATTACH DATABASE ?1 AS damaged", params![damaged.to_string_lossy()])?;
    let copied = db.execute(
        "INSERT INTO main.observed (source, arrival, sequence, waiting, since)
         SELECT source, arrival, sequence, 0, 0 FROM damaged.observed",
        [],
    );
    db.execute("DETACH DATABASE damaged", [])?;
    copied.map(drop)
}

fn with_suffix(path: &Path, suffix: impl AsRef<OsStr>) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn directory(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}
