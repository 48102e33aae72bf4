//! The intake on a real directory, with a real watch and catalogue.

mod hanging;
mod known;
mod refused;

use super::*;
use crate::decode_budget::DecodeBudget;
use crate::ingest::Settings;
use crate::observed_file::{FileFingerprint, ObservedFile};
use crate::watch::Source;
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
        let (mean, std, filter) = ([0.0; 3], [1.0; 3], Default::default());
        let preprocess = Preprocess { shortest_edge: 16, squash: false, crop: 16, mean, std, filter };
        Ingest::new(&self.settings, preprocess, self.dir.path().join("pixels"), DecodeBudget::default())
    }

    fn start(&self) -> Intake {
        self.start_telling().0
    }

    fn start_telling(&self) -> (Intake, watch::Receiver<IntakeStatus>) {
        self.start_with(&["in"])
    }

    /// Takes images in from these directories.
    fn start_with(&self, sources: &[&str]) -> (Intake, watch::Receiver<IntakeStatus>) {
        let source = |name: &&str| Source {
            path: self.dir.path().join(name),
            name: None,
            quiet_period: Duration::from_millis(10),
            rescan_interval: RESCAN,
            exclude: Default::default(),
            include: Default::default(),
            classify: true,
            crop: None,
            state: Default::default(),
        };
        let state_dir = self.dir.path().join("state");
        let watches = sources.iter().map(|name| crate::watch::start(&source(name), &state_dir).unwrap()).collect();
        Intake::start(watches, self.ingest(), self.catalog.clone())
    }

    /// Waits until `images` images and `quarantined` quarantined files are in the catalogue.
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

    /// Adds a picture and waits until it is taken in as the latest.
    async fn take(&self, number: u8) -> ImageId {
        let name = format!("{number}.png");
        self.put(&name, &picture(number));
        self.until(u64::from(number) + 1, 0).await;
        self.catalog.images_at(&self.path(&name), None).await.unwrap().pop().expect("it was taken in")
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

/// Waits until the status meets the condition.
async fn until(heard: &mut watch::Receiver<IntakeStatus>, so: impl Fn(&IntakeStatus) -> bool) -> IntakeStatus {
    let told = heard.wait_for(|status| so(status));
    tokio::time::timeout(PATIENCE, told).await.expect("it is told soon").expect("the intake runs").clone()
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

/// The latest file waited for all files that had come before.
#[tokio::test(flavor = "multi_thread")]
async fn of_many_files_that_come_at_once_the_latest_is_looked_at_first_and_stays_the_latest() {
    const MANY: u8 = 200;
    let site = Site::new(Settings::default());
    let large = large();
    // The byte after the picture's data changes the file's digest, but not the picture.
    let put = |name: &str, number: u8| site.put(name, &[&large[..], &[number]].concat());
    for number in 0..MANY {
        put(&format!("{number}.png"), number);
    }
    let (intake, mut heard) = site.start_telling();
    let waiting = until(&mut heard, |status| status.waiting.values().any(|files| *files > 100)).await.waiting;
    assert_eq!(waiting.keys().collect::<Vec<_>>(), [&site.dir.path().join("in")]);
    put("latest.png", MANY);
    let latest = loop {
        if let Some(image) = site.catalog.images_at(&site.path("latest.png"), None).await.unwrap().pop() {
            break image;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let taken = site.catalog.counts().await.unwrap().images;
    assert!(taken < u64::from(MANY), "{taken} of {MANY} were taken in before it");
    site.until(u64::from(MANY) + 1, 0).await;
    let pool = site.catalog.pool(16, &[site.dir.path().join("in")]).await.unwrap();
    assert_eq!(pool.kept[0], latest, "rounds choose by when pictures came");
    until(&mut heard, |status| status.waiting.values().all(|files| *files == 0)).await;
    intake.stop().await;
}

/// A picture that takes long to decode.
fn large() -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let noise = |x: u32, y: u32| Rgb([x as u8, (x * 31 + y * 17) as u8, (x * y) as u8]);
    RgbImage::from_fn(2000, 2000, noise).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// Clients were never informed, and the last byte of the disk was used.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_so_is_that_there_is_room_again() {
    let site = Site::new(Settings::default());
    // /proc never has a free byte.
    std::os::unix::fs::symlink("/proc", site.dir.path().join("pixels")).unwrap();
    for number in 0..3 {
        site.put(&format!("{number}.png"), &picture(number));
    }
    let (intake, mut heard) = site.start_telling();
    let told = until(&mut heard, |status| status.problem.is_some()).await.problem.unwrap();
    assert!(told.contains("the disk is full") && told.contains("pixels has 0 B free"), "{told}");
    tokio::time::sleep(10 * RESCAN).await;
    assert_eq!(heard.borrow().problem, Some(told), "it stays so");
    site.until(0, 0).await;

    fs::remove_file(site.dir.path().join("pixels")).unwrap();
    intake.rescan();
    until(&mut heard, |status| status.problem.is_none()).await;
    site.until(3, 0).await;
    intake.stop().await;
}
