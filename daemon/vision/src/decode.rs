//! Bytes of an image file to upright RGB pixels, by content and never by file name.
//!
//! Pixels come out as Pillow's `convert("RGB")` after `exif_transpose` makes them: alpha is dropped rather than composited,
//! 16-bit channels keep their high byte, grey is repeated.

use crate::{ending, jpeg, webp};
use image::error::{ImageError, LimitErrorKind};
use image::metadata::Orientation;
use image::{DynamicImage, ImageBuffer, ImageDecoder, ImageFormat, ImageReader, Limits, Pixel, RgbImage};
use std::error::Error;
use std::io::{Cursor, ErrorKind};
use thiserror::Error;

/// Longest side that is decoded, px. Twice the longest side of today's cameras. [choice]
pub const MAX_SIDE_PX: u32 = 32_768;
/// Most pixels that are decoded. 100 megapixels, 300 MB of RGB. [choice]
pub const MAX_PIXELS: u64 = 100_000_000;
/// Most memory that a decoder of the `image` crate may ask for, bytes. libjpeg-turbo takes up to 8 bytes a pixel of a progressive
/// file beside the pixels. [choice]
pub const MAX_ALLOCATION_BYTES: u64 = 1 << 30;

/// An image as it was in its file, upright.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    pub pixels: RgbImage,
    /// The file format by content, as people write it: `JPEG`, `PNG`.
    pub format: &'static str,
}

#[derive(Debug, Error, PartialEq)]
pub enum DecodeError {
    #[error("the file is empty")]
    Empty,
    #[error("not an image: the content is of no known image format")]
    NotAnImage,
    #[error("the {format} image is cut off: the file ends before its last pixel; copy it again")]
    Truncated { format: &'static str },
    #[error("the image is too large: {width}×{height} px, over the limit of {limit}")]
    TooLarge { width: u32, height: u32, limit: Limit },
    #[error("unsupported image: {what}; convert it to JPEG or PNG")]
    Unsupported { what: String },
    #[error("the {format} image is damaged: {reason}")]
    Damaged { format: &'static str, reason: String },
}

/// The limit that an image broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Limit {
    #[error("{MAX_SIDE_PX} px a side")]
    Side,
    #[error("{} megapixels", MAX_PIXELS / 1_000_000)]
    Pixels,
    #[error("{} MiB of memory while decoding", MAX_ALLOCATION_BYTES >> 20)]
    Memory,
}

/// Decodes the first image of a JPEG, PNG, WebP, BMP, TIFF, GIF or QOI file and turns it upright as its EXIF
/// orientation says.
///
/// Lossy formats are decoded by the libraries that Pillow, and so every published preprocessing, decodes them with; two
/// correct decoders differ by up to 4 of 255. Size limits are checked on the header, before any pixel is allocated.
pub fn decode(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    let format = image::guess_format(bytes).map_err(|_| DecodeError::NotAnImage)?;
    let name = name(format);
    if !format.reading_enabled() {
        return Err(DecodeError::Unsupported { what: format!("{name} is not among the formats that are read") });
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_ALLOCATION_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|error| refusal(error, name, (0, 0)))?;

    let (width, height) = decoder.dimensions();
    check_size(width, height, decoder.total_bytes())?;
    if width == 0 || height == 0 {
        return Err(DecodeError::Damaged { format: name, reason: format!("it is {width}×{height} px") });
    }
    if ending::is_missing(format, bytes) {
        return Err(DecodeError::Truncated { format: name });
    }
    // Metadata that cannot be read is no reason to refuse the pixels.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let pixels = match format {
        ImageFormat::Jpeg => jpeg::pixels(bytes)?,
        ImageFormat::WebP if !webp::is_animated(bytes) => Some(webp::pixels(bytes)?),
        _ => None,
    };
    let pixels = match pixels {
        Some(pixels) => pixels,
        None => rgb(DynamicImage::from_decoder(decoder).map_err(|error| refusal(error, name, (width, height)))?)?,
    };
    let mut upright = DynamicImage::ImageRgb8(pixels);
    upright.apply_orientation(orientation);
    Ok(Decoded { pixels: upright.into_rgb8(), format: name })
}

