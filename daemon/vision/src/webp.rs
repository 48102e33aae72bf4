//! Decodes still WebP images by libwebp.

use crate::error::DecodeError;
use ::webp::{BitstreamFeatures, Decoder};
use image::RgbImage;

const FORMAT: &str = "WebP";

pub fn is_animated(bytes: &[u8]) -> bool {
    BitstreamFeatures::new(bytes).is_some_and(|features| features.has_animation())
}

/// The pixels of a WebP file, without alpha.
///
/// # Errors
/// [`DecodeError::Damaged`] where libwebp cannot decode the file.
pub fn pixels(bytes: &[u8]) -> Result<RgbImage, DecodeError> {
    let damaged = || DecodeError::Damaged { format: FORMAT, what: "its pixels cannot be decoded" };
    let image = Decoder::new(bytes).decode().ok_or_else(damaged)?;
    let channels = if image.is_alpha() { 4 } else { 3 };
    let rgb = image.chunks_exact(channels).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
    RgbImage::from_raw(image.width(), image.height(), rgb).ok_or_else(damaged)
}

/// EXIF data.
pub fn exif(bytes: &[u8]) -> Option<&[u8]> {
    let mut at = 12;
    loop {
        let length = u32::from_le_bytes(bytes.get(at + 4..at + 8)?.try_into().ok()?) as usize;
        let body = at + 8..(at + 8).checked_add(length)?;
        if bytes.get(at..at + 4)? == b"EXIF" {
            return bytes.get(body);
        }
        at = body.end.checked_add(length % 2)?; // chunks begin at even offsets
    }
}
