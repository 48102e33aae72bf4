//! Pixels of any depth and number of channels to RGB of 8 bits: alpha is dropped, 16-bit channels keep their high byte,
//! grey is repeated.

use crate::error::DecodeError;
use image::{DynamicImage, RgbImage};

/// Levels of 256 that the range of 16-bit values must cover; with fewer, almost nothing would be visible. An eighth of
/// the range. [choice]
const LEAST_LEVELS: u32 = 32;
/// One value in this many may lie outside the range at each end: dead pixels of a sensor. [choice]
const OUTLIERS: u64 = 10_000;

/// RGB pixels from a decoder of the `image` crate; all its decoders in use give 8 bits.
///
/// # Errors
/// [`DecodeError::Unsupported`] for any other pixels.
pub fn rgb(image: DynamicImage) -> Result<RgbImage, DecodeError> {
    let (width, height) = (image.width(), image.height());
    let of8 = |channels, samples: &[u8]| Ok(rgb_of_channels(width, height, channels, samples));
    match image {
        DynamicImage::ImageRgb8(image) => Ok(image),
        DynamicImage::ImageLuma8(image) => of8(1, &image),
        DynamicImage::ImageLumaA8(image) => of8(2, &image),
        DynamicImage::ImageRgba8(image) => of8(4, &image),
        _ => Err(DecodeError::unsupported("pixels of more than 8 bits")),
    }
}

/// RGB of grey or coloured pixels; other channels are dropped.
fn rgb_of_channels(width: u32, height: u32, channels: usize, samples: &[u8]) -> RgbImage {
    let at = |pixel: &[u8], channel: usize| pixel[if channels >= 3 { channel } else { 0 }];
    let pixels = samples.chunks_exact(channels).map(|pixel| [at(pixel, 0), at(pixel, 1), at(pixel, 2)]);
    rgb_of_pixels(width, height, pixels)
}

/// Collects pixels into an image, without further memory.
pub fn rgb_of_pixels(width: u32, height: u32, pixels: impl Iterator<Item = [u8; 3]>) -> RgbImage {
    let mut out = RgbImage::new(width, height);
    for (to, from) in out.pixels_mut().zip(pixels) {
        to.0 = from;
    }
    out
}

/// The range of the 16-bit values in an image.
///
/// An image whose values would become almost one shade in 8 bits is refused. Thermal and depth cameras make such
/// images: they count in their own units and use a small part of the range. Without this check, the content would be
/// lost silently. Only the maker of the image knows which values are black and white: stretching each image separately
/// would show the same temperature in another shade each time.
pub struct Span {
    counts: Vec<u64>,
}

impl Default for Span {
    fn default() -> Self {
        Self { counts: vec![0; 1 << 16] }
    }
}

impl Span {
    pub fn add(&mut self, values: impl Iterator<Item = u16>) {
        values.for_each(|value| self.counts[usize::from(value)] += 1);
    }

    /// Checks the range. The lowest and the highest value do not count (no measurement; too bright). An image whose 8
    /// bits lose nothing always passes.
    ///
    /// # Errors
    /// [`DecodeError::Unsupported`] with the range that is used.
    pub fn check(&self) -> Result<(), DecodeError> {
        let inner = 1..self.counts.len() - 1;
        let total: u64 = self.counts[inner.clone()].iter().sum();
        let spare = total / OUTLIERS;
        let (Some(low), Some(high)) = (self.end(inner.clone(), spare), self.end(inner.rev(), spare)) else {
            return Ok(());
        };
        let used = || (low..=high).filter(|&value| self.counts[value] > 0);
        let mut levels: Vec<usize> = used().map(|value| value >> 8).collect();
        levels.dedup();
        let lost = used().count() > 2 * levels.len();
        if lost && ((high - low) as u32) < LEAST_LEVELS << 8 {
            let what = format!("16-bit pixels that use only the values {low} to {high} of 65535, nearly one shade");
            let advice = "scale them to 0 to 65535, in the same way for every image, and save it again";
            return Err(DecodeError::Unsupported { what: what.into(), advice });
        }
        Ok(())
    }

    /// The first value after at most `spare` values were skipped.
    fn end(&self, mut values: impl Iterator<Item = usize>, spare: u64) -> Option<usize> {
        let mut seen = 0;
        values.find(|&value| {
            seen += self.counts[value];
            seen > spare
        })
    }
}
