//! What is written down of files, and what is forgotten again.
//!
//! An image's record is needed while its pixels are kept, since rounds choose from these, or while a file holds it,
//! since that file is not taken in again. It is forgotten when neither is so any more. What has gone is given a day: a
//! directory that is moved goes before it comes, and a disk may be put back.

use super::{Catalog, CatalogError, Entry, answers, known, unix_time};
use crate::sighting::{Came, ImageRecord, Sighting, Stamp};
use coft_core::ids::ImageId;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// How long the record of a file that has gone stays, s. One day [choice].
const GRACE_SECONDS: i64 = 24 * 60 * 60;
/// Most files that one call of [`Catalog::prune`] forgets: others wait for the catalogue meanwhile. 1000 [choice].
const MOST_PRUNED: usize = 1000;

impl Catalog {
    /// Forgets files that have gone a day ago, and images that no file holds any more and whose pixels are not kept. Of
    /// an image whose pixels are kept the file that had it last stays: labels may name it. Tells whether there is more
    /// to forget, which is for the next call.
    pub async fn prune(&self) -> Result<bool, CatalogError> {
        let now = unix_time();
        self.ask(move |db| {
            let transaction = db.transaction()?;
            let forgotten = prune(&transaction, now)?;
            transaction.commit()?;
            Ok(forgotten == MOST_PRUNED)
        })
        .await
    }

    /// Forgets those of the images that no file has held since they were overwritten, and whose pixels were let go.
    pub async fn forget_overwritten(&self, images: Vec<ImageId>) -> Result<(), CatalogError> {
        self.ask(move |db| {
            let transaction = db.transaction()?;
            for image in &images {
                forget(&transaction, &image.0)?;
            }
            transaction.commit()
        })
        .await
    }
}

/// Writes an entry down; `now` is the Unix time, s. A picture that has come and is owed an answer, as is so in the sources
/// of `answering`, is what it returns.
pub fn record(db: &Transaction<'_>, entry: &Entry, now: i64, answering: &[PathBuf]) -> rusqlite::Result<Option<Came>> {
    match entry {
        Entry::Image { sighting: Sighting { source, path, stamp }, record, came } => {
            let ImageRecord { id, width_px, height_px, bytes, canonical_px } = record;
            let is_owed = answering.contains(source);
            let (path, source) = (path.as_os_str().as_bytes(), source.as_os_str().as_bytes());
            let is_owed = is_owed && !answers::has_come(db, source, &id.0, stamp.modified_ns)?;
            db.prepare_cached(
                "INSERT INTO images (id, width_px, height_px, bytes, added, canonical_px, source)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 ON CONFLICT (id) DO UPDATE SET canonical_px = excluded.canonical_px, source = excluded.source",
            )?
            .execute(params![id.0, width_px, height_px, bytes, came.order, canonical_px, source])?;
            let before: Option<String> = db
                .prepare_cached("DELETE FROM paths WHERE path = ?1 AND source = ?2 RETURNING image")?
                .query_row([path, source], |row| row.get(0))
                .optional()?;
            let Stamp { bytes, modified_ns, changed_ns } = stamp;
            db.prepare_cached(
                "INSERT INTO paths (path, source, image, bytes, modified_ns, changed_ns)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![path, source, id.0, bytes, modified_ns, changed_ns])?;
            if let Some(before) = before.filter(|before| *before != id.0) {
                forget(db, &before)?;
            }
            db.prepare_cached("DELETE FROM quarantine WHERE path = ?1 AND source = ?2")?.execute([path, source])?;
            if is_owed {
                answers::arrived(db, source, &id.0, path, came)?;
            }
            return Ok(is_owed.then_some(*came));
        }
        Entry::Quarantined { sighting: Sighting { source, path, stamp }, reason } => {
            let (path, source) = (path.as_os_str().as_bytes(), source.as_os_str().as_bytes());
            let Stamp { bytes, modified_ns, changed_ns } = stamp;
            db.prepare_cached("DELETE FROM quarantine WHERE path = ?1 AND source = ?2")?.execute([path, source])?;
            db.prepare_cached("INSERT INTO quarantine VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?.execute(params![
                path,
                source,
                reason,
                now,
                bytes,
                modified_ns,
                changed_ns
            ])?;
        }
        Entry::Seen { sighting, image, came } => {
            let is_owed = known::seen(db, sighting, image, answering.contains(&sighting.source).then_some(came))?;
            return Ok(is_owed.then_some(*came));
        }
        Entry::Moved { source, from, to } => known::moved(db, source, from, to)?,
        Entry::Gone { source, path } => {
            let (source, path) = (source.as_os_str().as_bytes(), path.as_os_str().as_bytes());
            // Everything that begins with "path/" sorts before "path0", the next byte.
            let (first, end) = ([path, b"/"].concat(), [path, b"0"].concat());
            for condition in ["path = ?1", "path > ?2 AND path < ?3"] {
                // Each alone is a search by the key.
                db.prepare_cached(&format!("DELETE FROM quarantine WHERE {condition} AND source = ?4"))?
                    .execute(params![path, first, end, source])?;
                db.prepare_cached(&format!(
                    "UPDATE paths SET gone = ?5 WHERE {condition} AND source = ?4 AND gone IS NULL"
                ))?
                .execute(params![path, first, end, source, now])?;
            }
        }
    }
    Ok(None)
}

fn prune(db: &Transaction<'_>, now: i64) -> rusqlite::Result<usize> {
    // A time in the future means that the clock was wrong: nobody knows when that was.
    let mut statement = db.prepare_cached(
        "SELECT path, this.source, image FROM paths AS this JOIN images ON image = id
         WHERE (gone < ?1 OR gone > ?2)
         AND (coalesce(canonical_px, 0) = 0
              OR EXISTS (SELECT 1 FROM paths AS other
                         WHERE other.image = this.image AND (other.path, other.source) <> (this.path, this.source)
                         AND (other.gone IS NULL
                              OR (other.gone, other.path, other.source) > (this.gone, this.path, this.source))))
         LIMIT ?3",
    )?;
    let limits = params![now - GRACE_SECONDS, now, MOST_PRUNED as i64];
    let gone = statement.query_map(limits, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let gone: Vec<(Vec<u8>, Vec<u8>, String)> = gone.collect::<Result<_, _>>()?;
    for (path, source, image) in &gone {
        db.prepare_cached("DELETE FROM paths WHERE path = ?1 AND source = ?2")?.execute([path, source])?;
        forget(db, image)?;
    }
    Ok(gone.len())
}

/// Removes an image that nobody needs: its pixels are not kept, and no file has it or had it last.
pub fn forget(db: &Connection, image: &str) -> rusqlite::Result<()> {
    db.prepare_cached(
        "DELETE FROM images WHERE id = ?1 AND coalesce(canonical_px, 0) = 0
         AND NOT EXISTS (SELECT 1 FROM paths WHERE image = ?1)",
    )?
    .execute([image])
    .map(drop)
}
