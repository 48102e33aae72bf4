//! Refused files, and when they are looked at again.

use super::*;

/// Such a file stayed rejected for ever, because the file had not changed.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_over_the_limit_is_taken_in_once_the_limit_is_raised() {
    let mut site = Site::new(limit(8));
    site.put("a.png", &picture(1));
    let intake = site.start();
    site.until(0, 1).await;
    assert!(site.reason().await.contains("ingest.file-limit"));
    intake.stop().await;
    site.settings = limit(1 << 20);
    let intake = site.start();
    site.until(1, 0).await;
    intake.stop().await;
}

/// Each start and each rescan read and decoded every refused file again, and warned of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_file_is_read_again_where_it_or_the_settings_have_changed() {
    let mut site = Site::new(Settings::default());
    site.put("a.png", b"Dear camera");
    let intake = site.start();
    site.until(0, 1).await;
    intake.stop().await;
    let observed = |site: &Site| {
        let path = site.path("a.png");
        let fingerprint = FileFingerprint::of(&fs::metadata(&path).unwrap());
        ObservedFile { source: site.dir.path().join("in"), path, fingerprint }
    };
    let marked = Entry::Quarantined { observed: observed(&site), reason: "marked by the test".into() };
    site.catalog.record(vec![marked]).await.unwrap();
    let intake = site.start();
    for _ in 0..5 {
        intake.rescan();
        tokio::time::sleep(RESCAN).await;
    }
    // This file is looked at after everything before it.
    site.put("b.png", &picture(1));
    site.until(1, 1).await;
    assert_eq!(site.reason().await, "marked by the test");
    let looked_at_again = async |site: &Site| {
        let since = Instant::now();
        while site.reason().await == "marked by the test" {
            assert!(since.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // As if libheif had been installed, or removed, after the file was refused.
    let judge = site.dir.path().join("pixels/judge");
    let noted = fs::read_to_string(&judge).unwrap();
    let other = noted.replace("libheif true", "libheif false");
    let other = if other == noted { noted.replace("libheif false", "libheif true") } else { other };
    assert_ne!(other, noted);
    fs::write(&judge, other).unwrap();
    intake.rescan();
    looked_at_again(&site).await;
    intake.stop().await;

    let marked = Entry::Quarantined { observed: observed(&site), reason: "marked by the test".into() };
    site.catalog.record(vec![marked]).await.unwrap();
    site.settings = limit(1 << 20);
    let intake = site.start();
    looked_at_again(&site).await;
    assert!(site.catalog.knows(&observed(&site), 16).await.unwrap());
    site.put("a.png", &picture(2));
    site.until(2, 0).await;
    intake.stop().await;
}

/// The service's permissions may change, and nothing about the file shows it.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_could_not_be_read_is_tried_again_by_each_scan() {
    let site = Site::new(Settings::default());
    site.put("a.png", &picture(1));
    let fingerprint =
        FileFingerprint { changed_ns: 0, ..FileFingerprint::of(&fs::metadata(site.path("a.png")).unwrap()) };
    let observed = ObservedFile { source: site.dir.path().join("in"), path: site.path("a.png"), fingerprint };
    let barred = Entry::Quarantined { observed, reason: "the file may not be read".into() };
    site.catalog.record(vec![barred]).await.unwrap();
    site.ingest().note_criteria().await;
    let intake = site.start();
    site.until(1, 0).await;
    intake.stop().await;
}

fn limit(bytes: u64) -> Settings {
    Settings { file_limit: bytesize::ByteSize::b(bytes), ..Settings::default() }
}
