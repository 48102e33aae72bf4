//! Every kind of file that may appear in a watched directory.

use super::*;
use crate::observed_file::{FileFingerprint, ImageRecord, ObservedFile};
use coft_core::ids::ImageId;
use image::{ImageFormat, Rgb, RgbImage};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::Cursor;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use tempfile::TempDir;

struct Folder {
    dir: TempDir,
    ingest: Ingest,
}

fn ingest(dir: &Path) -> Ingest {
    let (mean, std, filter) = ([0.0; 3], [1.0; 3], Default::default());
    let preprocess = Preprocess { shortest_edge: 16, squash: false, crop: 16, mean, std, filter };
    let settings = Settings { file_limit: ByteSize::kib(64), threads: 1, ..Settings::default() };
    Ingest::new(&settings, preprocess, dir.join("pixels"), DecodeBudget::default())
}

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("in")).unwrap();
        let ingest = ingest(dir.path());
        Self { dir, ingest }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("in").join(name)
    }

    fn observed(&self, name: &str) -> ObservedFile {
        let path = self.path(name);
        let fingerprint = FileFingerprint::of(&fs::symlink_metadata(&path).unwrap());
        ObservedFile { source: self.dir.path().join("in"), path, fingerprint }
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<ImageRecord, Unready> {
        fs::write(self.path(name), bytes).unwrap();
        self.take(&self.observed(name))
    }

    fn take(&self, observed: &ObservedFile) -> Result<ImageRecord, Unready> {
        self.ingest.read_now(observed, &|| true).and_then(|content| self.ingest.keep_now(content))
    }

    #[track_caller]
    fn refuses(&self, name: &str, bytes: &[u8], why: &str) {
        match self.put(name, bytes) {
            Err(Unready::Rejected(rejection)) => {
                assert!(rejection.reason.contains(why), "{}", rejection.reason);
                assert!(rejection.lasts, "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
        assert_eq!(fs::read(self.path(name)).unwrap(), bytes, "the user's file is untouched");
        assert!(!self.dir.path().join("pixels").exists(), "nothing is kept of a bad file");
    }
}

fn picture(format: ImageFormat, width: u32, height: u32) -> Vec<u8> {
    let image = RgbImage::from_fn(width, height, |x, y| Rgb([(x * 7) as u8, (y * 5) as u8, (x * y) as u8]));
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A few such pictures in the folder made the kernel kill the service for its memory use at each start.
#[tokio::test(flavor = "multi_thread")]
async fn pictures_that_take_much_memory_are_decoded_within_the_budget_or_refused() {
    let folder = Folder::new();
    let settings = Settings { threads: 4, ..Settings::default() };
    let preprocess = folder.ingest.shared.preprocess.clone();
    let budget = DecodeBudget::new(&crate::decode_budget::Settings { memory: ByteSize::mib(32) });
    let ingest = Ingest::new(&settings, preprocess, folder.dir.path().join("pixels"), budget);
    let deep = |width, height, shade: u16| {
        let image = image::ImageBuffer::from_fn(width, height, |x, y| Rgb([x as u16 * 20, y as u16 * 20, shade << 8]));
        let mut bytes = Cursor::new(Vec::new());
        image::DynamicImage::ImageRgb16(image).write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    };
    fs::write(folder.path("bomb.png"), deep(3000, 2000, 1)).unwrap();
    let take = async |observed: ObservedFile| ingest.keep(ingest.read(observed).await?).await;
    let Err(Unready::Rejected(Rejection { reason, .. })) = take(folder.observed("bomb.png")).await else {
        panic!("it is taken in")
    };
    for part in ["3000×2000 px", "over the limit of 32.0 MiB", "memory in [decode]"] {
        assert!(reason.contains(part), "{reason}");
    }
    let taken = (0..6).map(|number| {
        let name = format!("{number}.png");
        fs::write(folder.path(&name), deep(1600, 1200, number)).unwrap();
        take(folder.observed(&name))
    });
    for taken in futures_util::future::join_all(taken.collect::<Vec<_>>()).await {
        assert!(taken.is_ok(), "{taken:?}");
    }
}

#[test]
fn an_image_is_hashed_and_its_canonical_pixels_are_kept() {
    let folder = Folder::new();
    let bytes = picture(ImageFormat::Png, 64, 32);
    let record = folder.put("a.png", &bytes).unwrap();
    assert_eq!((record.width_px, record.height_px, record.canonical_px), (64, 32, 16));
    assert_eq!((record.bytes, &record.id.0), (bytes.len() as u64, &coft_fs::hex(&Sha256::digest(&bytes))));
    let kept = folder.ingest.canonical_path(&record.id);
    assert!(kept.ends_with(format!("pixels/16/{}/{}.qoi", &record.id.0[..2], record.id)), "{}", kept.display());
    let pixels = coft_vision::decode(&fs::read(kept).unwrap()).unwrap().pixels;
    assert_eq!(pixels.dimensions(), (32, 16));
}

#[test]
fn the_content_decides_and_not_the_name() {
    let folder = Folder::new();
    assert!(folder.put("png.jpg", &picture(ImageFormat::Png, 20, 20)).is_ok());
    assert!(folder.put("no extension", &picture(ImageFormat::Jpeg, 20, 20)).is_ok());
}

#[test]
fn each_bad_file_has_its_reason() {
    let folder = Folder::new();
    let (jpeg, png) = (picture(ImageFormat::Jpeg, 64, 64), picture(ImageFormat::Png, 64, 64));
    folder.refuses("empty.jpg", b"", "the file is empty");
    folder.refuses("text.jpg", b"these are not the pixels you are looking for", "not an image");
    folder.refuses("half.jpg", &jpeg[..jpeg.len() / 2], "the JPEG image is cut off");
    folder.refuses("half.png", &png[..png.len() / 2], "the PNG image is cut off");
    // A header that claims 60000×60000 px, followed by next to nothing.
    let mut huge = picture(ImageFormat::Bmp, 4, 4);
    huge[18..22].copy_from_slice(&60_000u32.to_le_bytes());
    huge[22..26].copy_from_slice(&60_000u32.to_le_bytes());
    folder.refuses("huge.bmp", &huge, "too large: 60000×60000 px");
    folder.refuses("long.jpg", &[&jpeg[..], &[7; 65 * 1024]].concat(), "raise ingest.file-limit");
}

/// Each video was read completely, up to the limit. A larger one was reported as an image that is too large.
#[test]
fn a_video_is_known_by_its_beginning() {
    let folder = Folder::new();
    for (name, head) in [
        ("a.mp4", &b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41"[..]),
        ("b.dav", b"DHAV"),
        ("c.avi", b"RIFF\0\0\0\0AVI "),
    ] {
        fs::write(folder.path(name), head).unwrap();
        File::options().write(true).open(folder.path(name)).unwrap().set_len(1 << 40).unwrap();
        match folder.take(&folder.observed(name)) {
            Err(Unready::Rejected(rejection)) => {
                assert!(!rejection.reason.contains("file-limit"), "{name}: {}", rejection.reason)
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn links_and_pipes_are_no_images() {
    let folder = Folder::new();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("a.png"), picture(ImageFormat::Png, 20, 20)).unwrap();
    symlink(outside.path().join("a.png"), folder.path("link.png")).unwrap();
    symlink(outside.path(), folder.path("dir")).unwrap();
    nix::unistd::mkfifo(&folder.path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for (name, why) in [("link.png", "not a regular file"), ("pipe", "not a regular file"), ("dir/a.png", "leads out")]
    {
        match folder.take(&folder.observed(name)) {
            Err(Unready::Rejected(rejection)) => {
                assert!(rejection.reason.contains(why), "{name}: {}", rejection.reason)
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn a_file_that_changed_since_it_settled_is_left_for_later() {
    let folder = Folder::new();
    fs::write(folder.path("a.png"), picture(ImageFormat::Png, 20, 20)).unwrap();
    let observed = folder.observed("a.png");
    fs::write(folder.path("a.png"), picture(ImageFormat::Png, 24, 20)).unwrap();
    assert!(matches!(folder.take(&observed), Err(Unready::Changed)));
    fs::remove_file(folder.path("a.png")).unwrap();
    assert!(matches!(folder.take(&observed), Err(Unready::Changed)));
}

#[tokio::test]
async fn pixels_that_cannot_be_kept_are_not_the_files_fault() {
    let folder = Folder::new();
    fs::write(folder.dir.path().join("pixels"), "in the way").unwrap();
    fs::write(folder.path("a.png"), picture(ImageFormat::Png, 20, 20)).unwrap();
    let content = folder.ingest.read(folder.observed("a.png")).await.ok().unwrap();
    match folder.ingest.keep(content).await {
        Err(Unready::RetryLater(error)) => assert!(error.to_string().contains("cannot keep the pixels"), "{error}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn no_file_is_read_while_the_disk_has_no_room_for_its_pixels() {
    let folder = Folder::new();
    fs::write(folder.path("a.png"), picture(ImageFormat::Png, 20, 20)).unwrap();
    let observed = folder.observed("a.png");
    fs::remove_file(folder.path("a.png")).unwrap();
    assert!(matches!(folder.ingest.read(observed.clone()).await, Err(Unready::Changed)), "it was looked for");
    // /proc never has free space.
    let full = Ingest::new(
        &Settings::default(),
        folder.ingest.shared.preprocess.clone(),
        "/proc/pixels".into(),
        DecodeBudget::default(),
    );
    let Err(Unready::RetryLater(error)) = full.read(observed).await else { panic!("not deferred") };
    assert_eq!(
        error.to_string(),
        "the disk is full: /proc/pixels has 0 B free, and a round of this model needs 64.0 MiB; free 64.0 MiB there"
    );
    assert!(full.disk_space().await.is_err() && folder.ingest.disk_space().await.is_ok());
}

#[tokio::test]
async fn pixels_are_listed_and_removed() {
    let folder = Folder::new();
    assert_eq!(folder.ingest.cached().await, []);
    let a = folder.put("a.png", &picture(ImageFormat::Png, 20, 20)).unwrap();
    let b = folder.put("b.png", &picture(ImageFormat::Png, 24, 20)).unwrap();
    let mut cached = folder.ingest.cached().await;
    cached.sort_unstable();
    let mut both = vec![a.id.clone(), b.id.clone()];
    both.sort_unstable();
    assert_eq!(cached, both);
    folder.ingest.discard(vec![a.id, ImageId("unknown".into())]).await.unwrap();
    assert_eq!(folder.ingest.cached().await, [b.id]);
    assert!(folder.path("a.png").is_file(), "the user's file is untouched");
}

#[test]
fn a_file_that_may_not_be_read_says_who_needs_to() {
    let folder = Folder::new();
    fs::write(folder.path("a.png"), "x").unwrap();
    fs::set_permissions(folder.path("a.png"), fs::Permissions::from_mode(0o000)).unwrap();
    // Root can read every file, so the check is skipped for root.
    if File::open(folder.path("a.png")).is_err() {
        let Err(Unready::Rejected(rejection)) = folder.take(&folder.observed("a.png")) else { panic!("not refused") };
        assert!(rejection.reason.contains("let the service's user read it") && !rejection.lasts);
    }
}

#[tokio::test]
async fn of_a_cropped_source_a_part_is_kept_and_looked_at() {
    let folder = Folder::new();
    let picture = RgbImage::from_fn(64, 32, |x, _| Rgb(if x < 32 { [200, 0, 0] } else { [0, 200, 0] }));
    picture.save(folder.path("a.png")).unwrap();
    let whole = folder.ingest.read(folder.observed("a.png")).await.unwrap();
    let whole_file = fs::read(folder.path("a.png")).unwrap();
    let right = Region { x: 0.5, y: 0.0, width: 0.5, height: 1.0 };
    let dir = folder.dir;
    let place = Place { dir: dir.path().join("in"), region: Some(right) };
    let ingest = ingest(dir.path()).with_sources([(dir.path().join("in"), place)].into());
    let folder = Folder { dir, ingest };
    let part = folder.ingest.read(folder.observed("a.png")).await.unwrap();
    let of_both = [&whole_file[..], b"crop x=0.5 y=0 width=0.5 height=1"].concat();
    assert_ne!(part.id, whole.id, "another part is another image");
    assert_eq!(part.id.0, coft_fs::hex(&Sha256::digest(of_both)));

    let file = folder.ingest.looked_at(part).await.unwrap();
    let looked_at = coft_vision::decode(&file).unwrap().pixels;
    assert_eq!((looked_at.dimensions(), looked_at.get_pixel(0, 0).0), ((32, 32), [0, 200, 0]));
    let part = folder.ingest.read(folder.observed("a.png")).await.unwrap();
    let record = folder.ingest.keep(part).await.unwrap();
    assert_eq!((record.width_px, record.height_px), (32, 32));
    let kept = image::open(folder.ingest.canonical_path(&record.id)).unwrap().to_rgb8();
    assert!(kept.pixels().all(|pixel| pixel.0 == [0, 200, 0]));
    assert_eq!(folder.ingest.looked_at(whole).await.unwrap(), whole_file);
}
