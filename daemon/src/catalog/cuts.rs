//! Which part of its pictures each source is looked at by. Where that changes, its pictures are other ones.

use super::entries::forget;
use super::{Catalog, CatalogError};
use rusqlite::{Connection, OptionalExtension, params};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// A source, and the part of its pictures that is looked at, in words; empty for all of them.
pub type Cut = (PathBuf, String);

/// Images that no other source has. Argument: the source.
const OWN: &str = "
    SELECT id FROM images
    WHERE (source = ?1 OR EXISTS (SELECT 1 FROM paths WHERE image = id AND paths.source = ?1))
    AND NOT EXISTS (SELECT 1 FROM paths WHERE image = id AND paths.source <> ?1)";

impl Catalog {
    /// Lets go of the files and images of those sources that are looked at by another part now, so that they are taken
    /// in as new ones. Their answers stay. The pixels are removed as those of other images that were let go.
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

/// Those that are other than before.
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
