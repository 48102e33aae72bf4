//! Files whose content is known: they are decoded again only where their pixels are lost.

use super::*;
use std::path::Path;

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_images_are_evicted_and_not_taken_in_again() {
    let site = Site::new(Settings { most_images: 8, ..Settings::default() });
    let intake = site.start();
    let mut ids = Vec::new();
    for number in 0..10 {
        ids.push(site.take(number).await);
    }
    let pool = site.catalog.pool(16, &[site.dir.path().join("in")]).await.unwrap();
    assert_eq!((pool.kept.len(), pool.all), (10, 10), "a quarter more is within bounds");
    ids.push(site.take(10).await);
    site.until_cached(&ids[2..]).await;
    intake.rescan();
    tokio::time::sleep(10 * RESCAN).await;
    site.until_cached(&ids[2..]).await;
    let pool = site.catalog.pool(16, &[site.dir.path().join("in")]).await.unwrap();
    assert_eq!(
        (sorted(pool.kept), pool.all),
        (sorted(ids[2..].to_vec()), 11),
        "the latest eight, and one for a round that starts now"
    );
    assert_eq!(site.catalog.counts().await.unwrap().images, 11);
    assert!(site.path("0.png").is_file(), "the user's files stay");
    intake.stop().await;

    // If the service died between the record and the removal, the next start removes the pixels.
    fs::write(site.ingest().canonical_path(&ids[0]), "left behind").unwrap();
    let intake = site.start();
    site.until_cached(&ids[2..]).await;
    intake.stop().await;
}

/// After `chmod -R` everything was decoded again, and pixels that had been evicted were kept again.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_is_not_decoded_again_for_its_rights_date_or_name() {
    let site = Site::new(Settings { most_images: 4, ..Settings::default() });
    let intake = site.start();
    let mut ids = Vec::new();
    for number in 0..6 {
        ids.push(site.take(number).await);
    }
    site.until_cached(&ids[2..]).await;
    let set = |change: &dyn Fn(&Path)| (0..6).for_each(|number| change(&site.path(&format!("{number}.png"))));
    let settled = || async {
        let since = Instant::now();
        for number in 0..6 {
            let path = site.path(&format!("{number}.png"));
            let fingerprint = FileFingerprint::of(&fs::metadata(&path).unwrap());
            let observed = ObservedFile { source: site.dir.path().join("in"), path, fingerprint };
            while !site.catalog.knows(&observed, 16).await.unwrap() {
                assert!(since.elapsed() < PATIENCE, "{number} is not known as it is now");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    use std::os::unix::fs::PermissionsExt;
    set(&|path| fs::set_permissions(path, fs::Permissions::from_mode(0o640)).unwrap());
    settled().await;
    let yesterday = std::time::SystemTime::now() - Duration::from_secs(86400);
    set(&|path| fs::File::options().append(true).open(path).unwrap().set_modified(yesterday).unwrap());
    settled().await;
    let known = async |old: &str, new: &str| {
        let since = Instant::now();
        for (number, id) in ids.iter().enumerate() {
            let at = async |pattern: &str| {
                let path = site.path(&pattern.replace('N', &number.to_string()));
                site.catalog.images_at(&path, None).await.unwrap()
            };
            while at(new).await.first() != Some(id) {
                assert!(since.elapsed() < PATIENCE, "{number} is not known as {new}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert_eq!(at(old).await, [], "{number} is known as {old} as well");
        }
    };
    set(&|path| fs::rename(path, path.with_extension("jpg")).unwrap());
    known("N.png", "N.jpg").await;
    fs::create_dir(site.path("day")).unwrap();
    for number in 0..6 {
        let name = format!("{number}.jpg");
        fs::rename(site.path(&name), site.path("day").join(name)).unwrap();
    }
    known("N.png", "day/N.jpg").await;
    fs::rename(site.path("day"), site.path("night")).unwrap();
    known("day/N.jpg", "night/N.jpg").await;
    intake.stop().await;
    let pool = site.catalog.pool(16, &[site.dir.path().join("in")]).await.unwrap();
    assert_eq!((sorted(pool.kept), pool.all), (sorted(ids[2..].to_vec()), 6), "nothing was kept anew");
    site.until_cached(&ids[2..]).await;
}

/// A picture whose pixels were lost is decoded again, though its content is known.
#[tokio::test(flavor = "multi_thread")]
async fn known_content_without_pixels_is_decoded() {
    let site = Site::new(Settings::default());
    let intake = site.start();
    let id = site.take(0).await;
    fs::remove_file(site.ingest().canonical_path(&id)).unwrap();
    site.put("copy.png", &picture(0));
    site.until_cached(&[id]).await;
    intake.stop().await;
}
