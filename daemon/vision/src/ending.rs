//! Whether an image file is all there, from its framing alone.
//!
//! The JPEG decoder fills what is missing of a cut-off file with grey and reports success: a half-written camera file would
//! enter the pool as a half-grey image. The WebP and QOI decoders take a missing end for damage. Nothing is decoded here.

use image::ImageFormat;

const QOI_END: [u8; 8] = [0, 0, 0, 0, 0, 0, 0, 1];

const STUFFED_ZERO: u8 = 0x00;
const TEM: u8 = 0x01;
const FIRST_RESTART: u8 = 0xd0;
const LAST_RESTART: u8 = 0xd7;
const START_OF_IMAGE: u8 = 0xd8;
const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;

/// Whether the file ends before its format says it does. Formats whose decoder notices by itself are never found missing.
pub fn is_missing(format: ImageFormat, bytes: &[u8]) -> bool {
    match format {
        ImageFormat::Jpeg => !reaches_end_of_image(bytes),
        ImageFormat::WebP => !reaches_riff_length(bytes),
        ImageFormat::Qoi => !bytes.ends_with(&QOI_END),
        _ => false,
    }
}

/// A RIFF file: four letters, the length of what follows, and that.
fn reaches_riff_length(bytes: &[u8]) -> bool {
    let length = bytes.get(4..8).and_then(|length| length.try_into().ok()).map(u32::from_le_bytes);
    length.is_some_and(|length| bytes.len() as u64 >= 8 + u64::from(length))
}

/// A thumbnail's own end inside a metadata segment does not count.
fn reaches_end_of_image(bytes: &[u8]) -> bool {
    let mut at = 0;
    let mut in_scan = false;
    while let Some(marker) = next_marker(bytes, &mut at) {
        match marker {
            END_OF_IMAGE => return true,
            START_OF_IMAGE | TEM | STUFFED_ZERO | FIRST_RESTART..=LAST_RESTART => continue,
            // What follows the scan's own header is entropy-coded data, where a marker needs no length to be skipped.
            START_OF_SCAN => in_scan = true,
            // Entropy-coded data holds no other marker unless it is damaged: that is for the decoder to say.
            0x02..=0xbf if in_scan => continue,
            _ => {}
        }
        let Some(length) = bytes.get(at..at + 2) else { return false };
        at += usize::from(u16::from_be_bytes([length[0], length[1]])).max(2);
    }
    false
}

/// The code of the next marker from `at` on, leaving `at` behind it.
fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    let start = *at + bytes.get(*at..)?.iter().position(|&byte| byte == 0xff)?;
    let code = start + bytes[start..].iter().position(|&byte| byte != 0xff)?;
    *at = code + 1;
    Some(bytes[code])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCAN: [u8; 9] = [0xff, START_OF_SCAN, 0, 4, 1, 2, 0x33, 0xff, STUFFED_ZERO];

    fn file(parts: &[&[u8]]) -> Vec<u8> {
        [&[0xff, START_OF_IMAGE] as &[u8]].iter().chain(parts).copied().flatten().copied().collect()
    }

    #[test]
    fn the_end_marker_is_found_behind_the_scans() {
        assert!(reaches_end_of_image(&file(&[&SCAN, &[0xff, END_OF_IMAGE]])));
        assert!(reaches_end_of_image(&file(&[&SCAN, &[0xff, 0xd3, 5, 6], &SCAN, &[0xff, 0xff, END_OF_IMAGE, 0, 0]])));
    }

    #[test]
    fn an_end_marker_inside_metadata_does_not_count() {
        let thumbnail = [0xff, 0xe1, 0, 6, 0xff, START_OF_IMAGE, 0xff, END_OF_IMAGE];
        assert!(!reaches_end_of_image(&file(&[&thumbnail])));
        assert!(!reaches_end_of_image(&file(&[&thumbnail, &SCAN])));
        assert!(reaches_end_of_image(&file(&[&thumbnail, &SCAN, &[0xff, END_OF_IMAGE]])));
    }

    #[test]
    fn a_cut_anywhere_is_noticed() {
        let whole = file(&[&[0xff, 0xe0, 0, 4, 9, 9], &SCAN, &[1, 2, 3, 0xff, END_OF_IMAGE]]);
        assert!(reaches_end_of_image(&whole));
        for length in 0..whole.len() {
            assert!(!reaches_end_of_image(&whole[..length]), "cut at {length}");
        }
    }
}
