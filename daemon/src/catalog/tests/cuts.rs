//! Sources that use another part of their pictures than before.

use super::*;

const PART: &str = "crop x=0 y=0 width=0.5 height=1";

fn of(source: &str, name: &str, id: &str) -> Entry {
    let Entry::Image { observed, record, came } = image(name, 1, id) else { unreachable!("it is an image") };
    Entry::Image {
        observed: ObservedFile { source: source.into(), path: Path::new(source).join(name), ..observed },
        record,
        came,
    }
}

async fn cut(catalog: &Catalog, part: &str) {
    catalog.cut_as(vec![("/camera".into(), part.into()), ("/yard".into(), String::new())]).await.unwrap();
}

#[tokio::test]
async fn the_pictures_of_a_source_that_is_cut_otherwise_are_taken_in_as_new_ones() {
    let (_dir, catalog) = catalog();
    let catalog = catalog.answering(vec!["/camera".into(), "/yard".into()]);
    cut(&catalog, "").await;
    let entries = vec![of("/camera", "a.jpg", "aa"), of("/camera", "both.jpg", "bb"), of("/yard", "b.jpg", "bb")];
    catalog.record(entries).await.unwrap();
    catalog.record(vec![image("old.jpg", 1, "old")]).await.unwrap();
    catalog.record(vec![image("old.jpg", 2, "new")]).await.unwrap();
    cut(&catalog, "").await;
    assert!(catalog.knows(&observed("a.jpg", 1), CANONICAL_PX).await.unwrap(), "nothing has changed");

    cut(&catalog, PART).await;
    assert!(!catalog.knows(&observed("a.jpg", 1), CANONICAL_PX).await.unwrap());
    let sources = ["/camera", "/yard"].map(PathBuf::from);
    let kept = catalog.pool(CANONICAL_PX, &sources).await.unwrap().kept;
    assert_eq!(kept, [ImageId("bb".into())], "what another source has is as it was");
    let waiting: Vec<u64> = catalog.standings(sources.to_vec()).await.unwrap().iter().map(|it| it.waiting).collect();
    assert_eq!(waiting, [0, 1]);
    let mut evicted =
        catalog.evict_among(["aa", "bb", "old", "new"].map(|id| ImageId(id.into())).into()).await.unwrap();
    evicted.sort();
    assert_eq!(evicted, ["aa", "new", "old"].map(|id| ImageId(id.into())), "their pixels are removed");
    catalog.forget_overwritten(evicted).await.unwrap();
    assert_eq!(catalog.canonical_px(&ImageId("aa".into())).await.unwrap(), None);

    catalog.record(vec![of("/camera", "a.jpg", "part of aa")]).await.unwrap();
    cut(&catalog, PART).await;
    assert!(catalog.knows(&observed("a.jpg", 1), CANONICAL_PX).await.unwrap(), "it is taken in once");
    // The old part again.
    cut(&catalog, "").await;
    assert!(!catalog.knows(&observed("a.jpg", 1), CANONICAL_PX).await.unwrap());
}

/// Of two sources with the same directory, only the one that looked at a file last knew the file.
#[tokio::test]
async fn two_sources_with_the_same_files_know_nothing_of_each_other() {
    let (_dir, catalog) = catalog();
    let seen = |source: &str, id: &str| {
        let Entry::Image { observed, record, came } = image("a.jpg", 1, id) else { unreachable!("it is an image") };
        Entry::Image { observed: ObservedFile { source: source.into(), ..observed }, record, came }
    };
    let refused = |source: &str| Entry::Quarantined {
        observed: ObservedFile { source: source.into(), ..observed("b.jpg", 1) },
        reason: "r".into(),
    };
    let catalog = catalog.answering(vec!["left".into(), "right".into()]);
    catalog.record(vec![seen("left", "l1"), seen("right", "r1"), refused("left"), refused("right")]).await.unwrap();
    let knows = async |source: &str, path: &str| {
        let observed = ObservedFile { source: source.into(), ..observed(path, 1) };
        catalog.knows(&observed, CANONICAL_PX).await.unwrap()
    };
    for (source, path) in [("left", "a.jpg"), ("right", "a.jpg"), ("left", "b.jpg"), ("right", "b.jpg")] {
        assert!(knows(source, path).await, "{source} {path}");
    }
    assert_eq!(
        catalog.images_at(Path::new("/camera/a.jpg"), None).await.unwrap(),
        ["l1", "r1"].map(|id| ImageId(id.into()))
    );
    let waiting = async |source: &str| catalog.unanswered(Path::new(source), Turn::First, 9).await.unwrap().len();
    assert_eq!((waiting("left").await, waiting("right").await), (1, 1));

    let [source, from, to] = ["left", "/camera/a.jpg", "/camera/c.jpg"].map(PathBuf::from);
    let gone = Entry::Gone { source: "left".into(), path: "/camera/b.jpg".into() };
    catalog.record(vec![Entry::Moved { source, from, to }, gone]).await.unwrap();
    for (source, path, known) in [
        ("left", "a.jpg", false),
        ("left", "c.jpg", true),
        ("left", "b.jpg", false),
        ("right", "a.jpg", true),
        ("right", "c.jpg", false),
        ("right", "b.jpg", true),
    ] {
        assert_eq!(knows(source, path).await, known, "{source} {path}");
    }
    let counts = catalog.counts().await.unwrap().sources;
    assert_eq!((counts[Path::new("left")], counts[Path::new("right")]), ((1, 0), (1, 1)));
}

#[tokio::test]
async fn a_source_that_gets_a_name_keeps_what_it_had() {
    let (_dir, catalog) = catalog();
    let catalog = catalog.answering(vec!["/camera".into()]);
    cut(&catalog, PART).await;
    catalog.record(vec![image("a.jpg", 1, "a"), bad("b.jpg", 1)]).await.unwrap();
    let named = [("/camera", "left"), ("/camera", "right"), ("/new", "new")];
    let named = named.map(|(dir, name)| (PathBuf::from(dir), PathBuf::from(name))).to_vec();
    for _ in 0..2 {
        catalog.name_sources(named.clone()).await.unwrap();
        catalog.cut_as(vec![("left".into(), PART.into()), ("right".into(), String::new())]).await.unwrap();
        let counts = catalog.counts().await.unwrap().sources;
        assert_eq!(counts.into_iter().collect::<Vec<_>>(), [(PathBuf::from("left"), (1, 1))]);
        assert_eq!(catalog.pool(CANONICAL_PX, &["left".into()]).await.unwrap().kept, [ImageId("a".into())]);
        let observed = ObservedFile { source: "left".into(), ..observed("a.jpg", 1) };
        assert!(catalog.knows(&observed, CANONICAL_PX).await.unwrap());
        assert_eq!(catalog.unanswered(Path::new("left"), Turn::First, 9).await.unwrap().len(), 1);
    }
}
