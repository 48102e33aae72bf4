//! A JPEG that is cut off: accepted if every row is there, refused if one is missing, whatever else is unusual about
//! it.

use crate::golden::input;
use coft_vision::{DecodeError, decode};

/// Every kind of coding: Huffman and arithmetic, sequential and progressive, with restarts, full and halved chroma,
/// grey and four inks.
const KINDS: [&str; 10] = [
    "full-chroma.jpg",
    "half-chroma.jpg",
    "grey.jpg",
    "four-inks.jpg",
    "restarts.jpg",
    "progressive.jpg",
    "progressive-restarts.jpg",
    "scan-by-scan.jpg",
    "arithmetic.jpg",
    "progressive-arithmetic.jpg",
];

/// Offset of the data of the first scan.
fn pixels_at(jpeg: &[u8]) -> usize {
    let scan = jpeg.windows(2).position(|marker| marker == [0xff, 0xda]).unwrap();
    scan + 2 + usize::from(u16::from_be_bytes([jpeg[scan + 2], jpeg[scan + 3]]))
}

fn truncated() -> Result<coft_vision::Decoded, DecodeError> {
    Err(DecodeError::Truncated { format: "JPEG" })
}

#[test]
fn a_jpeg_cut_at_any_byte_has_all_its_pixels_or_none() {
    for name in KINDS {
        let whole = input(name);
        let decoded = decode(&whole).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut taken = 0;
        for length in 0..whole.len() {
            match decode(&whole[..length]) {
                Ok(cut) => {
                    assert_eq!(cut, decoded, "{name} cut at {length} of {}", whole.len());
                    taken += 1;
                }
                Err(DecodeError::Empty) if length == 0 => {}
                Err(DecodeError::Unknown) if length < 3 => {}
                error => assert_eq!(error, truncated(), "{name} cut at {length} of {}", whole.len()),
            }
        }
        // Files without one or both bytes of the end marker are accepted, except where the decoder cannot know that
        // nothing is missing.
        let expected = if name.contains("arithmetic") { 0 } else { 2 };
        assert!(taken >= expected && taken <= 4, "{name}: {taken} cuts taken");
    }
}

#[test]
fn a_camera_that_writes_no_end_mark_is_taken() {
    for name in KINDS.into_iter().filter(|name| !name.contains("arithmetic")) {
        let whole = input(name);
        let decoded = decode(&whole);
        let ended = whole.len() - 2;
        assert_eq!(whole[ended..], [0xff, 0xd9], "{name}");
        for behind in [
            &[] as &[u8],
            &[0xff],
            &[0; 4],
            &[0; 512],
            &[0; 70_000],
            b"dhav\x10\x27\0\0",
            &[0xff; 300],
            b"\xff\xfe\0\x08notes!",
            &whole,
        ] {
            let file = [&whole[..ended], behind].concat();
            assert_eq!(decode(&file), decoded, "{name} without an end, {} bytes behind", behind.len());
        }
        for behind in [&[0u8; 4096] as &[u8], b"dhav\x10\x27\0\0", &[0xff, 0xd9], &whole, b"<html>"] {
            let file = [&whole, behind].concat();
            assert_eq!(decode(&file), decoded, "{name}, {} bytes behind the end", behind.len());
        }
    }
}

#[test]
fn what_stands_behind_a_cut_makes_no_pixels_of_it() {
    for name in KINDS {
        let whole = input(name);
        let start = pixels_at(&whole);
        for share in [10, 30, 50, 70, 85, 95] {
            let cut = &whole[..start + (whole.len() - start) * share / 100];
            // After the cut: the rest of a preallocated file, an end marker, the next image, a comment.
            for behind in [&[0u8; 4096] as &[u8], &[0; 100], &[0xff; 64], b"\xff\xfe\0\x08notes!"] {
                let file = [cut, behind].concat();
                let refused = decode(&file).unwrap_err();
                let of_jpeg = matches!(refused, DecodeError::Truncated { .. } | DecodeError::Damaged { .. });
                assert!(of_jpeg, "{name} at {share} %, {} bytes behind: {refused}", behind.len());
            }
            if !name.contains("arithmetic") {
                let file = [cut, &[0xff, 0xd9]].concat();
                let complete_scans = name.contains("progressive") || name.contains("scan");
                assert!(decode(&file).is_err() || complete_scans, "{name} at {share} % with an end mark");
                let file = [cut, &whole].concat();
                assert!(decode(&file).is_err(), "{name} at {share} % with another image behind");
            }
        }
    }
}

