//! Deletes records of files and images that are not needed any more.
//!
//! An image's record is needed while its pixels are kept, since rounds choose from these, or while a file holds the
//! image, so that the file is not taken in again. Otherwise the record is deleted. The record of a file that has gone
//! stays for a day: the old name of a moved directory goes before the new name appears, and a disk may be attached
//! again.

use super::{Catalog, CatalogError, unix_time};
use coft_core::ids::ImageId;
use rusqlite::{Connection, Transaction, params};

/// How long the record of a file that has gone stays, s. One day [choice].
const GRACE_SECONDS: i64 = 24 * 60 * 60;
/// Maximum number of files that one call of [`Catalog::prune`] deletes: other queries wait meanwhile. 1000 [choice].
const MOST_PRUNED: usize = 1000;

impl Catalog {
    /// Deletes the records of files that went more than a day ago, and of images that no file holds and whose pixels
    /// are not kept. For an image whose pixels are kept, the record of the file that held it last stays: labels may
    /// name it. Returns whether there is more to delete, which is left to the next call.
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

    /// Deletes those of the images that no file holds since they were overwritten, and whose pixels were evicted.
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

fn prune(db: &Transaction<'_>, now: i64) -> rusqlite::Result<usize> {
    // A time in the future means that the clock was wrong: nobody knows when the file went.
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

/// Deletes an image that is not needed: its pixels are not kept, and no file holds it or held it last.
pub fn forget(db: &Connection, image: &str) -> rusqlite::Result<()> {
    db.prepare_cached(
        "DELETE FROM images WHERE id = ?1 AND coalesce(canonical_px, 0) = 0
         AND NOT EXISTS (SELECT 1 FROM paths WHERE image = ?1)",
    )?
    .execute([image])
    .map(drop)
}
