//! What is forgotten once no file holds it and no round needs it.

use super::*;

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
    assert_eq!(catalog.images_at(Path::new("/camera/a5.jpg"), None).await.unwrap(), [ImageId("a5".into())]);
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
    assert_eq!(catalog.images_at(Path::new("/camera/a0.jpg"), None).await.unwrap(), []);
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
