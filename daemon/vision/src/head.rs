//! What decoding an image needs, from its first bytes: format, size, memory. No pixel is decoded.

use crate::error::DecodeError;
use crate::format::{Format, recognise};
use crate::heif::boxes;
use crate::jpeg::Frame;
use crate::size::{Head, Size};
use crate::tiff::Page;
use crate::{exif, png};
use image::metadata::Orientation;

/// Reads the head of an image file, from the whole file or its first bytes. A few kB are enough for most files; a JPEG
/// with a large preview, a TIFF and a HEIC may need the whole file.
///
/// # Errors
/// The same as of [`crate::decode`]. [`DecodeError::Truncated`] for the first bytes of a longer file means that more
/// bytes are needed; every other error is valid for the whole file, whatever follows.
pub fn head(bytes: &[u8]) -> Result<Head, DecodeError> {
    let format = recognise(bytes)?;
    let size = match format {
        Format::Jpeg => jpeg(&Frame::read(bytes)?)?,
        Format::Png => png::size(bytes)?,
        Format::WebP => webp(bytes)?,
        Format::Gif => gif(bytes)?,
        Format::Bmp => bmp(bytes)?,
        Format::Qoi => qoi(bytes)?,
        Format::Tiff => Page::find(bytes)?.size(),
        Format::Heic | Format::Avif => boxes::size(bytes, format)?,
    };
    size.check(format)
}

/// Bytes per pixel of the RGB image and its rotated copy, which exist at the same time.
const TURNED: u64 = 6;

fn jpeg(frame: &Frame) -> Result<Size, DecodeError> {
    frame.check()?;
    let turned = frame.exif.map(exif::orientation).is_some_and(|turn| turn != Orientation::NoTransforms);
    let pixel_bytes = if turned { TURNED } else { 3 };
    Ok(Size { width: frame.width, height: frame.height, pixel_bytes, other_bytes: frame.working_bytes() })
}

fn webp(bytes: &[u8]) -> Result<Size, DecodeError> {
    let format = Format::WebP.name();
    let features = ::webp::BitstreamFeatures::new(bytes).ok_or(match ends_with_riff(bytes) {
        true => DecodeError::Damaged { format, what: "its header is wrong" },
        false => DecodeError::Truncated { format },
    })?;
    // libwebp: its own four bytes per pixel of a lossless image, and the copy that is returned. An animation: frame and
    // canvas.
    let pixel_bytes = if features.has_animation() { 19 } else { 12 };
    Ok(Size { width: features.width(), height: features.height(), pixel_bytes, other_bytes: 0 })
}

/// Whether a RIFF file is complete.
pub(crate) fn ends_with_riff(bytes: &[u8]) -> bool {
    let length = bytes.get(4..8).and_then(|length| length.try_into().ok()).map(u32::from_le_bytes);
    length.is_some_and(|length| bytes.len() as u64 >= 8 + u64::from(length))
}

fn gif(bytes: &[u8]) -> Result<Size, DecodeError> {
    let cut = DecodeError::Truncated { format: Format::Gif.name() };
    let [w0, w1, h0, h1] = field(bytes, 6).ok_or(cut)?;
    let (width, height) = (u16::from_le_bytes([w0, w1]).into(), u16::from_le_bytes([h0, h1]).into());
    // The canvas, the frame, and the RGB image.
    Ok(Size { width, height, pixel_bytes: 12, other_bytes: 0 })
}

fn bmp(bytes: &[u8]) -> Result<Size, DecodeError> {
    let cut = || DecodeError::Truncated { format: Format::Bmp.name() };
    let header = u32::from_le_bytes(field(bytes, 14).ok_or_else(cut)?);
    let (width, height) = if header == 12 {
        let [w0, w1, h0, h1] = field(bytes, 18).ok_or_else(cut)?;
        (u16::from_le_bytes([w0, w1]).into(), u16::from_le_bytes([h0, h1]).into())
    } else {
        let side = |at| field(bytes, at).map(|side| i32::from_le_bytes(side).unsigned_abs()).ok_or_else(cut);
        (side(18)?, side(22)?) // A negative height counts from the top.
    };
    Ok(Size { width, height, pixel_bytes: 8, other_bytes: 0 })
}

fn qoi(bytes: &[u8]) -> Result<Size, DecodeError> {
    let cut = || DecodeError::Truncated { format: Format::Qoi.name() };
    let side = |at| field(bytes, at).map(u32::from_be_bytes).ok_or_else(cut);
    let (width, height) = (side(4)?, side(8)?);
    let [channels] = field(bytes, 12).ok_or_else(cut)?;
    Ok(Size { width, height, pixel_bytes: if channels == 4 { 8 } else { 3 }, other_bytes: 0 })
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}
