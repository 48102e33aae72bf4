//! The database file: opens and checks it, and migrates it to the present version step by step.

use super::CatalogError;
use rusqlite::{Connection, Error, ErrorCode, TransactionBehavior, ffi};
use std::path::Path;

/// The step from each version to the next; the first step creates a new catalogue. Catalogues of every version exist on
/// users' disks: a change is a new step, and only a step that was never released is edited.
const STEPS: [&str; 5] = [
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
    include_str!("schema/5.sql"),
];
/// The present version, `PRAGMA user_version`.
pub const VERSION: i64 = STEPS.len() as i64;

/// Tables that stay small however many images there are, so that a start can check them completely.
const SMALL: [&str; 7] = ["rounds", "totals", "kept", "sources", "observed", "serving", "cuts"];

/// Opens a catalogue, or creates a new one.
///
/// The checks do not depend on the number of images: they cover the file's header and length, and the [`SMALL`] tables.
/// The first statement that reads damage elsewhere fails with [`CatalogError::Damaged`].
pub fn open(path: &Path) -> rusqlite::Result<Result<Connection, CatalogError>> {
    let mut db = Connection::open(path)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "foreign_keys", true)?;
    // A value that only another version knows is no damage.
    db.pragma_update(None, "ignore_check_constraints", true)?;
    let found = version(&db)?;
    if found > VERSION {
        return Ok(Err(CatalogError::Newer { path: path.to_owned(), found }));
    }
    if let Err(error) = migrate(&mut db, &STEPS) {
        // A step that does not fit the tables: they are not those of the version that the file names. SQLite reports
        // such an error with its position in the SQL text or, for example for a missing table, without one.
        return match error {
            Error::SqlInputError { msg: detail, .. }
            | Error::SqliteFailure(ffi::Error { code: ErrorCode::Unknown, .. }, Some(detail)) => {
                Ok(Err(CatalogError::Damaged { path: path.to_owned(), detail }))
            }
            error => Err(error),
        };
    }
    for table in SMALL {
        let detail: String = db.query_row(&format!("PRAGMA quick_check({table})"), [], |row| row.get(0))?;
        if detail != "ok" {
            return Ok(Err(CatalogError::Damaged { path: path.to_owned(), detail }));
        }
    }
    Ok(Ok(db))
}

/// An empty catalogue in memory.
pub fn empty() -> rusqlite::Result<Connection> {
    let mut db = Connection::open_in_memory()?;
    migrate(&mut db, &STEPS)?;
    Ok(db)
}

/// Runs the steps that the catalogue lacks, each in a transaction of its own: after a power failure the catalogue has
/// the version before a step or the one after it.
fn migrate(db: &mut Connection, steps: &[&str]) -> rusqlite::Result<()> {
    for (step, next) in steps.iter().zip(1..) {
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if version(&transaction)? < next {
            transaction.execute_batch(step)?;
            transaction.pragma_update(None, "user_version", next)?;
        }
        transaction.commit()?;
    }
    Ok(())
}

