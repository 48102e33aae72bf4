//! The catalogue on a real file.

use super::*;
use crate::control::{RoundState, RoundStatus};
use coft_core::event::{FailureKind, Progress, Stage};
use coft_core::ids::{GenerationId, RoundId};
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

fn sighting(path: &str, version: i64) -> Sighting {
    let stamp = Stamp { bytes: 9, modified_ns: version, changed_ns: version };
    Sighting { source: "/camera".into(), path: Path::new("/camera").join(path), stamp }
}

fn image(path: &str, version: i64, id: &str) -> Entry {
    let record =
        ImageRecord { id: ImageId(id.into()), width_px: 3, height_px: 2, bytes: 9, canonical_px: CANONICAL_PX };
    Entry::Image { sighting: sighting(path, version), record }
}

fn bad(path: &str, version: i64) -> Entry {
    Entry::Quarantined { sighting: sighting(path, version), reason: "the file is empty".into() }
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
        assert!(catalog.knows(&sighting(path, 1), CANONICAL_PX).await.unwrap(), "{path}");
    }
    assert_eq!(catalog.pool(CANONICAL_PX).await.unwrap().kept, [ImageId("aa".into()), ImageId("bb".into())]);
}

#[tokio::test]
async fn a_rewritten_file_is_a_new_image_and_the_old_one_stays() {
    let (_dir, catalog) = catalog();
    catalog.record(vec![image("a.jpg", 1, "aa")]).await.unwrap();
    assert!(!catalog.knows(&sighting("a.jpg", 2), CANONICAL_PX).await.unwrap());
    catalog.record(vec![image("a.jpg", 2, "bb")]).await.unwrap();
    check(&catalog.counts().await.unwrap(), 2, 0);
    assert!(catalog.knows(&sighting("a.jpg", 2), CANONICAL_PX).await.unwrap());
    assert!(!catalog.knows(&sighting("a.jpg", 1), CANONICAL_PX).await.unwrap());
}

#[tokio::test]
async fn a_quarantined_file_is_tried_again_once_it_changes() {
    let (_dir, catalog) = catalog();
    catalog.record(vec![bad("a.jpg", 1), bad("day/b.jpg", 1), bad("day2/c.jpg", 1)]).await.unwrap();
    check(&catalog.counts().await.unwrap(), 0, 3);
    assert!(catalog.knows(&sighting("a.jpg", 1), CANONICAL_PX).await.unwrap());
    assert!(!catalog.knows(&sighting("a.jpg", 2), CANONICAL_PX).await.unwrap());
    catalog.record(vec![image("a.jpg", 2, "aa"), Entry::Gone("/camera/day".into())]).await.unwrap();
    check(&catalog.counts().await.unwrap(), 1, 1);
    let left = catalog.quarantine().await.unwrap();
    assert_eq!(left, [(PathBuf::from("/camera/day2/c.jpg"), "the file is empty".to_owned())]);
}

