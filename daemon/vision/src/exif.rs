//! Which way up an image is, from the EXIF data of its file.

use crate::ifd::Directories;
use image::metadata::Orientation;

/// Orientation, in EXIF and in TIFF.
pub const ORIENTATION: u16 = 0x0112;

/// The orientation that EXIF data states, in whichever integer type, as the first of however many values. EXIF data
/// that cannot be read is no reason to refuse the pixels: they stay as they are.
pub fn orientation(exif: &[u8]) -> Orientation {
    let exif = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    let stated = || {
        let (file, first) = Directories::open(exif)?.ok()?;
        file.directory(first).ok()?.integer(ORIENTATION).ok()?
    };
    stated().and_then(from_number).unwrap_or(Orientation::NoTransforms)
}

/// None for a number that EXIF does not know.
pub fn from_number(number: u64) -> Option<Orientation> {
    Orientation::from_exif(u8::try_from(number).ok()?)
}
