//! The intake on a real directory, with a real watch and catalogue.

use super::*;
use crate::decode_budget::DecodeBudget;
use crate::ingest::Settings;
use crate::observed_file::{FileFingerprint, ObservedFile};
use crate::watch::Source;
use crate::watch::namespace::{MOUNTS, entered};
use coft_harness::file_systems::Bindfs;
use coft_vision::Preprocess;
use image::{Rgb, RgbImage};
use std::fs;
use std::path::Path;
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
        self.catalog.images_at(&self.path(&name)).await.unwrap().pop().expect("it was taken in")
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

fn limit(bytes: u64) -> Settings {
    Settings { file_limit: bytesize::ByteSize::b(bytes), ..Settings::default() }
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
        if let Some(image) = site.catalog.images_at(&site.path("latest.png")).await.unwrap().pop() {
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
    site.ingest().note_judge().await;
    let intake = site.start();
    site.until(1, 0).await;
    intake.stop().await;
}

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

/// Rescans, sources that came and went, and a status that nobody received waited for each other in a circle.
#[tokio::test(flavor = "multi_thread")]
async fn rescans_while_sources_come_and_go_freeze_nothing() {
    let site = Site::new(Settings::default());
    let names: Vec<String> = (0..60).map(|number| format!("cam{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (intake, mut heard) = site.start_with(&names);
    let all = async {
        for round in 0..8u8 {
            for (number, name) in names.iter().enumerate() {
                let dir = site.dir.path().join(name);
                if (number + usize::from(round)).is_multiple_of(2) {
                    let _ = fs::create_dir(&dir);
                    let _ = fs::write(dir.join("a.png"), picture(number as u8));
                } else {
                    let _ = fs::remove_dir_all(&dir);
                }
                intake.rescan();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        for name in &names {
            fs::create_dir_all(site.dir.path().join(name)).unwrap();
        }
        until(&mut heard, |status| status.sources.len() == 60 && status.sources.values().all(Option::is_none)).await;
        fs::write(site.dir.path().join("cam7/last.png"), picture(255)).unwrap();
        let last = fs::canonicalize(site.dir.path()).unwrap().join("cam7/last.png");
        while site.catalog.images_at(&last).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        intake.stop().await;
    };
    tokio::time::timeout(2 * PATIENCE, all).await.expect("everything goes on");
}

fn mounted(site: &Site, options: &[&str]) -> Option<Bindfs> {
    for name in ["store", "nas"] {
        fs::create_dir(site.dir.path().join(name)).unwrap();
    }
    Bindfs::mount(&site.dir.path().join("store"), &site.dir.path().join("nas"), options)
}

/// One slow mount kept every source from being taken in, was not reported, and delayed the end of the service.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_hangs_holds_up_no_other_and_not_the_end() {
    if !entered("app::intake::tests::a_source_that_hangs_holds_up_no_other_and_not_the_end", MOUNTS) {
        return;
    }
    let site = Site::new(Settings { threads: 1, ..Settings::default() });
    let Some(_fuse) = mounted(&site, &["--read-rate=100"]) else { return };
    for number in 0..20 {
        fs::write(site.dir.path().join(format!("store/{number}.png")), noise(number)).unwrap();
    }
    let (intake, mut heard) = site.start_with(&["nas", "in"]);
    for number in 0..10 {
        site.put(&format!("{number}.png"), &picture(number));
    }
    site.until(10, 0).await;
    let told =
        until(&mut heard, |status| status.sources.get(&site.dir.path().join("nas")).is_some_and(Option::is_some)).await;
    let problem = told.sources[&site.dir.path().join("nas")].clone().unwrap();
    assert!(problem.contains("has been read for more than 10 s"), "{problem}");
    assert_eq!(told.sources[&site.dir.path().join("in")], None);
    tokio::time::timeout(PATIENCE, intake.stop()).await.expect("it does not wait for the mount");
}

/// A file system that does not answer at all, with some of its files in work.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_does_not_answer_is_told_and_heals() {
    if !entered("app::intake::tests::a_source_that_does_not_answer_is_told_and_heals", MOUNTS) {
        return;
    }
    use nix::sys::signal::Signal;
    let site = Site::new(Settings::default());
    let Some(fuse) = mounted(&site, &[]) else { return };
    let (intake, mut heard) = site.start_with(&["nas", "in"]);
    fs::write(site.dir.path().join("store/0.png"), picture(0)).unwrap();
    site.until(1, 0).await;
    fuse.signal(Signal::SIGSTOP);
    let nas = site.dir.path().join("nas");
    let problem = |status: &IntakeStatus| status.sources.get(&nas).cloned().flatten();
    // A source without work is checked only now and then; the main loop does that.
    let look = async {
        loop {
            intake.look();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let told = tokio::select! {
        told = until(&mut heard, |status| problem(status).is_some()) => told,
        () = look => unreachable!("it looks again and again"),
    };
    assert!(problem(&told).unwrap().contains("has not answered for more than 10 s"), "{told:?}");
    site.put("1.png", &picture(1));
    site.until(2, 0).await;
    fuse.signal(Signal::SIGCONT);
    until(&mut heard, |status| problem(status).is_none()).await;
    fs::write(site.dir.path().join("store/2.png"), picture(2)).unwrap();
    site.until(3, 0).await;
    intake.stop().await;
}

/// Pixels that do not compress.
fn noise(number: u8) -> Vec<u8> {
    let mut state = u32::from(number) + 1;
    let mut bytes = std::io::Cursor::new(Vec::new());
    let image = RgbImage::from_fn(200, 200, |_, _| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Rgb([(state >> 24) as u8, (state >> 16) as u8, (state >> 8) as u8])
    });
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
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
                site.catalog.images_at(&path).await.unwrap()
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
