use super::*;
use std::fs::File;
use std::io::Write;

#[test]
fn bad_files_are_set_aside_with_their_reason_and_good_ones_are_taken() {
    let mut site = site(QUICK);
    site.start().unwrap();
    let good = fs::read(&pictures(&site, 1)[0]).unwrap();
    let put = |name: &str, bytes: &[u8]| fs::write(site.watched().join(name), bytes).unwrap();
    put("good.jpg", &good);
    put("copy-of-good.jpg", &good);
    put("truncated.jpg", &good[..good.len() / 2]);
    put("empty.png", b"");
    put("letter.jpg", b"Dear camera, how are you?");
    put("huge.png", &png_header(60_000, 60_000));
    // By content, not by name: a PNG called .jpg is a good image.
    put("png-inside.jpg", &png(&good));

    let settled = |status: &Value| status["images"] == 2 && status["quarantined"] == 4;
    site.wait("two images, four files set aside", LIMIT, settled).unwrap();
    let log = site.log();
    for name in ["truncated.jpg", "empty.png", "letter.jpg", "huge.png"] {
        assert!(log.lines().any(|line| line.contains(name)), "{name} is not named in:\n{log}");
    }
    assert!(log.contains("60000"), "the dimensions are told:\n{log}");

    // A file that is mended is taken.
    put("truncated.jpg", &[&good[..], b" "].concat());
    site.wait("the mended file", LIMIT, |status| status["quarantined"] == 3).unwrap();
}

#[test]
fn a_file_still_being_written_is_not_taken_half() {
    let mut site = site(QUICK);
    site.start().unwrap();
    let good = fs::read(&pictures(&site, 1)[0]).unwrap();
    let mut file = File::create(site.watched().join("slow.jpg")).unwrap();
    for part in good.chunks(good.len() / 8 + 1) {
        file.write_all(part).unwrap();
        file.flush().unwrap();
        std::thread::sleep(Duration::from_millis(150));
        let status = site.status().unwrap();
        assert_eq!(status["quarantined"], 0, "half a file was looked at");
    }
    drop(file);
    site.wait("the whole file", LIMIT, |status| status["images"] == 1 && status["quarantined"] == 0).unwrap();
}

#[test]
fn a_bad_image_is_refused_and_the_next_one_classified() {
    let site = serving(QUICK, 1);
    let letter = site.dir().join("letter.jpg");
    fs::write(&letter, "not a picture").unwrap();
    let good = site.watched().join("0000.jpg");
    let output = site.ctl(&["--json", "classify", letter.to_str().unwrap(), good.to_str().unwrap()]).unwrap();
    assert_eq!(output.status.code(), Some(4), "some inputs failed");
    let lines: Vec<Value> =
        output.stdout.split(|&b| b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["error"]["name"], "BadImage", "{}", lines[0]);
    assert!(lines[1]["labels"][0]["label"].is_string(), "{}", lines[1]);
}

/// The start of a PNG of that size; nobody could hold its pixels.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut small = png_bytes(&image::RgbImage::new(1, 1));
    small[16..20].copy_from_slice(&width.to_be_bytes());
    small[20..24].copy_from_slice(&height.to_be_bytes());
    // The header's checksum covers its type and data.
    let mut crc = flate2::Crc::new();
    crc.update(&small[12..29]);
    small[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    small
}

fn png(jpeg: &[u8]) -> Vec<u8> {
    png_bytes(&image::load_from_memory(jpeg).unwrap().to_rgb8())
}

fn png_bytes(image: &image::RgbImage) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}
