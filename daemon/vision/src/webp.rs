//! Still WebP images by libwebp.

use crate::DecodeError;
use image::RgbImage;
use webp::{BitstreamFeatures, Decoder};

const FORMAT: &str = "WebP";

pub fn is_animated(bytes: &[u8]) -> bool {
    BitstreamFeatures::new(bytes).is_some_and(|features| features.has_animation())
}

/// The pixels of a WebP file without their alpha.
pub fn pixels(bytes: &[u8]) -> Result<RgbImage, DecodeError> {
    let damaged = || DecodeError::Damaged { format: FORMAT, reason: "its pixels cannot be decoded".into() };
    let image = Decoder::new(bytes).decode().ok_or_else(damaged)?;
    let channels = if image.is_alpha() { 4 } else { 3 };
    let rgb = image.chunks_exact(channels).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
    RgbImage::from_raw(image.width(), image.height(), rgb).ok_or_else(damaged)
}
