//! The images that rounds choose from, and the eviction of the oldest.

use super::*;

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