fn version(db: &Connection) -> rusqlite::Result<i64> {
    db.pragma_query_value(None, "user_version", |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Catalog, Counts, Turn};
    use coft_core::ids::GenerationId;
    use std::fs;
    use std::path::PathBuf;
    use std::sync::Arc;
    use tempfile::TempDir;

    /// A catalogue as the last coftd that wrote version 1 has left it: `tests/goldens/catalog/README.md` says how.
    fn of_version_1() -> (TempDir, PathBuf) {
        of_version(1)
    }

    fn of_version(version: u32) -> (TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.sqlite");
        let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens/catalog");
        fs::copy(goldens.join(format!("version-{version}.sqlite")), &path).unwrap();
        (dir, path)
    }

    fn schema(db: &Connection) -> Vec<String> {
        let mut statement = db.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name").unwrap();
        let sql = statement.query_map([], |row| row.get(0)).unwrap();
        sql.collect::<Result<_, _>>().unwrap()
    }

    /// All rows of the tables that version 1 has, as text.
    fn content(db: &Connection) -> Vec<String> {
        let mut rows = Vec::new();
        for table in ["images", "paths", "quarantine", "rounds"] {
            let columns = match table {
                "images" => "id, width_px, height_px, bytes, added, canonical_px",
                "paths" => "path, source, image, bytes, modified_ns, changed_ns",
                "quarantine" => "path, source, reason, added, bytes, modified_ns, changed_ns",
                _ => {
                    "round, trigger, started, ended, images, state, generation, failure_kind, message, hint, progress, warnings"
                }
            };
            let quoted: Vec<String> = columns.split(", ").map(|column| format!("quote({column})")).collect();
            let mut statement =
                db.prepare(&format!("SELECT {} FROM {table} ORDER BY 1", quoted.join(" || ','  || "))).unwrap();
            let found = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
            rows.extend(found.map(|row| format!("{table}: {}", row.unwrap())));
        }
        rows
    }

    #[tokio::test]
    async fn a_catalogue_of_version_1_is_brought_forward_and_loses_nothing() {
        let (_dir, path) = of_version_1();
        let before = content(&Connection::open(&path).unwrap());
        assert_eq!(before.len(), 4 + 4 + 1 + 1, "the golden holds something of everything");
        let db = open(&path).unwrap().unwrap();
        assert_eq!((version(&db).unwrap(), content(&db)), (VERSION, before.clone()));
        let new = tempfile::tempdir().unwrap();
        assert_eq!(schema(&db), schema(&open(&new.path().join("new.sqlite")).unwrap().unwrap()));
        drop(db);
        let db = open(&path).unwrap().unwrap();
        assert_eq!(content(&db), before, "opened again, nothing changes");
        drop(db);

        let catalog = Catalog::open(&path).unwrap();
        let Counts { images, quarantined, sources } = catalog.counts().await.unwrap();
        assert_eq!((images, quarantined), (4, 1));
        let mut sources: Vec<(PathBuf, (u64, u64))> = sources.into_iter().collect();
        sources.sort();
        let [(camera, of_camera), (yard, of_yard)] = &sources[..] else { panic!("{sources:?}") };
        // A file of the first source was overwritten: two images, one path.
        assert_eq!((*of_camera, *of_yard), ((2, 1), (1, 0)));
        let kept = async |sources: &[PathBuf]| catalog.pool(48, sources).await.unwrap().kept.len();
        assert_eq!(kept(&[camera.clone(), yard.clone()]).await, 4);
        assert_eq!(kept(std::slice::from_ref(yard)).await, 2, "and the overwritten one, whose source nobody knows");
        assert_eq!(catalog.jobs().await.unwrap().len(), 1);
    }

    /// Each picture in the old catalogue waits for one answer, in the order of arrival.
    #[tokio::test]
    async fn a_catalogue_of_version_2_loses_nothing_and_its_pictures_are_answered() {
        let (_dir, path) = of_version(2);
        let before = content(&Connection::open(&path).unwrap());
        assert_eq!(before.len(), 4 + 4 + 1 + 1, "the golden holds something of everything");
        let db = open(&path).unwrap().unwrap();
        assert_eq!((version(&db).unwrap(), content(&db)), (VERSION, before));
        let new = tempfile::tempdir().unwrap();
        assert_eq!(schema(&db), schema(&open(&new.path().join("new.sqlite")).unwrap().unwrap()));
        drop(db);

        let catalog = Catalog::open(&path).unwrap();
        assert_eq!(catalog.counts().await.unwrap().images, 4);
        let names = async |source: &str| {
            let waiting = catalog.unanswered(Path::new(source), Turn::First, 9).await.unwrap();
            let mut names = Vec::new();
            for picture in waiting {
                let files = catalog.files_of(&picture.image).await.unwrap();
                names.push(files[0].path.file_name().unwrap().to_str().unwrap().to_owned());
            }
            names
        };
        // The overwritten image has no file any more, and the copy has gone.
        assert_eq!(names("/srv/coft-v2/camera").await, ["snapshot.png", "a.png"]);
        assert_eq!(names("/srv/coft-v2/yard").await, ["b.png"]);
        let standings = catalog.standings(["camera", "yard"].map(|name| Path::new("/srv/coft-v2").join(name)).into());
        let waiting: Vec<u64> = standings.await.unwrap().iter().map(|standing| standing.waiting).collect();
        assert_eq!(waiting, [2, 1]);
    }

    /// The answers stay. Which generation serves is unknown until `serves` is called.
    #[tokio::test]
    async fn a_catalogue_of_version_3_keeps_its_answers() {
        let (_dir, path) = of_version(3);
        let before = content(&Connection::open(&path).unwrap());
        let db = open(&path).unwrap().unwrap();
        assert_eq!((version(&db).unwrap(), content(&db)), (VERSION, before));
        let new = tempfile::tempdir().unwrap();
        assert_eq!(schema(&db), schema(&open(&new.path().join("new.sqlite")).unwrap().unwrap()));
        drop(db);

        let catalog = Catalog::open(&path).unwrap();
        let source = Path::new("/srv/coft-v3/camera");
        let answers = catalog.observations(source, 0, 9).await.unwrap();
        assert_eq!(answers.iter().map(|answer| answer.sequence).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert!(answers.iter().all(|answer| answer.generation == GenerationId(1) && answer.later.is_none()));
        for (generation, waiting) in [(1, 0), (2, 4)] {
            let (number, none) = (GenerationId(generation), Vec::new().into());
            catalog.serves(number, none, vec![source.into()], 9, Arc::default()).await.unwrap();
            assert_eq!(catalog.waiting_again().await.unwrap(), waiting);
        }
    }

    #[test]
    fn a_power_cut_amid_a_step_leaves_the_version_before_it() {
        for before_it in [1, 2, 3] {
            let (dir, path) = of_version(before_it);
            let before = content(&Connection::open(&path).unwrap());
            let mut db = Connection::open(&path).unwrap();
            db.pragma_update(None, "journal_mode", "WAL").unwrap();
            // With a small cache, SQLite writes into the log before it commits.
            db.pragma_update(None, "cache_size", 1).unwrap();
            let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
            transaction.execute_batch(STEPS[before_it as usize]).unwrap();
            transaction.pragma_update(None, "user_version", before_it + 1).unwrap();
            let cut = dir.path().join("cut.sqlite");
            fs::copy(&path, &cut).unwrap();
            fs::copy(dir.path().join("catalog.sqlite-wal"), dir.path().join("cut.sqlite-wal")).unwrap();
            transaction.commit().unwrap();

            let found = Connection::open(&cut).unwrap();
            assert_eq!((version(&found).unwrap(), content(&found)), (i64::from(before_it), before.clone()));
            drop(found);
            let mended = open(&cut).unwrap().unwrap();
            assert_eq!((version(&mended).unwrap(), content(&mended)), (VERSION, before));
            drop(db);
            assert_eq!(schema(&mended), schema(&open(&path).unwrap().unwrap()));
        }
    }

    #[test]
    fn a_catalogue_without_the_tables_of_its_version_is_damaged() {
        for spoil in ["DROP TABLE quarantine", "PRAGMA user_version = 0"] {
            let (_dir, path) = of_version_1();
            Connection::open(&path).unwrap().execute_batch(spoil).unwrap();
            let opened = open(&path).unwrap();
            assert!(matches!(opened, Err(CatalogError::Damaged { .. })), "{spoil}: {opened:?}");
        }
    }

    #[test]
    fn a_step_that_fails_leaves_nothing() {
        let mut db = Connection::open_in_memory().unwrap();
        migrate(&mut db, &STEPS[..1]).unwrap();
        let before = schema(&db);
        migrate(&mut db, &[STEPS[0], "CREATE TABLE a (b); CREATE TABLE c (d); SELECT nonsense"]).unwrap_err();
        assert_eq!((version(&db).unwrap(), schema(&db)), (1, before));
    }
}
