//! The head of a file states the right size, and memory that decoding does not exceed.

use crate::golden::{goldens, input};
use crate::made::jpeg_with;
use crate::memory::most_held;
use coft_vision::{DecodeError, Head, decode, head};

fn inputs() -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(goldens().join("inputs")).unwrap().map(|entry| entry.unwrap().path());
    let mut inputs: Vec<_> = files
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap()))
        .collect();
    inputs.sort();
    inputs
}

#[test]
fn the_head_says_what_decoding_gives() {
    for (name, file) in inputs() {
        let head = head(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
        let decoded = match decode(&file) {
            Err(DecodeError::Unsupported { .. }) if head.format == "HEIC" || head.format == "AVIF" => continue,
            decoded => decoded.unwrap_or_else(|error| panic!("{name}: {error}")),
        };
        let (width, height) = decoded.pixels.dimensions();
        let sides = [(head.width, head.height), (head.height, head.width)];
        assert!(sides.contains(&(width, height)), "{name}: {head:?}, {width}×{height}");
        assert_eq!(head.format, decoded.format, "{name}");
        if !name.contains("turned") {
            assert_eq!((head.width, head.height), (width, height), "{name}");
        }
    }
}

#[test]
fn the_first_bytes_are_enough_or_say_that_they_are_not() {
    for (name, file) in inputs() {
        let whole = head(&file).unwrap();
        let mut enough = None;
        for length in 0..file.len() {
            match head(&file[..length]) {
                Ok(Head { format, width, height, decode_bytes }) => {
                    assert_eq!((format, width, height), (whole.format, whole.width, whole.height), "{name} {length}");
                    // Values that are not known yet count with their maximum.
                    assert!(decode_bytes >= whole.decode_bytes, "{name} {length}");
                    enough.get_or_insert(length);
                }
                Err(DecodeError::Truncated { .. }) => assert_eq!(enough, None, "{name} {length}"),
                // Too few bytes to recognise the format.
                Err(error) => assert!(length < 16, "{name} {length}: {error}"),
            }
        }
        let tiff = name.ends_with(".tiff");
        assert!(tiff || enough.is_some_and(|length| length <= 1024), "{name}: {enough:?}");
    }
}

#[test]
fn decoding_takes_no_more_than_the_head_promises() {
    let large = |format: image::ImageFormat, image: image::DynamicImage| {
        let mut file = std::io::Cursor::new(Vec::new());
        image.write_to(&mut file, format).unwrap();
        file.into_inner()
    };
    use image::DynamicImage as Image;
    use image::ImageFormat::{Bmp, Gif, Png, Qoi, Tiff, WebP};
    let (w, h) = (700, 500);
    let noise = |n: usize| (0..n as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 16) as u16);
    let bytes = |channels: usize| noise(w * h * channels).map(|value| value as u8).collect::<Vec<_>>();
    let (width, height) = (w as u32, h as u32);
    let rgb = Image::ImageRgb8(image::RgbImage::from_raw(width, height, bytes(3)).unwrap());
    let rgba = Image::ImageRgba8(image::RgbaImage::from_raw(width, height, bytes(4)).unwrap());
    let rgb16 = Image::ImageRgb16(image::ImageBuffer::from_raw(width, height, noise(w * h * 3).collect()).unwrap());
    let rgba16 = Image::ImageRgba16(image::ImageBuffer::from_raw(width, height, noise(w * h * 4).collect()).unwrap());
    let grey16 = Image::ImageLuma16(image::ImageBuffer::from_raw(width, height, noise(w * h).collect()).unwrap());
    let grey = Image::ImageLuma8(image::GrayImage::from_raw(width, height, bytes(1)).unwrap());
    let form = crate::made::FORMS[0];
    let exif = crate::made::exif(form, 3, &[6]);
    let mut cases = vec![("a turned JPEG".to_owned(), jpeg_with(&exif, &input("full-chroma.jpg")))];
    for (format, images) in [
        (Png, vec![&rgb, &rgba, &rgb16, &rgba16, &grey16, &grey]),
        (Bmp, vec![&rgb, &rgba, &grey]),
        (Qoi, vec![&rgb, &rgba]),
        (WebP, vec![&rgb, &rgba]),
        (Tiff, vec![&rgb, &rgba, &rgb16, &rgba16, &grey16, &grey]),
        (Gif, vec![&rgb]),
    ] {
        cases.extend(
            images.into_iter().map(|image| (format!("{format:?} {:?}", image.color()), large(format, image.clone()))),
        );
    }
    cases.extend(inputs());
    for (name, file) in cases {
        let promised = head(&file).unwrap().decode_bytes;
        let (decoded, taken) = most_held(|| decode(&file));
        if let Err(error) = decoded {
            assert!(matches!(error, DecodeError::Unsupported { .. }), "{name}: {error}");
        }
        assert!(taken as u64 <= promised, "{name}: {taken} bytes, of {promised} promised");
    }
}

#[test]
fn a_large_image_is_not_promised_many_times_its_size() {
    let of = |file: &[u8]| {
        let head = head(file).unwrap();
        (head.decode_bytes - (1 << 20)) as f64 / f64::from(head.width * head.height)
    };
    // A camera's JPEG: RGB and some rows.
    let mut jpeg = input("half-chroma.jpg");
    let frame = jpeg.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0x0f, 0xa0, 0x17, 0x70]); // 6000×4000
    assert!(of(&jpeg) < 4.0, "{}", of(&jpeg));
    // 16 bits and four channels, decoded row by row: RGB and its rotated copy.
    let mut png = input("deep.png");
    png[16..24].copy_from_slice(&[0, 0, 0x17, 0x70, 0, 0, 0x0f, 0xa0]);
    assert!(of(&png) < 6.1, "{}", of(&png));
    // A progressive JPEG: all coefficients of 4:2:0 in addition.
    let mut jpeg = input("progressive.jpg");
    let frame = jpeg.windows(2).position(|marker| marker == [0xff, 0xc2]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0x0f, 0xa0, 0x17, 0x70]);
    assert!((5.9..7.0).contains(&of(&jpeg)), "{}", of(&jpeg));
}
