//! Stores what happened to files.

use super::forgotten::forget;
use super::{Entry, answers, known};
use crate::observed_file::{Arrival, FileFingerprint, ImageRecord, ObservedFile};
use rusqlite::{OptionalExtension, Transaction, params};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Stores an entry; `now` is the Unix time, s. Returns the arrival of a new picture that needs an answer, as all
/// pictures in the sources of `answering` do.
pub fn record(
    db: &Transaction<'_>,
    entry: &Entry,
    now: i64,
    answering: &[PathBuf],
) -> rusqlite::Result<Option<Arrival>> {
    match entry {
        Entry::Image { observed: ObservedFile { source, path, fingerprint }, record, came } => {
            let ImageRecord { id, width_px, height_px, bytes, canonical_px } = record;
            let is_owed = answering.contains(source);
            let (path, source) = (path.as_os_str().as_bytes(), source.as_os_str().as_bytes());
            let is_owed = is_owed && !answers::has_come(db, source, &id.0, fingerprint.modified_ns)?;
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
            let FileFingerprint { bytes, modified_ns, changed_ns } = fingerprint;
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
        Entry::Quarantined { observed: ObservedFile { source, path, fingerprint }, reason } => {
            let (path, source) = (path.as_os_str().as_bytes(), source.as_os_str().as_bytes());
            let FileFingerprint { bytes, modified_ns, changed_ns } = fingerprint;
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
        Entry::Seen { observed, image, came } => {
            let is_owed = known::seen(db, observed, image, answering.contains(&observed.source).then_some(came))?;
            return Ok(is_owed.then_some(*came));
        }
        Entry::Moved { source, from, to } => known::moved(db, source, from, to)?,
        Entry::Gone { source, path } => {
            let (source, path) = (source.as_os_str().as_bytes(), path.as_os_str().as_bytes());
            // The byte after `/` is `0`: all paths that begin with "path/" sort before "path0".
            let (first, end) = ([path, b"/"].concat(), [path, b"0"].concat());
            for condition in ["path = ?1", "path > ?2 AND path < ?3"] {
                // Each condition alone is a search by the key.
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
