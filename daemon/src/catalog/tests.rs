//! The catalogue on a real file.

use super::*;
use crate::control::{RoundState, RoundStatus};
use coft_core::event::{FailureKind, Progress, Stage};
use coft_core::ids::{GenerationId, RoundId};
use std::fs;
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
    let status = |number, state| RoundStatus {
        round: RoundId(number),
        trigger: "manual".into(),
        started: 100,
        ended: Some(200),
        images: 7,
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
        RoundStatus { ended: None, progress: Some(progress), ..status(6, RoundState::Running) },
    ];
    for round in &rounds {
        catalog.save_round(&RoundStatus { warnings: Vec::new(), ..round.clone() }).await.unwrap();
        catalog.save_round(round).await.unwrap();
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

#[test]
fn a_damaged_catalogue_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.sqlite");
    fs::write(&path, "this is no database, but it is long enough to be taken for one".repeat(100)).unwrap();
    let error = Catalog::open(&path).err().unwrap().to_string();
    assert!(error.contains(&path.display().to_string()) && error.contains("is damaged"), "{error}");
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
