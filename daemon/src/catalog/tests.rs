//! The catalogue on a real file.

mod again;
mod answers;
mod cuts;
mod damage;
mod forgetting;
mod jobs;
mod pool;

use super::*;
use crate::job_status::{DetailedState, JobStatus};
use coft_core::ids::JobId;
use coft_core::job::Trigger;
use coft_core::moment::Moment;
use tempfile::TempDir;

const CANONICAL_PX: u32 = 64;

fn catalog() -> (TempDir, Catalog) {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(&dir.path().join("catalog.sqlite")).unwrap();
    (dir, catalog)
}

fn observed(path: &str, version: i64) -> ObservedFile {
    let fingerprint = FileFingerprint { bytes: 9, modified_ns: version, changed_ns: version };
    ObservedFile { source: "/camera".into(), path: Path::new("/camera").join(path), fingerprint }
}

fn image(path: &str, version: i64, id: &str) -> Entry {
    let record =
        ImageRecord { id: ImageId(id.into()), width_px: 3, height_px: 2, bytes: 9, canonical_px: CANONICAL_PX };
    Entry::Image { observed: observed(path, version), record, came: Arrival::now() }
}

fn gone(path: &str) -> Entry {
    Entry::Gone { source: "/camera".into(), path: path.into() }
}

fn bad(path: &str, version: i64) -> Entry {
    Entry::Quarantined { observed: observed(path, version), reason: "the file is empty".into() }
}

/// The pool of the only source in these tests.
async fn pool(catalog: &Catalog, canonical_px: u32) -> Pool {
    catalog.pool(canonical_px, &["/camera".into()]).await.unwrap()
}

#[track_caller]
fn check(counts: &Counts, images: u64, quarantined: u64) {
    assert_eq!((counts.images, counts.quarantined), (images, quarantined));
}

/// Images `a0`, `a1`, …, each taken in after the one before.
async fn filled(catalog: &Catalog, images: i64) {
    for number in 0..images {
        let id = format!("a{number}");
        catalog.record(vec![image(&format!("{id}.jpg"), 1, &id)]).await.unwrap();
        let added = "UPDATE images SET added = ?1 WHERE id = ?2";
        catalog.ask(move |db| db.execute(added, params![number, id])).await.unwrap();
    }
}

fn ids(names: &[&str]) -> Vec<ImageId> {
    names.iter().map(|name| ImageId((*name).into())).collect()
}

/// Compares the counts with the rows of the tables.
async fn counts_are_those_of_the_rows(catalog: &Catalog) {
    let off = catalog.ask(|db| {
        db.query_row(
            "SELECT (SELECT count(*) FROM (
                 SELECT source, images, quarantined FROM sources WHERE images + quarantined > 0
                 EXCEPT SELECT source, sum(images), sum(quarantined) FROM (
                     SELECT source, count(DISTINCT image) AS images, 0 AS quarantined FROM paths GROUP BY source
                     UNION ALL SELECT source, 0, count(*) FROM quarantine GROUP BY source) GROUP BY source))
             + (SELECT count(*) FROM (
                 SELECT canonical_px, images FROM kept WHERE images > 0
                 EXCEPT SELECT canonical_px, count(*) FROM images GROUP BY canonical_px))
             + (SELECT count(DISTINCT source) FROM (SELECT source FROM paths UNION ALL SELECT source FROM quarantine)
                WHERE source NOT IN (SELECT source FROM sources))",
            [],
            |row| row.get::<_, u64>(0),
        )
    });
    assert_eq!(off.await.unwrap(), 0);
}

fn interrupted(number: u64) -> JobStatus {
    JobStatus {
        id: JobId(number),
        trigger: Trigger::Manual,
        started: Moment::at_wall(100),
        ended: Some(Moment::at_wall(200)),
        images: 7,
        seed: None,
        continues: None,
        state: DetailedState::Interrupted,
        progress: None,
        warnings: Vec::new(),
    }
}

