//! Sources whose configuration has changed: a source that has got a name, and a source that uses another part of its
//! pictures, which then count as other pictures.

use super::forgotten::forget;
use super::{Catalog, CatalogError};
use rusqlite::{Connection, OptionalExtension, params};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// A source, and the part of each picture that is used, as text; empty for the whole picture.
pub type Cut = (PathBuf, String);

/// Images that no other source holds. Argument: the source.
const OWN: &str = "
    SELECT id FROM images
    WHERE (source = ?1 OR EXISTS (SELECT 1 FROM paths WHERE image = id AND paths.source = ?1))
    AND NOT EXISTS (SELECT 1 FROM paths WHERE image = id AND paths.source <> ?1)";

/// Tables that have a row for each source with stored data.
const TABLES: [&str; 3] = ["sources", "observed", "cuts"];

impl Catalog {
    /// Renames sources, given by their directory and their new name: what was stored for a directory, before the source
    /// had a name, belongs to the name from now on. If several sources have the same directory, the first gets it.
    pub async fn name_sources(&self, named: Vec<(PathBuf, PathBuf)>) -> Result<(), CatalogError> {
        self.ask(move |db| {
            let transaction = db.transaction()?;
            for (dir, name) in &named {
                let (dir, name) = (dir.as_os_str().as_bytes(), name.as_os_str().as_bytes());
                let is_known = TABLES.iter().try_fold(false, |known, table| {
                    let mut statement =
                        transaction.prepare_cached(&format!("SELECT 1 FROM {table} WHERE source = ?1"))?;
                    Ok::<bool, rusqlite::Error>(known || statement.exists([name])?)
                })?;
                if is_known {
                    continue;
                }
                for table in TABLES.iter().chain(&["paths", "quarantine", "images"]) {
                    let rename = format!("UPDATE {table} SET source = ?2 WHERE source = ?1");
                    transaction.execute(&rename, [dir, name])?;
                }
            }
            transaction.commit()
        })
        .await
    }

    /// Releases the files and images of the sources whose part has changed, so that they are taken in as new ones.
    /// Their answers stay. The pixels are removed like those of other evicted images.
    pub async fn cut_as(&self, cuts: Vec<Cut>) -> Result<(), CatalogError> {
        self.ask(move |db| {
            let transaction = db.transaction()?;
            for (source, part) in changed(&transaction, &cuts)? {
                let source = source.as_os_str().as_bytes();
                let own = transaction.prepare_cached(OWN)?.query_map([source], |row| row.get(0))?.collect::<Result<
                    Vec<String>,
                    _,
                >>(
                )?;
                let observed = "SELECT id FROM observed WHERE source = ?1";
                transaction.execute(&format!("DELETE FROM unanswered WHERE source = ({observed})"), [source])?;
                transaction.execute(&format!("DELETE FROM unanswered_again WHERE source = ({observed})"), [source])?;
                transaction.execute("DELETE FROM paths WHERE source = ?1", [source])?;
                for image in own {
                    forget(&transaction, &image)?;
                    transaction
                        .prepare_cached("UPDATE images SET canonical_px = 0 WHERE id = ?1")?
                        .execute([&image])?;
                }
                let known = "INSERT INTO cuts VALUES (?1, ?2) ON CONFLICT DO UPDATE SET part = excluded.part";
                transaction.execute(known, params![source, part])?;
            }
            transaction.commit()
        })
        .await
    }
}

/// The cuts that differ from the stored ones.
fn changed<'a>(db: &Connection, cuts: &'a [Cut]) -> rusqlite::Result<Vec<&'a Cut>> {
    let mut statement = db.prepare_cached("SELECT part FROM cuts WHERE source = ?1")?;
    let mut changed = Vec::new();
    for cut in cuts {
        let before: Option<String> =
            statement.query_row([cut.0.as_os_str().as_bytes()], |row| row.get(0)).optional()?;
        if before.unwrap_or_default() != cut.1 {
            changed.push(cut);
        }
    }
    Ok(changed)
}
