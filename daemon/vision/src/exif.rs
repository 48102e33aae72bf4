//! The orientation of an image, from the EXIF data of its file.

use crate::ifd::Directories;
use image::metadata::Orientation;

/// Tag of the orientation, in EXIF and in TIFF.
pub const ORIENTATION: u16 = 0x0112;

/// The orientation in EXIF data. It may have any integer type and more than one value; the first counts. If EXIF data
/// cannot be read, the image is not refused, but left as it is.
pub fn orientation(exif: &[u8]) -> Orientation {
    let exif = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    let stated = || {
        let (file, first) = Directories::open(exif)?.ok()?;
        file.directory(first).ok()?.integer(ORIENTATION).ok()?
    };
    stated().and_then(from_number).unwrap_or(Orientation::NoTransforms)
}

/// The orientation with this number; `None` for a number that EXIF does not define.
pub fn from_number(number: u64) -> Option<Orientation> {
    Orientation::from_exif(u8::try_from(number).ok()?)
}
