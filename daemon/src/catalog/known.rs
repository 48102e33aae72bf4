//! Files whose content is known: files with another name, other permissions or another date.

use super::forgotten::forget;
use super::{Catalog, CatalogError, answers, path_of};
use crate::observed_file::{Arrival, FileFingerprint, ObservedFile};
use coft_core::ids::ImageId;
use rusqlite::{OptionalExtension, Row, Transaction, params};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

impl Catalog {
    /// Short side of the canonical pixels that are kept of an image, px; 0 if they were evicted, none if the image is
    /// unknown or its pixels are lost.
    pub async fn canonical_px(&self, image: &ImageId) -> Result<Option<u32>, CatalogError> {
        let image = image.clone();
        self.ask(move |db| {
            let mut statement = db.prepare_cached("SELECT canonical_px FROM images WHERE id = ?1")?;
            Ok(statement.query_row([&image.0], |row| row.get(0)).optional()?.flatten())
        })
        .await
    }

    /// The files that hold each of the images, as far as is known.
    pub async fn files(&self, images: Vec<ImageId>) -> Result<Vec<Vec<ObservedFile>>, CatalogError> {
        self.ask(move |db| {
            let mut statement = db.prepare_cached(
                "SELECT path, source, bytes, modified_ns, changed_ns FROM paths
                 WHERE image = ?1 AND gone IS NULL ORDER BY path",
            )?;
            let mut files = Vec::with_capacity(images.len());
            for image in &images {
                let file = |row: &Row| {
                    let fingerprint =
                        FileFingerprint { bytes: row.get(2)?, modified_ns: row.get(3)?, changed_ns: row.get(4)? };
                    Ok(ObservedFile { path: path_of(row.get(0)?), source: path_of(row.get(1)?), fingerprint })
                };
                files.push(statement.query_map([&image.0], file)?.collect::<Result<_, _>>()?);
            }
            Ok(files)
        })
        .await
    }

    /// The quarantined files of a source.
    pub async fn quarantined_in(&self, source: &Path) -> Result<Vec<PathBuf>, CatalogError> {
        let source = source.as_os_str().as_bytes().to_owned();
        self.ask(move |db| {
            let mut statement = db.prepare_cached("SELECT path FROM quarantine WHERE source = ?1")?;
            statement.query_map([source], |row| Ok(path_of(row.get(0)?)))?.collect()
        })
        .await
    }
}

/// Records that a file holds a known image, unless the image was forgotten meanwhile. Returns whether the file is a new
/// picture that needs an answer; this is false without `owed`.
pub fn seen(
    db: &Transaction<'_>,
    observed: &ObservedFile,
    image: &ImageId,
    owed: Option<&Arrival>,
) -> rusqlite::Result<bool> {
    let ObservedFile { source, path, fingerprint: FileFingerprint { bytes, modified_ns, changed_ns } } = observed;
    let (path, source) = (path.as_os_str().as_bytes(), source.as_os_str().as_bytes());
    let has_come = answers::has_come(db, source, &image.0, *modified_ns)?;
    db.prepare_cached("DELETE FROM quarantine WHERE path = ?1 AND source = ?2")?.execute([path, source])?;
    let mut delete = db.prepare_cached("DELETE FROM paths WHERE path = ?1 AND source = ?2 RETURNING image")?;
    let before: Option<String> = delete.query_row([path, source], |row| row.get(0)).optional()?;
    let written = db
        .prepare_cached(
            "INSERT INTO paths (path, source, image, bytes, modified_ns, changed_ns)
             SELECT ?1, ?2, id, ?4, ?5, ?6 FROM images WHERE id = ?3",
        )?
        .execute(params![path, source, image.0, bytes, modified_ns, changed_ns])?;
    db.prepare_cached("UPDATE images SET source = ?2 WHERE id = ?1")?.execute(params![image.0, source])?;
    if let Some(before) = before {
        forget(db, &before)?;
    }
    match owed.filter(|_| written > 0 && !has_come) {
        Some(came) => answers::arrived(db, source, &image.0, path, came).map(|()| true),
        None => Ok(false),
    }
}

/// Renames the records of a source's file, or of all files below a directory. Records under the new name are removed:
/// those files do not exist any more.
pub fn moved(db: &Transaction<'_>, source: &Path, from: &Path, to: &Path) -> rusqlite::Result<()> {
    let [source, from, to] = [source, from, to].map(|path| path.as_os_str().as_bytes());
    // The byte after `/` is `0`: all paths that begin with "path/" sort before "path0".
    let range = |path: &[u8]| ([path, b"/"].concat(), [path, b"0"].concat());
    let ((first, end), (first_to, end_to)) = (range(from), range(to));
    for table in ["paths", "quarantine"] {
        db.prepare_cached(&format!(
            "DELETE FROM {table} WHERE (path = ?1 OR (path > ?2 AND path < ?3)) AND source = ?4"
        ))?
        .execute(params![to, first_to, end_to, source])?;
        db.prepare_cached(&format!("UPDATE {table} SET path = ?2 WHERE path = ?1 AND source = ?3"))?
            .execute(params![from, to, source])?;
        db.prepare_cached(&format!(
            "UPDATE {table} SET path = CAST(?1 || substr(path, ?2) AS BLOB)
             WHERE path > ?3 AND path < ?4 AND source = ?5"
        ))?
        .execute(params![to, from.len() as i64 + 1, first, end, source])?;
    }
    Ok(())
}
