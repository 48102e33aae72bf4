//! The intake on a real directory, with a real watch and catalogue.

use super::*;
use crate::ingest::Settings;
use crate::watch;
use coft_vision::Preprocess;
use image::{Rgb, RgbImage};
use std::fs;
use tempfile::TempDir;

/// Long enough for a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
const RESCAN: Duration = Duration::from_millis(50);

struct Site {
    dir: TempDir,
    settings: Settings,
    catalog: Catalog,
}

impl Site {
    fn new(settings: Settings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("in")).unwrap();
        let catalog = Catalog::open(&dir.path().join("catalog.sqlite")).unwrap();
        Self { dir, settings, catalog }
    }

    fn path(&self, name: &str) -> PathBuf {
        fs::canonicalize(self.dir.path()).unwrap().join("in").join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn ingest(&self) -> Ingest {
        let preprocess =
            Preprocess { shortest_edge: 16, crop: 16, mean: [0.0; 3], std: [1.0; 3], filter: Default::default() };
        Ingest::new(&self.settings, preprocess, self.dir.path().join("pixels"))
    }

    fn start(&self) -> Intake {
        let (intake, mut heard) = self.start_telling();
        tokio::spawn(async move { while heard.recv().await.is_some() {} });
        intake
    }

    /// What the intake has to say is to be read: it waits for its listener.
    fn start_telling(&self) -> (Intake, mpsc::Receiver<News>) {
        let quiet_period = Duration::from_millis(10);
        let source = watch::Source { path: self.dir.path().join("in"), quiet_period, rescan_interval: RESCAN };
        let (sender, notices) = mpsc::channel(16);
        let watch = watch::start(&[source], &sender).unwrap();
        let (news, heard) = mpsc::channel(16);
        (Intake::start(watch, notices, self.ingest(), self.catalog.clone(), news), heard)
    }

    /// Waits until so many images and quarantined files are catalogued.
    async fn until(&self, images: u64, quarantined: u64) {
        let since = Instant::now();
        loop {
            let counts = self.catalog.counts().await.unwrap();
            if (counts.images, counts.quarantined) == (images, quarantined) {
                return;
            }
            assert!(since.elapsed() < PATIENCE, "{counts:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn reason(&self) -> String {
        self.catalog.quarantine().await.unwrap().remove(0).1
    }

    /// Puts a picture there and waits until it is taken in as the latest.
    async fn take(&self, number: u8) -> ImageId {
        let name = format!("{number}.png");
        self.put(&name, &picture(number));
        self.until(u64::from(number) + 1, 0).await;
        let id = self.catalog.image_at(&self.path(&name)).await.unwrap().expect("it was taken in");
        // The catalogue orders by the second.
        let catalog = rusqlite::Connection::open(self.dir.path().join("catalog.sqlite")).unwrap();
        catalog.execute("UPDATE images SET added = ?1 WHERE id = ?2", (number, &id.0)).unwrap();
        id
    }

    /// Waits until the pixels of these images are kept, and of no others.
    async fn until_cached(&self, images: &[ImageId]) {
        let since = Instant::now();
        loop {
            let cached = sorted(self.ingest().cached().await);
            if cached == sorted(images.to_vec()) {
                return;
            }
            assert!(since.elapsed() < PATIENCE, "{cached:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The next problem that is told, or that there is none any more.
async fn problem(heard: &mut mpsc::Receiver<News>) -> Option<String> {
    let told = async {
        loop {
            if let News::Problem(problem) = heard.recv().await.expect("the intake runs") {
                return problem;
            }
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("it is told soon")
}

fn sorted(mut ids: Vec<ImageId>) -> Vec<ImageId> {
    ids.sort_unstable();
    ids
}

fn picture(number: u8) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    RgbImage::from_pixel(20, 20, Rgb([number; 3])).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn limit(bytes: u64) -> Settings {
    Settings { file_limit: bytesize::ByteSize::b(bytes), ..Settings::default() }
}

/// It stayed refused for ever, since the file had not changed.
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

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantined_file_is_looked_at_again_when_a_rescan_is_asked_for_and_not_by_the_clock() {
    let site = Site::new(Settings::default());
    site.put("a.png", b"Dear camera");
    let intake = site.start();
    site.until(0, 1).await;
    let marked = |sighting| Entry::Quarantined { sighting, reason: "marked by the test".into() };
    let metadata = fs::metadata(site.path("a.png")).unwrap();
    let stamp = crate::sighting::Stamp::of(&metadata);
    let sighting = Sighting { source: site.dir.path().join("in"), path: site.path("a.png"), stamp };
    site.catalog.record(vec![marked(sighting)]).await.unwrap();
    tokio::time::sleep(10 * RESCAN).await;
    assert_eq!(site.reason().await, "marked by the test");
    intake.rescan().await;
    let since = Instant::now();
    while site.reason().await == "marked by the test" {
        assert!(since.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    intake.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_images_are_let_go_and_not_taken_in_again() {
    let site = Site::new(Settings { most_images: 8, ..Settings::default() });
    let intake = site.start();
    let mut ids = Vec::new();
    for number in 0..10 {
        ids.push(site.take(number).await);
    }
    let pool = site.catalog.pool(16).await.unwrap();
    assert_eq!((pool.kept.len(), pool.all), (10, 10), "a quarter more is within bounds");
    ids.push(site.take(10).await);
    site.until_cached(&ids[2..]).await;
    intake.rescan().await;
    tokio::time::sleep(10 * RESCAN).await;
    site.until_cached(&ids[2..]).await;
    let pool = site.catalog.pool(16).await.unwrap();
    assert_eq!(
        (sorted(pool.kept), pool.all),
        (sorted(ids[2..].to_vec()), 11),
        "the latest eight, and one for a round that starts now"
    );
    assert_eq!(site.catalog.counts().await.unwrap().images, 11);
    assert!(site.path("0.png").is_file(), "the user's files stay");
    intake.stop().await;

    // What a crash left between the note and the removal goes at the next start.
    fs::write(site.ingest().canonical_path(&ids[0]), "left behind").unwrap();
    let intake = site.start();
    site.until_cached(&ids[2..]).await;
    intake.stop().await;
}

/// Clients were never told, and the last byte of the disk was taken.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_so_is_that_there_is_room_again() {
    let site = Site::new(Settings::default());
    // No byte of /proc is ever free.
    std::os::unix::fs::symlink("/proc", site.dir.path().join("pixels")).unwrap();
    for number in 0..3 {
        site.put(&format!("{number}.png"), &picture(number));
    }
    let (intake, mut heard) = site.start_telling();
    let told = problem(&mut heard).await.expect("it is full");
    assert!(told.contains("the disk is full") && told.contains("pixels has 0 B free"), "{told}");
    tokio::time::sleep(10 * RESCAN).await;
    while let Ok(news) = heard.try_recv() {
        assert!(!matches!(news, News::Problem(_)), "it is told once: {news:?}");
    }
    site.until(0, 0).await;

    fs::remove_file(site.dir.path().join("pixels")).unwrap();
    intake.rescan().await;
    assert_eq!(problem(&mut heard).await, None);
    tokio::spawn(async move { while heard.recv().await.is_some() {} });
    site.until(3, 0).await;
    intake.stop().await;
}
