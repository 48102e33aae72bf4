//! The catalogue on a real file.

mod again;
mod answers;
mod cuts;

use super::*;
use crate::job_status::{DetailedState, JobStatus};
use crate::watch::namespace::{MOUNTS, entered, run};
use coft_core::event::{Failure, FailureKind, Progress, Stage};
use coft_core::ids::{GenerationId, JobId};
use coft_core::job::Trigger;
use coft_core::moment::{BootId, Moment};
use std::fs;
use std::os::unix::fs::FileExt;
use std::time::Duration;
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
async fn lost_pixels_leave_the_pool_until_they_are_made_again() {
    let (_dir, catalog) = catalog();
    catalog.record(vec![image("a.jpg", 1, "aa")]).await.unwrap();
    assert!(pool(&catalog, 224).await.kept.is_empty(), "another model looks at another size");
    assert!(!catalog.knows(&observed("a.jpg", 1), 224).await.unwrap());
    catalog.pixels_lost(vec![ImageId("aa".into())]).await.unwrap();
    assert!(pool(&catalog, CANONICAL_PX).await.kept.is_empty());
    assert!(!catalog.knows(&observed("a.jpg", 1), CANONICAL_PX).await.unwrap());
    check(&catalog.counts().await.unwrap(), 1, 0);
    catalog.record(vec![image("a.jpg", 1, "aa")]).await.unwrap();
    assert_eq!(pool(&catalog, CANONICAL_PX).await.kept.len(), 1);
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

#[tokio::test]
async fn the_oldest_images_are_evicted_and_stay_known() {
    let (_dir, catalog) = catalog();
    filled(&catalog, 6).await;
    assert_eq!(catalog.evict(CANONICAL_PX, 6, 4).await.unwrap(), [], "not over the limit");
    let mut evicted = catalog.evict(CANONICAL_PX, 5, 4).await.unwrap();
    evicted.sort_unstable();
    assert_eq!(evicted, ids(&["a0", "a1"]));
    let pool = pool(&catalog, CANONICAL_PX).await;
    assert_eq!(pool, Pool { kept: ids(&["a5", "a4", "a3", "a2"]), all: 6 });
    check(&catalog.counts().await.unwrap(), 6, 0);
    for number in 0..6 {
        assert!(catalog.knows(&observed(&format!("a{number}.jpg"), 1), CANONICAL_PX).await.unwrap(), "a{number}");
    }
    assert_eq!(catalog.evict_among(ids(&["a1", "a2", "stranger"])).await.unwrap(), ids(&["a1"]));
    // Pixels that are removed on purpose are not lost.
    catalog.pixels_lost(ids(&["a1", "a2"])).await.unwrap();
    assert!(catalog.knows(&observed("a1.jpg", 1), CANONICAL_PX).await.unwrap());
    assert!(!catalog.knows(&observed("a2.jpg", 1), CANONICAL_PX).await.unwrap());
}

#[tokio::test]
async fn a_copy_of_an_image_that_was_evicted_is_no_new_image() {
    let (_dir, catalog) = catalog();
    filled(&catalog, 4).await;
    catalog.evict(CANONICAL_PX, 2, 2).await.unwrap();
    catalog.record(vec![image("copy.jpg", 1, "a0")]).await.unwrap();
    check(&catalog.counts().await.unwrap(), 4, 0);
    assert_eq!(pool(&catalog, CANONICAL_PX).await.kept, ids(&["a3", "a2", "a0"]), "it stays the oldest");
    assert_eq!(catalog.evict(CANONICAL_PX, 2, 2).await.unwrap(), ids(&["a0"]));
}

#[tokio::test]
async fn the_latest_image_is_the_latest_whatever_the_clock_says() {
    let (dir, catalog) = catalog();
    catalog.record(vec![image("b.jpg", 1, "b")]).await.unwrap();
    let ahead = "UPDATE images SET added = added + 1000000; UPDATE totals SET added = added + 1000000";
    catalog.ask(move |db| db.execute_batch(ahead)).await.unwrap();
    drop(catalog);
    let catalog = Catalog::open(&dir.path().join("catalog.sqlite")).unwrap();
    for id in ["c", "a"] {
        catalog.record(vec![image(id, 1, id)]).await.unwrap();
    }
    assert_eq!(pool(&catalog, CANONICAL_PX).await.kept, ids(&["a", "c", "b"]));
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
    assert_eq!(catalog.images_at(Path::new("/camera/a.jpg")).await.unwrap(), [ImageId("aa".into())]);
    assert_eq!(catalog.images_at(Path::new("/camera/b.jpg")).await.unwrap(), []);
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let (dir, catalog) = catalog();
    let moment = |second| Moment { boot: Some(BootId(9)), since_boot: Duration::from_millis(1500), wall: second };
    let status = |number, state| JobStatus {
        id: JobId(number),
        trigger: Trigger::Manual,
        started: moment(100),
        ended: Some(moment(200)),
        images: 7,
        // A seed uses all its bits.
        seed: Some(u64::MAX),
        continues: Some(JobId(3)),
        state,
        progress: None,
        warnings: vec!["class \"nut\" has no seeds".into()],
    };
    let progress = Progress {
        stage: Stage::Filter,
        iteration: 1,
        fraction: 0.5,
        images_done: 1,
        images_total: 2,
        images_per_second: 3.5,
        remaining_seconds: None,
        training: None,
    };
    let failure = DetailedState::Failed(Failure::new(FailureKind::DiskFull, "no space", "free some"));
    let rounds = [
        status(1, DetailedState::Promoted(GenerationId(1))),
        status(2, DetailedState::Kept { reason: "the answers differ".into(), candidate: Some(GenerationId(2)) }),
        status(3, failure),
        status(4, DetailedState::Cancelled),
        status(5, DetailedState::Interrupted),
        JobStatus { ended: None, progress: Some(progress.clone()), ..status(6, DetailedState::Running) },
    ];
    for round in &rounds {
        catalog.save_job(&JobStatus { warnings: Vec::new(), progress: None, ..round.clone() }).await.unwrap();
        catalog.save_job(round).await.unwrap();
    }
    // Stores the progress of a round that runs, and late progress of one that has ended.
    catalog.save_job(&JobStatus { progress: None, ..rounds[5].clone() }).await.unwrap();
    for number in [4, 6] {
        catalog.save_progress(JobId(number), &progress).await.unwrap();
    }
    catalog.record(vec![image("a.jpg", 1, "aa"), bad("b.jpg", 1)]).await.unwrap();
    drop(catalog);
    let catalog = Catalog::open(&dir.path().join("catalog.sqlite")).unwrap();
    assert_eq!(catalog.jobs().await.unwrap(), rounds);
    check(&catalog.counts().await.unwrap(), 1, 1);
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

/// Lets `days` days pass for files that have gone.
async fn days_pass(catalog: &Catalog, days: i64) {
    catalog.ask(move |db| db.execute("UPDATE paths SET gone = gone - ?1", [days * 86_400])).await.unwrap();
    assert!(!catalog.prune().await.unwrap(), "a few rows are forgotten at once");
    counts_are_those_of_the_rows(catalog).await;
}

async fn rows(catalog: &Catalog) -> (u64, u64) {
    let count = "SELECT (SELECT count(*) FROM images), (SELECT count(*) FROM paths)";
    catalog.ask(move |db| db.query_row(count, [], |row| Ok((row.get(0)?, row.get(1)?)))).await.unwrap()
}

/// A camera whose folder rotates left one row for each picture for ever.
#[tokio::test]
async fn what_no_file_holds_and_no_round_needs_is_forgotten_after_a_day() {
    let (_dir, catalog) = catalog();
    filled(&catalog, 6).await;
    catalog.evict(CANONICAL_PX, 4, 4).await.unwrap();
    let both = ["a0.jpg", "a5.jpg"].map(|name| gone(&format!("/camera/{name}")));
    catalog.record(both.to_vec()).await.unwrap();
    days_pass(&catalog, 0).await;
    assert_eq!(rows(&catalog).await, (6, 6), "it may come back");
    days_pass(&catalog, 2).await;
    assert_eq!(rows(&catalog).await, (5, 5), "a0, which no round takes; a1 has a file, a5 has pixels");
    assert_eq!(catalog.images_at(Path::new("/camera/a5.jpg")).await.unwrap(), [ImageId("a5".into())]);
    check(&catalog.counts().await.unwrap(), 6, 0);
    // The directory goes with all that is in it; a path that only begins with the same letters stays.
    catalog.record(vec![image("../camera2/x.jpg", 1, "a4"), gone("/camera")]).await.unwrap();
    days_pass(&catalog, 2).await;
    assert_eq!(rows(&catalog).await, (4, 4), "a1 is forgotten, and where a4 was before");
    assert_eq!(pool(&catalog, CANONICAL_PX).await, Pool { kept: ids(&["a5", "a4", "a3", "a2"]), all: 6 });
}

#[tokio::test]
async fn a_file_that_is_back_as_it_was_is_known_and_stays() {
    let (_dir, catalog) = catalog();
    filled(&catalog, 2).await;
    catalog.evict(CANONICAL_PX, 1, 1).await.unwrap();
    catalog.record(vec![gone("/camera")]).await.unwrap();
    assert!(catalog.knows(&observed("a0.jpg", 1), CANONICAL_PX).await.unwrap());
    days_pass(&catalog, 2).await;
    assert_eq!(rows(&catalog).await, (2, 2));
    assert!(catalog.knows(&observed("a0.jpg", 1), CANONICAL_PX).await.unwrap());
}

/// The old name of a moved directory goes before the new name appears.
#[tokio::test]
async fn a_moved_image_that_was_evicted_is_no_new_image() {
    let (_dir, catalog) = catalog();
    filled(&catalog, 2).await;
    catalog.evict(CANONICAL_PX, 1, 1).await.unwrap();
    catalog.record(vec![gone("/camera/a0.jpg")]).await.unwrap();
    catalog.prune().await.unwrap();
    catalog.record(vec![image("day/a0.jpg", 1, "a0")]).await.unwrap();
    check(&catalog.counts().await.unwrap(), 2, 0);
    days_pass(&catalog, 2).await;
    assert_eq!(rows(&catalog).await, (2, 2), "the place that it moved from is forgotten");
    assert_eq!(catalog.images_at(Path::new("/camera/a0.jpg")).await.unwrap(), []);
}

#[tokio::test]
async fn snapshots_that_were_overwritten_are_forgotten_when_they_are_evicted() {
    let (_dir, catalog) = catalog();
    for version in 0..4 {
        catalog.record(vec![image("snapshot.jpg", version, &format!("s{version}"))]).await.unwrap();
    }
    assert_eq!(pool(&catalog, CANONICAL_PX).await, Pool { kept: ids(&["s3", "s2", "s1", "s0"]), all: 4 });
    let evicted = catalog.evict(CANONICAL_PX, 2, 2).await.unwrap();
    catalog.forget_overwritten(evicted).await.unwrap();
    assert_eq!(rows(&catalog).await, (2, 1));
    check(&catalog.counts().await.unwrap(), 4, 0);
    // An image whose pixels were lost before it was overwritten.
    catalog.record(vec![image("other.jpg", 1, "o1")]).await.unwrap();
    catalog.pixels_lost(ids(&["o1"])).await.unwrap();
    catalog.record(vec![image("other.jpg", 2, "o2")]).await.unwrap();
    assert_eq!(rows(&catalog).await, (3, 2));
    counts_are_those_of_the_rows(&catalog).await;
}

/// Images of a source that was removed from the configuration still took part in rounds.
#[tokio::test]
async fn images_of_a_source_that_is_not_configured_any_more_take_no_part() {
    let (_dir, catalog) = catalog();
    let of = |source: &str, name: &str, version, id: &str| {
        let Entry::Image { observed, record, came } = image(name, version, id) else { unreachable!("it is an image") };
        Entry::Image { observed: ObservedFile { source: source.into(), ..observed }, record, came }
    };
    let entries =
        [of("/old", "a", 1, "a"), of("/old", "both", 1, "b"), of("/new", "copy", 1, "b"), of("/new", "c", 1, "c")];
    catalog.record(entries.to_vec()).await.unwrap();
    // Overwritten, so that no file holds them any more.
    catalog.record(vec![of("/old", "a", 2, "d"), of("/new", "c", 2, "e")]).await.unwrap();
    let pool = async |sources: &[&str]| {
        let sources: Vec<PathBuf> = sources.iter().map(PathBuf::from).collect();
        let mut pool = catalog.pool(CANONICAL_PX, &sources).await.unwrap();
        pool.kept.sort_unstable();
        (pool.kept, pool.all)
    };
    assert_eq!(pool(&["/old", "/new"]).await, (ids(&["a", "b", "c", "d", "e"]), 5));
    assert_eq!(pool(&["/new"]).await, (ids(&["b", "c", "e"]), 5));
    assert_eq!(pool(&["/old"]).await, (ids(&["a", "b", "d"]), 5));
    assert_eq!(pool(&[]).await, (vec![], 5));
}

#[tokio::test]
async fn old_rounds_are_forgotten_but_not_the_last_that_was_completed_or_ended() {
    let (_dir, catalog) = catalog();
    let save = async |number, trigger: Trigger, state| {
        let round = JobStatus {
            id: JobId(number),
            trigger,
            started: Moment::at_wall(1),
            ended: Some(Moment::at_wall(2)),
            images: 7,
            state,
            progress: None,
            warnings: Vec::new(),
            seed: None,
            continues: None,
        };
        catalog.save_job(&round).await.unwrap();
    };
    save(1, Trigger::Schedule, DetailedState::Cancelled).await;
    save(2, Trigger::Schedule, DetailedState::Kept { reason: "worse".into(), candidate: None }).await;
    save(3, Trigger::Import, DetailedState::Kept { reason: "worse".into(), candidate: None }).await;
    save(1003, Trigger::Schedule, DetailedState::Cancelled).await;
    let left: Vec<u64> = catalog.jobs().await.unwrap().iter().map(|job| job.id.0).collect();
    assert_eq!(left, [2, 1003]);
    // Jobs of other kinds, such as one that fails every five minutes, do not make the schedule forget when the last
    // round ended.
    save(2500, Trigger::ZeroShot, DetailedState::Cancelled).await;
    let left: Vec<u64> = catalog.jobs().await.unwrap().iter().map(|job| job.id.0).collect();
    assert_eq!(left, [2, 1003, 2500]);
}

#[tokio::test]
async fn names_need_not_be_text() {
    let (_dir, catalog) = catalog();
    let path = Path::new(OsStr::from_bytes(b"/camera/\xff.jpg")).to_owned();
    let observed = ObservedFile { path: path.clone(), ..observed("x", 1) };
    catalog.record(vec![Entry::Quarantined { observed, reason: "r".into() }]).await.unwrap();
    assert_eq!(catalog.quarantine().await.unwrap(), [(path, "r".to_owned())]);
}

/// A damaged catalogue ended the service at each start.
#[tokio::test]
async fn a_damaged_catalogue_is_moved_aside_and_a_new_one_takes_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.sqlite");
    let garbage = "this is no database, but it is long enough to be taken for one".repeat(100);
    for number in 1..=5 {
        fs::write(&path, &garbage).unwrap();
        let catalog = Catalog::open(&path).unwrap();
        let note = catalog.note().unwrap();
        assert!(note.contains(&path.display().to_string()) && note.contains("taken in anew"), "{note}");
        assert!(note.contains("history of rounds is lost"), "{note}");
        check(&catalog.counts().await.unwrap(), 0, 0);
        let kept = damaged(dir.path());
        assert_eq!(kept.len(), number.min(3), "{kept:?}");
        assert!(kept.iter().all(|kept| fs::read_to_string(kept).unwrap() == garbage));
        closed(catalog, &path);
    }
    assert_eq!(Catalog::open(&path).unwrap().note(), None, "once");
}

/// Waits until the catalogue's thread has closed the database, which removes the log.
fn closed(catalog: Catalog, path: &Path) {
    drop(catalog);
    let log = path.with_extension("sqlite-wal");
    while log.exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// The damaged catalogues that were kept.
fn damaged(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.to_str().unwrap().contains(".damaged-")).collect()
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

/// Version 1 stored neither boot ids nor which round another one continues.
#[tokio::test]
async fn rounds_of_the_last_version_are_still_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.sqlite");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens/catalog/version-1.sqlite");
    fs::copy(&golden, &path).unwrap();
    let catalog = Catalog::open(&path).unwrap();
    let rounds = catalog.jobs().await.unwrap();
    assert_eq!((catalog.note(), rounds.len(), rounds[0].started.boot), (None, 1, None));
    catalog.save_job(&interrupted(5)).await.unwrap();
    closed(catalog, &path);

    // The rounds of a damaged catalogue of version 1 are copied to a new catalogue, which stores both.
    let path = dir.path().join("damaged.sqlite");
    fs::copy(&golden, &path).unwrap();
    alter(&path, "DROP TABLE quarantine");
    let catalog = Catalog::open(&path).unwrap();
    assert_eq!(catalog.jobs().await.unwrap(), rounds);
}

