//! Compares pixels with Pillow's; `tests/goldens/vision/make.py` made both the files and the expected pixels.

use crate::heif::is_decoded;
use coft_vision::{Decoded, Filter, Preprocess, decode, save_canonical};
use serde::Deserialize;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Case {
    input: String,
    shortest_edge: u32,
    expected: String,
    /// Bicubic if absent.
    #[serde(default)]
    bilinear: bool,
}

pub fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/goldens/vision")
}

pub fn input(name: &str) -> Vec<u8> {
    std::fs::read(goldens().join("inputs").join(name)).unwrap()
}

fn cases() -> Vec<Case> {
    serde_json::from_slice(&std::fs::read(goldens().join("cases.json")).unwrap()).unwrap()
}

fn preprocess(case: &Case) -> Preprocess {
    let filter = if case.bilinear { Filter::Bilinear } else { Filter::Bicubic };
    let edge = case.shortest_edge;
    Preprocess { shortest_edge: edge, squash: false, crop: edge, mean: [0.0; 3], std: [1.0; 3], filter }
}

#[test]
fn canonical_pixels_equal_pillows() {
    let mut wrong = Vec::new();
    for case in cases().into_iter().filter(|case| is_decoded(&case.input)) {
        let decoded = decode(&input(&case.input)).unwrap_or_else(|error| panic!("{}: {error}", case.input));
        let expected = std::fs::read(goldens().join("expected").join(&case.expected)).unwrap();
        let expected = decode(&expected).unwrap().pixels;
        let ours = preprocess(&case).canonical(&decoded);
        assert_eq!(ours.dimensions(), expected.dimensions(), "{}", case.expected);
        let apart = ours.as_raw().iter().zip(expected.as_raw()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        if apart > 1 {
            wrong.push(format!("{}: {apart} apart", case.expected));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn canonical_pixels_are_kept_through_a_file_and_never_resized_again() {
    for case in cases().into_iter().filter(|case| is_decoded(&case.input)) {
        let preprocess = preprocess(&case);
        let first = preprocess.canonical(&decode(&input(&case.input)).unwrap());
        let mut file = Vec::new();
        save_canonical(&first, &mut file).unwrap();
        let read = decode(&file).unwrap();
        assert_eq!(read, Decoded { pixels: first.clone(), format: "QOI" }, "{}", case.expected);
        assert_eq!(preprocess.canonical(&read), first, "{}", case.expected);
        let mut out = vec![0.0; preprocess.tensor_len()];
        preprocess.tensor(&first, &mut out);
        assert!(out.iter().all(|value| (0.0..=1.0).contains(value)));
    }
}

#[test]
fn the_content_says_the_format() {
    for (name, format) in [
        ("full-chroma.jpg", "JPEG"),
        ("colour.png", "PNG"),
        ("lossy.webp", "WebP"),
        ("colour.bmp", "BMP"),
        ("colour.tiff", "TIFF"),
        ("two-frames.gif", "GIF"),
        ("colour.qoi", "QOI"),
    ] {
        assert_eq!(decode(&input(name)).unwrap().format, format);
    }
}
