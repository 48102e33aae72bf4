//! Bytes of an image file to upright RGB pixels, by content and never by file name.
//!
//! Pixels come out as Pillow's `convert("RGB")` after `exif_transpose` makes them: alpha is dropped rather than
//! composited, 16-bit channels keep their high byte, grey is repeated.

use crate::format::{Format, recognise};
use crate::head::{self, Head};
use crate::jpeg::{self, Colour, Frame};
use crate::{depth, exif, heif, png, tiff, webp};
use image::error::{ImageError, LimitErrorKind};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};
use std::borrow::Cow;
use std::error::Error;
use std::io::{Cursor, ErrorKind};
use thiserror::Error;

/// Longest side that is decoded, px. Twice the longest side of today's cameras. [choice]
pub const MAX_SIDE_PX: u32 = 32_768;
/// Most pixels that are decoded. 100 megapixels, 300 MB of RGB. [choice]
pub const MAX_PIXELS: u64 = 100_000_000;
/// Most memory that decoding an image may take beside its file, bytes. [choice]
pub const MAX_ALLOCATION_BYTES: u64 = 1 << 30;

/// An image as it was in its file, upright.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    pub pixels: RgbImage,
    /// The file format by content, as people write it: `JPEG`, `PNG`.
    pub format: &'static str,
}

/// Why a file gives no pixels, and what its owner can do.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum DecodeError {
    #[error("the file is empty; send the complete file again")]
    Empty,
    /// What the file is instead.
    #[error("not an image but {what}; {advice}")]
    NotAnImage { what: &'static str, advice: &'static str },
    #[error("not an image: the content is of no known image format")]
    Unknown,
    #[error("a RAW photograph; export it as JPEG or PNG")]
    Raw,
    #[error("the {format} image is cut off: the file ends before its last pixel; send the complete file again")]
    Truncated { format: &'static str },
    #[error("the image is too large: {width}×{height} px, over the limit of {limit}; send a smaller one")]
    TooLarge { width: u32, height: u32, limit: Limit },
    #[error("unsupported image: {what}; {advice}")]
    Unsupported { what: Cow<'static, str>, advice: &'static str },
    #[error("the {format} image is damaged: {what}; copy it again from where it came")]
    Damaged { format: &'static str, what: &'static str },
}

impl DecodeError {
    /// An image of a kind that is not decoded.
    pub(crate) fn unsupported(what: impl Into<Cow<'static, str>>) -> Self {
        DecodeError::Unsupported { what: what.into(), advice: "export it as JPEG or PNG" }
    }
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

/// Decodes the image of a file and turns it upright as its EXIF orientation says. Of an animation, it is the first
/// frame; of several pages, the first that is no preview. `docs/images.md` lists the formats.
///
/// Lossy formats are decoded by the libraries that Pillow, and so every published preprocessing, decodes them with; two
/// correct decoders differ by up to 4 of 255. Size limits are checked on the header, before any pixel is allocated.
///
/// # Errors
/// [`DecodeError`] names what is wrong with the file, and what to do.
pub fn decode(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let format = recognise(bytes)?;
    let head = head::head(bytes)?;
    let whole = |format| by_image_crate(bytes, format, &head);
    let (pixels, orientation) = match format {
        Format::Jpeg => {
            let frame = Frame::read(bytes)?;
            let orientation = frame.exif.map(exif::orientation);
            (jpeg::pixels(bytes, &frame, Colour::Stated)?, orientation)
        }
        Format::Tiff => {
            let page = tiff::Page::find(bytes)?;
            (tiff::pixels(bytes, &page)?, Some(page.orientation))
        }
        // libheif turns the image itself.
        Format::Heic | Format::Avif => (heif::pixels(bytes, format, &head)?, None),
        Format::WebP if !head::ends_with_riff(bytes) => return Err(DecodeError::Truncated { format: head.format }),
        Format::WebP => {
            let pixels = if webp::is_animated(bytes) { whole(ImageFormat::WebP)? } else { webp::pixels(bytes)? };
            (pixels, webp::exif(bytes).map(exif::orientation))
        }
        Format::Png => (png::pixels(bytes, &head)?, png::exif(bytes).map(exif::orientation)),
        Format::Bmp => (whole(ImageFormat::Bmp)?, None),
        Format::Gif => (whole(ImageFormat::Gif)?, None),
        Format::Qoi if !bytes.ends_with(&QOI_END) => return Err(DecodeError::Truncated { format: head.format }),
        Format::Qoi => (whole(ImageFormat::Qoi)?, None),
    };
    let mut upright = DynamicImage::ImageRgb8(pixels);
    upright.apply_orientation(orientation.unwrap_or(Orientation::NoTransforms));
    Ok(Decoded { pixels: upright.into_rgb8(), format: head.format })
}

const QOI_END: [u8; 8] = [0, 0, 0, 0, 0, 0, 0, 1];

fn by_image_crate(bytes: &[u8], format: ImageFormat, head: &Head) -> Result<RgbImage, DecodeError> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    limits.max_image_width = Some(MAX_SIDE_PX);
    limits.max_image_height = Some(MAX_SIDE_PX);
    limits.max_alloc = Some(head.decode_bytes);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|error| refusal(&error, head))?;
    if decoder.total_bytes() > head.decode_bytes {
        return Err(head.too_large(Limit::Memory));
    }
    depth::rgb(DynamicImage::from_decoder(decoder).map_err(|error| refusal(&error, head))?)
}

/// The decoders' own words are for those who write decoders.
fn refusal(error: &ImageError, head: &Head) -> DecodeError {
    let format = head.format;
    match error {
        ImageError::Limits(limit) => head.too_large(match limit.kind() {
            LimitErrorKind::DimensionError => Limit::Side,
            _ => Limit::Memory,
        }),
        ImageError::Unsupported(_) => DecodeError::unsupported(format!("a rare kind of {format}")),
        _ if ends_early(error) => DecodeError::Truncated { format },
        _ => DecodeError::Damaged { format, what: "its data are wrong" },
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