#[tokio::test]
async fn rounds_that_can_still_be_read_go_over_to_the_new_catalogue() {
    let (dir, catalog) = catalog();
    catalog.save_job(&interrupted(4)).await.unwrap();
    let path = dir.path().join("catalog.sqlite");
    closed(catalog, &path);
    alter(&path, "DROP TABLE quarantine");
    let catalog = Catalog::open(&path).unwrap();
    let note = catalog.note().unwrap();
    assert!(note.contains("quarantine is missing") && note.contains("1 rounds of the history were kept"), "{note}");
    assert_eq!(catalog.jobs().await.unwrap(), [interrupted(4)]);
}

fn alter(path: &Path, sql: &str) {
    let db = Connection::open(path).unwrap();
    db.execute_batch(&format!("PRAGMA ignore_check_constraints = 1; PRAGMA foreign_keys = 0; {sql}")).unwrap();
}

/// Every query failed once damage had been found, until somebody moved the file away by hand.
#[tokio::test]
async fn damage_that_is_met_later_is_mended_while_the_service_runs() {
    let (dir, catalog) = catalog();
    filled(&catalog, 50).await;
    let settle = "PRAGMA wal_checkpoint(TRUNCATE); PRAGMA shrink_memory";
    catalog.ask(move |db| db.execute_batch(settle)).await.unwrap();
    let file = fs::File::options().write(true).open(dir.path().join("catalog.sqlite")).unwrap();
    let (first_page, bytes) = (4096, file.metadata().unwrap().len());
    file.write_all_at(&vec![0xAA; bytes as usize - first_page], first_page as u64).unwrap();
    drop(file);
    assert_eq!(catalog.note(), None);
    let met = catalog.counts().await;
    assert!(matches!(met, Err(CatalogError::Damaged { .. })), "{met:?}");
    check(&catalog.counts().await.unwrap(), 0, 0);
    catalog.record(vec![image("a.jpg", 1, "aa")]).await.unwrap();
    check(&catalog.counts().await.unwrap(), 1, 0);
    assert!(catalog.note().unwrap().contains("taken in anew"));
    assert_eq!(damaged(dir.path()).len(), 1);
}