/// The parts between the restart markers.
fn intervals(jpeg: &[u8]) -> Vec<Vec<u8>> {
    let data = &jpeg[pixels_at(jpeg)..jpeg.len() - 2];
    let mut parts = vec![Vec::new()];
    let mut at = 0;
    while at < data.len() {
        if data[at] == 0xff && (0xd0..=0xd7).contains(&data[at + 1]) {
            parts.push(Vec::new());
            at += 2;
        } else {
            parts.last_mut().unwrap().push(data[at]);
            at += 1;
        }
    }
    parts
}

fn joined(jpeg: &[u8], parts: &[Vec<u8>]) -> Vec<u8> {
    let mut out = jpeg[..pixels_at(jpeg)].to_vec();
    for (number, part) in parts.iter().enumerate() {
        out.extend(part);
        if number + 1 < parts.len() {
            out.extend([0xff, 0xd0 + (number % 8) as u8]);
        }
    }
    out.extend([0xff, 0xd9]);
    out
}

#[test]
fn whichever_oddity_comes_first_a_cut_interval_is_refused() {
    let whole = input("restarts.jpg");
    let decoded = decode(&whole);
    let parts = intervals(&whole);
    assert!(parts.len() > 8, "{} intervals", parts.len());
    assert_eq!(joined(&whole, &parts), whole);
    for at in 1..parts.len() - 2 {
        // Stray bytes before a marker change no pixel.
        let mut stray = parts.clone();
        stray[at].extend([1, 2, 3]);
        assert_eq!(decode(&joined(&whole, &stray)), decoded, "stray bytes in interval {at}");
        let cut = |parts: &mut Vec<Vec<u8>>, at: usize| {
            let keep = parts[at].len() / 3;
            parts[at].truncate(keep);
        };
        let mut before = parts.clone();
        cut(&mut before, at);
        let mut both = stray.clone();
        cut(&mut both, at + 1);
        for file in [joined(&whole, &before), joined(&whole, &both)] {
            let refused = decode(&file).unwrap_err();
            assert!(matches!(refused, DecodeError::Damaged { .. }), "interval {at}: {refused}");
        }
    }
}

#[test]
fn an_interval_that_is_missing_altogether_is_noticed() {
    let whole = input("restarts.jpg");
    let parts = intervals(&whole);
    for at in 1..parts.len() - 1 {
        let mut out = whole[..pixels_at(&whole)].to_vec();
        for (number, part) in parts.iter().enumerate().filter(|(number, _)| *number != at) {
            if number > 0 {
                out.extend([0xff, 0xd0 + ((number - 1) % 8) as u8]);
            }
            out.extend(part);
        }
        out.extend([0xff, 0xd9]);
        assert!(decode(&out).is_err(), "interval {at}");
    }
}

#[test]
fn motion_jpeg_without_its_tables_is_decoded_with_the_standard_ones() {
    for name in ["half-chroma.jpg", "full-chroma.jpg", "grey.jpg", "restarts.jpg"] {
        let whole = input(name);
        let decoded = decode(&whole);
        let mut out = whole[..2].to_vec();
        let mut at = 2;
        while whole[at + 1] != 0xda {
            let length = 2 + usize::from(u16::from_be_bytes([whole[at + 2], whole[at + 3]]));
            if whole[at + 1] != 0xc4 {
                out.extend(&whole[at..at + length]);
            }
            at += length;
        }
        out.extend(&whole[at..]);
        assert!(out.len() + 100 < whole.len(), "{name} has tables");
        assert_eq!(decode(&out), decoded, "{name}");
    }
}