#[tokio::test]
async fn lost_pixels_leave_the_pool_until_they_are_made_again() {
    let (_dir, catalog) = catalog();
    catalog.record(vec![image("a.jpg", 1, "aa")]).await.unwrap();
    assert!(catalog.pool(224).await.unwrap().kept.is_empty(), "another model looks at another size");
    assert!(!catalog.knows(&sighting("a.jpg", 1), 224).await.unwrap());
    catalog.pixels_lost(vec![ImageId("aa".into())]).await.unwrap();
    assert!(catalog.pool(CANONICAL_PX).await.unwrap().kept.is_empty());
    assert!(!catalog.knows(&sighting("a.jpg", 1), CANONICAL_PX).await.unwrap());
    check(&catalog.counts().await.unwrap(), 1, 0);
    catalog.record(vec![image("a.jpg", 1, "aa")]).await.unwrap();
    assert_eq!(catalog.pool(CANONICAL_PX).await.unwrap().kept.len(), 1);
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
async fn the_oldest_images_are_let_go_and_stay_known() {
    let (_dir, catalog) = catalog();
    filled(&catalog, 6).await;
    assert_eq!(catalog.let_go(CANONICAL_PX, 6, 4).await.unwrap(), [], "not over the limit");
    let mut let_go = catalog.let_go(CANONICAL_PX, 5, 4).await.unwrap();
    let_go.sort_unstable();
    assert_eq!(let_go, ids(&["a0", "a1"]));
    let pool = catalog.pool(CANONICAL_PX).await.unwrap();
    assert_eq!(pool, Pool { kept: ids(&["a5", "a4", "a3", "a2"]), all: 6 });
    check(&catalog.counts().await.unwrap(), 6, 0);
    for number in 0..6 {
        assert!(catalog.knows(&sighting(&format!("a{number}.jpg"), 1), CANONICAL_PX).await.unwrap(), "a{number}");
    }
    assert_eq!(catalog.let_go_among(ids(&["a1", "a2", "stranger"])).await.unwrap(), ids(&["a1"]));
    // Pixels that are removed on purpose are not lost.
    catalog.pixels_lost(ids(&["a1", "a2"])).await.unwrap();
    assert!(catalog.knows(&sighting("a1.jpg", 1), CANONICAL_PX).await.unwrap());
    assert!(!catalog.knows(&sighting("a2.jpg", 1), CANONICAL_PX).await.unwrap());
}

#[tokio::test]
async fn a_copy_of_an_image_that_was_let_go_is_no_new_image() {
    let (_dir, catalog) = catalog();
    filled(&catalog, 4).await;
    catalog.let_go(CANONICAL_PX, 2, 2).await.unwrap();
    catalog.record(vec![image("copy.jpg", 1, "a0")]).await.unwrap();
    check(&catalog.counts().await.unwrap(), 4, 0);
    assert_eq!(catalog.pool(CANONICAL_PX).await.unwrap().kept, ids(&["a3", "a2", "a0"]), "it stays the oldest");
    assert_eq!(catalog.let_go(CANONICAL_PX, 2, 2).await.unwrap(), ids(&["a0"]));
}

#[tokio::test]
async fn the_latest_image_is_the_latest_whatever_the_clock_says() {
    let (_dir, catalog) = catalog();
    catalog.record(vec![image("b.jpg", 1, "b")]).await.unwrap();
    catalog.ask(|db| db.execute("UPDATE images SET added = added + 1000000", [])).await.unwrap();
    for id in ["c", "a"] {
        catalog.record(vec![image(id, 1, id)]).await.unwrap();
    }
    assert_eq!(catalog.pool(CANONICAL_PX).await.unwrap().kept, ids(&["a", "c", "b"]));
}

#[tokio::test]
async fn a_doubted_quarantined_file_is_looked_at_again() {
    let (_dir, catalog) = catalog();
    catalog.record(vec![bad("a.jpg", 1)]).await.unwrap();
    catalog.doubt_quarantine().await.unwrap();
    assert!(!catalog.knows(&sighting("a.jpg", 1), CANONICAL_PX).await.unwrap());
    check(&catalog.counts().await.unwrap(), 0, 1);
    catalog.record(vec![bad("a.jpg", 1)]).await.unwrap();
    assert!(catalog.knows(&sighting("a.jpg", 1), CANONICAL_PX).await.unwrap());
}

#[tokio::test]
async fn a_file_that_has_gone_is_still_found_by_its_path() {
    let (_dir, catalog) = catalog();
    catalog.record(vec![image("a.jpg", 1, "aa"), Entry::Gone("/camera/a.jpg".into())]).await.unwrap();
    assert_eq!(catalog.image_at(Path::new("/camera/a.jpg")).await.unwrap(), Some(ImageId("aa".into())));
    assert_eq!(catalog.image_at(Path::new("/camera/b.jpg")).await.unwrap(), None);
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let (dir, catalog) = catalog();
    let moment = |second| Moment { boot: Some(BootId(9)), since_boot: Duration::from_millis(1500), wall: second };
    let status = |number, state| RoundStatus {
        round: RoundId(number),
        trigger: "manual".into(),
        started: moment(100),
        ended: Some(moment(200)),
        images: 7,
        // Seeds need all their bits.
        seed: Some(u64::MAX),
        continues: Some(RoundId(3)),
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
    let failure =
        RoundState::Failed { kind: FailureKind::DiskFull, message: "no space".into(), hint: "free some".into() };
    let rounds = [
        status(1, RoundState::Promoted(GenerationId(1))),
        status(2, RoundState::Kept("the answers differ".into())),
        status(3, failure),
        status(4, RoundState::Cancelled),
        status(5, RoundState::Interrupted),
        RoundStatus { ended: None, progress: Some(progress.clone()), ..status(6, RoundState::Running) },
    ];
    for round in &rounds {
        catalog.save_round(&RoundStatus { warnings: Vec::new(), progress: None, ..round.clone() }).await.unwrap();
        catalog.save_round(round).await.unwrap();
    }
    // Progress of one that runs, and late news of one that has ended.
    catalog.save_round(&RoundStatus { progress: None, ..rounds[5].clone() }).await.unwrap();
    for number in [4, 6] {
        catalog.save_progress(RoundId(number), &progress).await.unwrap();
    }
    catalog.record(vec![image("a.jpg", 1, "aa"), bad("b.jpg", 1)]).await.unwrap();
    drop(catalog);
    let catalog = Catalog::open(&dir.path().join("catalog.sqlite")).unwrap();
    assert_eq!(catalog.rounds().await.unwrap(), rounds);
    check(&catalog.counts().await.unwrap(), 1, 1);
}

#[tokio::test]
async fn names_need_not_be_text() {
    let (_dir, catalog) = catalog();
    let path = Path::new(OsStr::from_bytes(b"/camera/\xff.jpg")).to_owned();
    let sighting = Sighting { path: path.clone(), ..sighting("x", 1) };
    catalog.record(vec![Entry::Quarantined { sighting, reason: "r".into() }]).await.unwrap();
    assert_eq!(catalog.quarantine().await.unwrap(), [(path, "r".to_owned())]);
}

/// It ended the service at each start.
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

/// Waits until nobody has the catalogue open any more: its thread closes it, and removes the log with that.
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

fn interrupted(number: u64) -> RoundStatus {
    RoundStatus {
        round: RoundId(number),
        trigger: "manual".into(),
        started: Moment::at_wall(100),
        ended: Some(Moment::at_wall(200)),
        images: 7,
        seed: None,
        continues: None,
        state: RoundState::Interrupted,
        progress: None,
        warnings: Vec::new(),
    }
}

/// The last version wrote neither boot ids nor what a round takes up.
#[tokio::test]
async fn rounds_of_the_last_version_are_still_there() {
    let (dir, catalog) = catalog();
    catalog.save_round(&interrupted(4)).await.unwrap();
    let path = dir.path().join("catalog.sqlite");
    closed(catalog, &path);
    let columns = ["started_boot", "started_ms", "ended_boot", "ended_ms", "seed", "continues"];
    alter(&path, &columns.map(|column| format!("ALTER TABLE rounds DROP COLUMN {column};")).concat());
    let catalog = Catalog::open(&path).unwrap();
    assert_eq!((catalog.note(), catalog.rounds().await.unwrap()), (None, vec![interrupted(4)]));
    catalog.save_round(&interrupted(5)).await.unwrap();
    closed(catalog, &path);

    // Damaged, it goes over to one that has them.
    alter(&path, "DROP TABLE quarantine; ALTER TABLE rounds DROP COLUMN seed;");
    let catalog = Catalog::open(&path).unwrap();
    assert_eq!(catalog.rounds().await.unwrap(), [interrupted(4), interrupted(5)]);
}

#[tokio::test]
async fn rounds_that_can_still_be_read_go_over_to_the_new_catalogue() {
    let (dir, catalog) = catalog();
    catalog.save_round(&interrupted(4)).await.unwrap();
    let path = dir.path().join("catalog.sqlite");
    closed(catalog, &path);
    alter(&path, "DROP TABLE quarantine");
    let catalog = Catalog::open(&path).unwrap();
    let note = catalog.note().unwrap();
    assert!(note.contains("quarantine is missing") && note.contains("1 rounds of the history were kept"), "{note}");
    assert_eq!(catalog.rounds().await.unwrap(), [interrupted(4)]);
}

fn alter(path: &Path, sql: &str) {
    let db = Connection::open(path).unwrap();
    db.execute_batch(&format!("PRAGMA ignore_check_constraints = 1; PRAGMA foreign_keys = 0; {sql}")).unwrap();
}

/// Every query failed from then on, until somebody moved the file away by hand.
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

/// After a downgrade the service ended with exit code 1 for ever.
#[tokio::test]
async fn a_round_in_the_words_of_another_version_is_read_as_far_as_it_is_understood() {
    let (dir, catalog) = catalog();
    for number in 1..=5 {
        catalog.save_round(&interrupted(number)).await.unwrap();
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
    let rounds = Catalog::open(&path).unwrap().rounds().await.unwrap();
    let failed = RoundState::Failed { kind: FailureKind::Internal, message: "m".into(), hint: "h".into() };
    let second = RoundStatus { state: failed, ..interrupted(2) };
    assert_eq!(rounds, [interrupted(1), second, interrupted(3), interrupted(5)], "all but the one without sense");
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
        from: format!("/camera/{from}").into(),
        to: format!("/camera/{to}").into(),
    };
    catalog.record(vec![moved("day", "night")]).await.unwrap();
    for path in ["night/a.jpg", "night/b/c.jpg", "day0.jpg", "night/d.jpg"] {
        assert!(catalog.knows(&sighting(path, 1), CANONICAL_PX).await.unwrap(), "{path}");
    }
    for path in ["day/a.jpg", "day/b/c.jpg", "day/d.jpg", "night/old.jpg"] {
        assert!(!catalog.knows(&sighting(path, 1), CANONICAL_PX).await.unwrap(), "{path}");
    }
    assert_eq!(catalog.quarantined_in(Path::new("/camera")).await.unwrap(), [Path::new("/camera/night/d.jpg")]);
    catalog.record(vec![moved("night/a.jpg", "x.jpg")]).await.unwrap();
    assert!(catalog.knows(&sighting("x.jpg", 1), CANONICAL_PX).await.unwrap());
    check(&catalog.counts().await.unwrap(), 4, 1);
}

#[tokio::test]
async fn a_file_with_known_content_is_known_and_one_with_forgotten_content_is_not() {
    let (_dir, catalog) = catalog();
    catalog.record(vec![image("a.jpg", 1, "aa"), bad("b.jpg", 1)]).await.unwrap();
    let seen = |path, id: &str| Entry::Seen { sighting: sighting(path, 2), image: ImageId(id.into()) };
    catalog.record(vec![seen("a.jpg", "aa"), seen("b.jpg", "aa"), seen("c.jpg", "zz")]).await.unwrap();
    for (path, known) in [("a.jpg", true), ("b.jpg", true), ("c.jpg", false)] {
        assert_eq!(catalog.knows(&sighting(path, 2), CANONICAL_PX).await.unwrap(), known, "{path}");
    }
    check(&catalog.counts().await.unwrap(), 1, 0);
    assert_eq!(catalog.canonical_px(&ImageId("aa".into())).await.unwrap(), Some(CANONICAL_PX));
    assert_eq!(catalog.canonical_px(&ImageId("zz".into())).await.unwrap(), None);
}