/// After a downgrade the service ended with exit code 1 at every start.
#[tokio::test]
async fn a_round_in_the_words_of_another_version_is_read_as_far_as_it_is_understood() {
    let (dir, catalog) = catalog();
    for number in 1..=5 {
        catalog.save_job(&interrupted(number)).await.unwrap();
    }
    let path = dir.path().join("catalog.sqlite");
    closed(catalog, &path);
    alter(
        &path,
        "UPDATE rounds SET state = 'paused' WHERE round = 1;
         UPDATE rounds SET state = 'failed', failure_kind = '\"too-hot\"', message = 'm', hint = 'h' WHERE round = 2;
         UPDATE rounds SET progress = '{\"stage\":\"dream\"}', warnings = 'no list' WHERE round = 3;
         UPDATE rounds SET images = -1 WHERE round = 4;
         UPDATE rounds SET state = 'promoted', generation = NULL WHERE round = 5",
    );
    let rounds = Catalog::open(&path).unwrap().jobs().await.unwrap();
    let failed = DetailedState::Failed(Failure::new(FailureKind::Internal, "m", "h"));
    let second = JobStatus { state: failed, ..interrupted(2) };
    assert_eq!(rounds, [interrupted(1), second, interrupted(3), interrupted(5)], "all but the one without sense");
}