fn check_size(width: u32, height: u32, bytes: u64) -> Result<(), DecodeError> {
    let limit = if width > MAX_SIDE_PX || height > MAX_SIDE_PX {
        Limit::Side
    } else if u64::from(width) * u64::from(height) > MAX_PIXELS {
        Limit::Pixels
    } else if bytes > MAX_ALLOCATION_BYTES {
        Limit::Memory
    } else {
        return Ok(());
    };
    Err(DecodeError::TooLarge { width, height, limit })
}

fn rgb(image: DynamicImage) -> Result<RgbImage, DecodeError> {
    Ok(match image {
        DynamicImage::ImageRgb8(image) => image,
        DynamicImage::ImageLuma8(image) => narrowed(&image, |channel| channel),
        DynamicImage::ImageLumaA8(image) => narrowed(&image, |channel| channel),
        DynamicImage::ImageRgba8(image) => narrowed(&image, |channel| channel),
        DynamicImage::ImageLuma16(image) => narrowed(&image, high_byte),
        DynamicImage::ImageLumaA16(image) => narrowed(&image, high_byte),
        DynamicImage::ImageRgb16(image) => narrowed(&image, high_byte),
        DynamicImage::ImageRgba16(image) => narrowed(&image, high_byte),
        other => {
            let what = format!("pixels of type {:?} have no fixed range", other.color());
            return Err(DecodeError::Unsupported { what });
        }
    })
}

fn high_byte(channel: u16) -> u8 {
    (channel >> 8) as u8
}

/// RGB of grey or coloured pixels, without their alpha.
fn narrowed<P: Pixel>(image: &ImageBuffer<P, Vec<P::Subpixel>>, byte: impl Fn(P::Subpixel) -> u8) -> RgbImage {
    let mut out = RgbImage::new(image.width(), image.height());
    let coloured = P::CHANNEL_COUNT >= 3;
    for (to, from) in out.pixels_mut().zip(image.pixels()) {
        let channels = from.channels();
        let at = |channel: usize| byte(channels[if coloured { channel } else { 0 }]);
        to.0 = [at(0), at(1), at(2)];
    }
    out
}

fn refusal(error: ImageError, format: &'static str, (width, height): (u32, u32)) -> DecodeError {
    match &error {
        ImageError::Limits(limit) => {
            let limit = match limit.kind() {
                LimitErrorKind::DimensionError => Limit::Side,
                _ => Limit::Memory,
            };
            DecodeError::TooLarge { width, height, limit }
        }
        ImageError::Unsupported(error) => DecodeError::Unsupported { what: error.to_string() },
        _ if ends_early(&error) => DecodeError::Truncated { format },
        _ => DecodeError::Damaged { format, reason: error.to_string() },
    }
}

/// Whether a decoder ran out of bytes, as far as it says so.
fn ends_early(error: &ImageError) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let io = match error.downcast_ref::<ImageError>() {
            Some(ImageError::IoError(io)) => Some(io),
            _ => error.downcast_ref::<std::io::Error>(),
        };
        // The GIF decoder has a type of its own for it, with these words.
        if io.is_some_and(|io| io.kind() == ErrorKind::UnexpectedEof) || error.to_string() == "Unexpected End of File" {
            return true;
        }
        cause = error.source();
    }
    false
}

fn name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::Png => "PNG",
        ImageFormat::WebP => "WebP",
        ImageFormat::Bmp => "BMP",
        ImageFormat::Tiff => "TIFF",
        ImageFormat::Gif => "GIF",
        ImageFormat::Qoi => "QOI",
        ImageFormat::Avif => "AVIF",
        other => other.extensions_str().first().copied().unwrap_or("unknown"),
    }
}
