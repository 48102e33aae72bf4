//! Sources of whose pictures another part is looked at than before.

use super::*;

const PART: &str = "crop x=0 y=0 width=0.5 height=1";

fn of(source: &str, name: &str, id: &str) -> Entry {
    let Entry::Image { sighting, record } = image(name, 1, id) else { unreachable!("it is an image") };
    Entry::Image {
        sighting: Sighting { source: source.into(), path: Path::new(source).join(name), ..sighting },
        record,
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
    assert!(catalog.knows(&sighting("a.jpg", 1), CANONICAL_PX).await.unwrap(), "nothing has changed");

    cut(&catalog, PART).await;
    assert!(!catalog.knows(&sighting("a.jpg", 1), CANONICAL_PX).await.unwrap());
    let sources = ["/camera", "/yard"].map(PathBuf::from);
    let kept = catalog.pool(CANONICAL_PX, &sources).await.unwrap().kept;
    assert_eq!(kept, [ImageId("bb".into())], "what another source has is as it was");
    let waiting: Vec<u64> = catalog.standings(sources.to_vec()).await.unwrap().iter().map(|it| it.waiting).collect();
    assert_eq!(waiting, [0, 1]);
    let mut let_go =
        catalog.let_go_among(["aa", "bb", "old", "new"].map(|id| ImageId(id.into())).into()).await.unwrap();
    let_go.sort();
    assert_eq!(let_go, ["aa", "new", "old"].map(|id| ImageId(id.into())), "their pixels are removed");
    catalog.forget_overwritten(let_go).await.unwrap();
    assert_eq!(catalog.canonical_px(&ImageId("aa".into())).await.unwrap(), None);

    catalog.record(vec![of("/camera", "a.jpg", "part of aa")]).await.unwrap();
    cut(&catalog, PART).await;
    assert!(catalog.knows(&sighting("a.jpg", 1), CANONICAL_PX).await.unwrap(), "it is taken in once");
    // Back again.
    cut(&catalog, "").await;
    assert!(!catalog.knows(&sighting("a.jpg", 1), CANONICAL_PX).await.unwrap());
}