/// Waits until the catalogue's thread has closed the database, which removes the log.
fn closed(catalog: Catalog, path: &Path) {
    drop(catalog);
    let log = path.with_extension("sqlite-wal");
    while log.exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn alter(path: &Path, sql: &str) {
    let db = Connection::open(path).unwrap();
    db.execute_batch(&format!("PRAGMA ignore_check_constraints = 1; PRAGMA foreign_keys = 0; {sql}")).unwrap();
}

#[tokio::test]
async fn copies_and_renames_are_one_image() {
    let (_dir, catalog) = catalog();
    catalog.record(vec![image("a.jpg", 1, "aa"), image("copy.jpg", 1, "aa"), image("b.jpg", 1, "bb")]).await.unwrap();
    let counts = catalog.counts().await.unwrap();
    check(&counts, 2, 0);
    assert_eq!(counts.sources[Path::new("/camera")], (2, 0));
    for path in ["a.jpg", "copy.jpg"] {
        assert!(catalog.knows(&observed(path, 1), CANONICAL_PX).await.unwrap(), "{path}");
    }
    assert_eq!(pool(&catalog, CANONICAL_PX).await.kept, [ImageId("bb".into()), ImageId("aa".into())]);
}

#[tokio::test]
async fn a_rewritten_file_is_a_new_image_and_the_old_one_stays() {
    let (_dir, catalog) = catalog();
    catalog.record(vec![image("a.jpg", 1, "aa")]).await.unwrap();
    assert!(!catalog.knows(&observed("a.jpg", 2), CANONICAL_PX).await.unwrap());
    catalog.record(vec![image("a.jpg", 2, "bb")]).await.unwrap();
    check(&catalog.counts().await.unwrap(), 2, 0);
    assert!(catalog.knows(&observed("a.jpg", 2), CANONICAL_PX).await.unwrap());
    assert!(!catalog.knows(&observed("a.jpg", 1), CANONICAL_PX).await.unwrap());
}

#[tokio::test]
async fn a_quarantined_file_is_tried_again_once_it_changes() {
    let (_dir, catalog) = catalog();
    catalog.record(vec![bad("a.jpg", 1), bad("day/b.jpg", 1), bad("day2/c.jpg", 1)]).await.unwrap();
    check(&catalog.counts().await.unwrap(), 0, 3);
    assert!(catalog.knows(&observed("a.jpg", 1), CANONICAL_PX).await.unwrap());
    assert!(!catalog.knows(&observed("a.jpg", 2), CANONICAL_PX).await.unwrap());
    catalog.record(vec![image("a.jpg", 2, "aa"), gone("/camera/day")]).await.unwrap();
    check(&catalog.counts().await.unwrap(), 1, 1);
    let left = catalog.quarantine().await.unwrap();
    assert_eq!(left, [(PathBuf::from("/camera/day2/c.jpg"), "the file is empty".to_owned())]);
}

#[tokio::test]
async fn a_doubted_quarantined_file_is_looked_at_again() {
    let (_dir, catalog) = catalog();
    catalog.record(vec![bad("a.jpg", 1)]).await.unwrap();
    catalog.doubt_quarantine().await.unwrap();
    assert!(!catalog.knows(&observed("a.jpg", 1), CANONICAL_PX).await.unwrap());
    check(&catalog.counts().await.unwrap(), 0, 1);
    catalog.record(vec![bad("a.jpg", 1)]).await.unwrap();
    assert!(catalog.knows(&observed("a.jpg", 1), CANONICAL_PX).await.unwrap());
}

#[tokio::test]
async fn a_file_that_has_gone_is_still_found_by_its_path() {
    let (_dir, catalog) = catalog();
    catalog.record(vec![image("a.jpg", 1, "aa"), gone("/camera/a.jpg")]).await.unwrap();
    assert_eq!(catalog.images_at(Path::new("/camera/a.jpg"), None).await.unwrap(), [ImageId("aa".into())]);
    assert_eq!(catalog.images_at(Path::new("/camera/b.jpg"), None).await.unwrap(), []);
}

/// Every flush counted every row: with 10⁶ images, 300 more took a hundred times as long as the first 300.
#[tokio::test]
async fn no_statement_of_the_intake_reads_rows_that_do_not_concern_it() {
    let (_dir, catalog) = catalog();
    let plans = catalog.ask(|db| {
        let mut scans = Vec::new();
        for sql in [
            "SELECT images FROM totals",
            "SELECT added FROM totals",
            "SELECT images FROM kept WHERE canonical_px = 64",
            "SELECT id FROM images WHERE canonical_px = 64 ORDER BY added DESC, id LIMIT -1 OFFSET 8",
            "DELETE FROM quarantine WHERE path > x'2f' AND path < x'30'",
            "UPDATE paths SET gone = 1 WHERE path > x'2f' AND path < x'30' AND gone IS NULL",
            "SELECT path FROM paths WHERE gone < 1 OR gone > 2",
            "SELECT 1 FROM paths WHERE image = 'a' AND source IN (x'2f')",
        ] {
            let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
            let steps = statement.query_map([], |row| row.get::<_, String>("detail"))?;
            for step in steps {
                let step = step?;
                let whole = step.starts_with("SCAN") && !step.ends_with("totals") || step.contains("TEMP B-TREE");
                scans.extend(whole.then(|| format!("{sql}: {step}")));
            }
        }
        Ok(scans)
    });
    assert_eq!(plans.await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn counts_follow_every_change() {
    let (_dir, catalog) = catalog();
    let in_yard = |entry| match entry {
        Entry::Image { observed, record, came } => {
            Entry::Image { observed: ObservedFile { source: "/yard".into(), ..observed }, record, came }
        }
        Entry::Quarantined { observed, reason } => {
            Entry::Quarantined { observed: ObservedFile { source: "/yard".into(), ..observed }, reason }
        }
        gone => gone,
    };
    let steps = [
        vec![image("a.jpg", 1, "aa"), image("copy.jpg", 1, "aa"), image("b.jpg", 1, "bb"), bad("c.jpg", 1)],
        vec![image("copy.jpg", 2, "cc"), bad("c.jpg", 2), bad("d.jpg", 1)],
        // Another source has the same files.
        vec![in_yard(image("a.jpg", 1, "aa")), in_yard(bad("d.jpg", 1)), image("c.jpg", 3, "dd")],
        vec![gone("/camera/b.jpg"), image("b.jpg", 2, "bb")],
    ];
    for step in steps {
        catalog.record(step).await.unwrap();
        counts_are_those_of_the_rows(&catalog).await;
    }
    catalog.pixels_lost(ids(&["bb"])).await.unwrap();
    catalog.evict(CANONICAL_PX, 1, 1).await.unwrap();
    counts_are_those_of_the_rows(&catalog).await;
    check(&catalog.counts().await.unwrap(), 4, 2);
    assert_eq!(catalog.counts().await.unwrap().sources[Path::new("/yard")], (1, 1));
}

#[tokio::test]
async fn names_need_not_be_text() {
    let (_dir, catalog) = catalog();
    let path = Path::new(OsStr::from_bytes(b"/camera/\xff.jpg")).to_owned();
    let observed = ObservedFile { path: path.clone(), ..observed("x", 1) };
    catalog.record(vec![Entry::Quarantined { observed, reason: "r".into() }]).await.unwrap();
    assert_eq!(catalog.quarantine().await.unwrap(), [(path, "r".to_owned())]);
}

#[tokio::test]
async fn a_name_that_changes_takes_what_is_known_along() {
    let (_dir, catalog) = catalog();
    let entries = ["day/a.jpg", "day/b/c.jpg", "day0.jpg", "night/old.jpg"].map(|path| image(path, 1, path));
    catalog.record(entries.to_vec()).await.unwrap();
    catalog.record(vec![bad("day/d.jpg", 1)]).await.unwrap();
    let moved = |from: &str, to: &str| Entry::Moved {
        source: "/camera".into(),
        from: format!("/camera/{from}").into(),
        to: format!("/camera/{to}").into(),
    };
    catalog.record(vec![moved("day", "night")]).await.unwrap();
    for path in ["night/a.jpg", "night/b/c.jpg", "day0.jpg", "night/d.jpg"] {
        assert!(catalog.knows(&observed(path, 1), CANONICAL_PX).await.unwrap(), "{path}");
    }
    for path in ["day/a.jpg", "day/b/c.jpg", "day/d.jpg", "night/old.jpg"] {
        assert!(!catalog.knows(&observed(path, 1), CANONICAL_PX).await.unwrap(), "{path}");
    }
    assert_eq!(catalog.quarantined_in(Path::new("/camera")).await.unwrap(), [Path::new("/camera/night/d.jpg")]);
    catalog.record(vec![moved("night/a.jpg", "x.jpg")]).await.unwrap();
    assert!(catalog.knows(&observed("x.jpg", 1), CANONICAL_PX).await.unwrap());
    check(&catalog.counts().await.unwrap(), 4, 1);
}

#[tokio::test]
async fn a_file_with_known_content_is_known_and_one_with_forgotten_content_is_not() {
    let (_dir, catalog) = catalog();
    catalog.record(vec![image("a.jpg", 1, "aa"), bad("b.jpg", 1)]).await.unwrap();
    let seen =
        |path, id: &str| Entry::Seen { observed: observed(path, 2), image: ImageId(id.into()), came: Arrival::now() };
    catalog.record(vec![seen("a.jpg", "aa"), seen("b.jpg", "aa"), seen("c.jpg", "zz")]).await.unwrap();
    for (path, known) in [("a.jpg", true), ("b.jpg", true), ("c.jpg", false)] {
        assert_eq!(catalog.knows(&observed(path, 2), CANONICAL_PX).await.unwrap(), known, "{path}");
    }
    check(&catalog.counts().await.unwrap(), 1, 0);
    assert_eq!(catalog.canonical_px(&ImageId("aa".into())).await.unwrap(), Some(CANONICAL_PX));
    assert_eq!(catalog.canonical_px(&ImageId("zz".into())).await.unwrap(), None);
}

#[tokio::test]
async fn an_image_is_where_its_files_are_there() {
    let (_dir, catalog) = catalog();
    catalog.record(vec![image("b.jpg", 1, "aa"), image("a.jpg", 1, "aa"), image("c.jpg", 1, "cc")]).await.unwrap();
    catalog.record(vec![gone("/camera/c.jpg")]).await.unwrap();
    let ids = ["cc", "aa", "zz"].map(|id| ImageId(id.into()));
    let expected: [&[&str]; 3] = [&[], &["/camera/a.jpg", "/camera/b.jpg"], &[]];
    let files = catalog.files(ids.to_vec()).await.unwrap();
    let expected = expected.map(|paths| paths.iter().map(|path| observed(path, 1)).collect::<Vec<_>>());
    assert_eq!(files, expected);
}