/// Each start read the whole catalogue.
#[tokio::test]
async fn damage_that_a_start_does_not_look_for_is_met_by_what_reads_it() {
    let (dir, catalog) = catalog();
    filled(&catalog, 300).await;
    let root = "SELECT rootpage FROM sqlite_schema WHERE name = 'images'";
    let root: u64 = catalog.ask(move |db| db.query_row(root, [], |row| row.get(0))).await.unwrap();
    let path = dir.path().join("catalog.sqlite");
    closed(catalog, &path);
    let file = fs::File::options().write(true).open(&path).unwrap();
    FileExt::write_all_at(&file, &[0xa5; 4096], (root - 1) * 4096).unwrap();
    let catalog = Catalog::open(&path).unwrap();
    let error = catalog.record(vec![image("b.jpg", 1, "b")]).await.unwrap_err();
    assert!(matches!(error, CatalogError::Damaged { .. }), "{error}");
}

#[test]
fn a_newer_catalogue_is_left_alone() {
    let (dir, catalog) = catalog();
    drop(catalog);
    let path = dir.path().join("catalog.sqlite");
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 7).unwrap();
    let error = Catalog::open(&path).err().unwrap();
    assert!(matches!(error, CatalogError::Newer { found: 7, .. }), "{error}");
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
    let places = catalog.places(ids.to_vec()).await.unwrap();
    assert_eq!(places, expected.map(|paths| paths.iter().map(PathBuf::from).collect::<Vec<_>>()));
}

/// The service reported "unable to open database file", which did not show that the disk was read-only.
#[test]
fn a_disk_that_can_only_be_read_is_named_at_the_start() {
    if !entered("catalog::tests::a_disk_that_can_only_be_read_is_named_at_the_start", MOUNTS) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().display().to_string();
    run("mount", &["-t", "tmpfs", "none", &state]);
    let path = dir.path().join("catalog.sqlite");
    for is_known in [false, true] {
        if is_known {
            drop(Catalog::open(&path).unwrap());
            // The catalogue's thread removes the files beside the database when it ends.
            while dir.path().join("catalog.sqlite-wal").exists() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        run("mount", &["-o", "remount,ro", &state]);
        let error = Catalog::open(&path).unwrap_err();
        assert!(matches!(error, CatalogError::ReadOnly { .. }), "{is_known}: {error}");
        run("mount", &["-o", "remount,rw", &state]);
    }
    // Another reason why SQLite cannot open a file is not reported as a read-only disk.
    let error = Catalog::open(&dir.path().join("missing/catalog.sqlite")).unwrap_err();
    assert!(matches!(error, CatalogError::Sqlite { .. }), "{error}");
    run("umount", &[&state]);
}
