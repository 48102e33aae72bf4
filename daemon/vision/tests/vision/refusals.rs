//! Files that must not enter the pool, and the texts of their errors.

use crate::golden::input;
use coft_vision::{DecodeError, Limit, MAX_SIDE_PX, decode};

#[track_caller]
fn refused(bytes: &[u8], why: &str) {
    assert_eq!(decode(bytes).unwrap_err().to_string(), why);
}

#[test]
fn half_of_an_image_is_no_image() {
    for name in [
        "full-chroma.jpg",
        "half-chroma.jpg",
        "progressive.jpg",
        "turned-6.jpg",
        "colour.png",
        "palette.png",
        "deep.png",
        "colour.webp",
        "lossy.webp",
        "colour.bmp",
        "colour.tiff",
        "two-frames.gif",
        "colour.qoi",
    ] {
        let whole = input(name);
        let format = decode(&whole).unwrap().format;
        // Cuts in the first of two frames.
        let end = if name == "two-frames.gif" { whole.len() / 2 } else { whole.len() };
        for share in [50, 70, 90] {
            let cut = decode(&whole[..end * share / 100]);
            assert_eq!(cut, Err(DecodeError::Truncated { format }), "{name} cut at {share} %");
        }
    }
}

#[test]
fn no_prefix_of_a_file_is_taken_for_all_of_it_nor_panics() {
    for name in ["grey.jpg", "pixel.png-8.png", "colour.qoi", "grey.png"] {
        let whole = if name.ends_with(".png-8.png") {
            std::fs::read(crate::golden::goldens().join("expected").join(name)).unwrap()
        } else {
            input(name)
        };
        let complete = decode(&whole).unwrap();
        for length in 0..whole.len() {
            // Some formats can be decoded without the bytes after the last pixel (a checksum, an end marker), but never
            // without pixels.
            if let Ok(decoded) = decode(&whole[..length]) {
                assert_eq!(decoded, complete, "{name} cut at {length}");
                assert!(whole.len() - length <= 24, "{name} cut at {length}");
            }
        }
    }
}

#[test]
fn bombs_are_refused_by_their_header() {
    let png = |width: u32, height: u32| {
        let mut bytes = input("colour.png");
        bytes[16..20].copy_from_slice(&width.to_be_bytes());
        bytes[20..24].copy_from_slice(&height.to_be_bytes());
        let sum = crc32fast::hash(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&sum.to_be_bytes());
        bytes
    };
    let too_large = |width, height, limit| Err(DecodeError::TooLarge { width, height, limit });
    assert_eq!(decode(&png(MAX_SIDE_PX + 1, 1)), too_large(MAX_SIDE_PX + 1, 1, Limit::Side));
    assert_eq!(decode(&png(1, 2_000_000_000)), too_large(1, 2_000_000_000, Limit::Side));
    assert_eq!(decode(&png(20_000, 20_000)), too_large(20_000, 20_000, Limit::Pixels));
    refused(
        &png(20_000, 20_000),
        "the image is too large: 20000×20000 px, over the limit of 100 megapixels; send a smaller one",
    );
    refused(
        &png(40_000, 9),
        "the image is too large: 40000×9 px, over the limit of 32768 px a side; send a smaller one",
    );
}

#[test]
fn damage_is_named() {
    let mut bytes = input("colour.png");
    bytes[200] ^= 0xff;
    refused(&bytes, "the PNG image is damaged: its data are wrong; copy it again from where it came");

    let mut bytes = input("half-chroma.jpg");
    let middle = bytes.len() * 2 / 3;
    bytes[middle..middle + 64].fill(0xfe);
    refused(&bytes, "the JPEG image is damaged: a part of its pixels is missing; copy it again from where it came");
}

#[test]
fn stray_bytes_between_the_segments_of_a_jpeg_are_passed_over() {
    let bytes = input("half-chroma.jpg");
    let (pixels, end) = bytes.split_at(bytes.len() - 2);
    assert_eq!(end, [0xff, 0xd9]);
    assert_eq!(decode(&[pixels, &[0x00, 0x01, 0x02], end].concat()), decode(&bytes));

    let after_jfif = 4 + usize::from(bytes[5]);
    let (jfif, rest) = bytes.split_at(after_jfif);
    let odd = decode(&[jfif, &[0x00, 0x01], rest].concat()).unwrap();
    assert_eq!(odd, decode(&bytes).unwrap());
}
