//! Bytes of an image file to upright RGB pixels. The content decides the format, never the file name.
//!
//! The pixels equal those of Pillow's `convert("RGB")` after `exif_transpose`: alpha is dropped rather than composited,
//! 16-bit channels keep their high byte, grey is repeated.

use crate::error::{DecodeError, Limit, MAX_SIDE_PX};
use crate::format::{Format, recognise};
use crate::head;
use crate::jpeg::{self, Colour, Frame};
use crate::size::Head;
use crate::{depth, exif, heif, png, tiff, webp};
use image::error::{ImageError, LimitErrorKind};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};
use std::error::Error;
use std::io::{Cursor, ErrorKind};

/// An image as it was in its file, upright.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// Its pixels, RGB with 8 bits a channel, turned as the EXIF orientation says.
    pub pixels: RgbImage,
    /// The file format by content, as people write it: `JPEG`, `PNG`.
    pub format: &'static str,
}

/// Decodes the image in a file and turns it upright as its EXIF orientation says. Of an animation, the first frame is
/// used; of several pages, the first that is not a preview. `docs/images.md` lists the formats.
///
/// Lossy formats are decoded by the same libraries as in Pillow, and so in every published preprocessing, because two
/// correct decoders differ by up to 4 of 255. Size limits are checked on the header, before memory for pixels is
/// allocated.
///
/// # Errors
/// [`DecodeError`] names the problem of the file and the remedy.
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

/// The decoders' own messages are only useful to authors of decoders, so they are replaced.
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

/// Whether a decoder ran out of bytes, as far as its error shows it.
fn ends_early(error: &ImageError) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let io = match error.downcast_ref::<ImageError>() {
            Some(ImageError::IoError(io)) => Some(io),
            _ => error.downcast_ref::<std::io::Error>(),
        };
        // The GIF decoder has its own error type for this, with this message.
        if io.is_some_and(|io| io.kind() == ErrorKind::UnexpectedEof) || error.to_string() == "Unexpected End of File" {
            return true;
        }
        cause = error.source();
    }
    false
}
