//! Decodes PNG row by row: decoded as a whole, a file with four channels of 16 bits would take eight bytes per pixel
//! before it gives three.

use crate::depth::Span;
use crate::error::{DecodeError, Limit};
use crate::size::{Head, Size};
use ::png::{BitDepth, ColorType, Decoder, DecodingError, Limits, Transformations};
use image::RgbImage;
use std::io::{Cursor, ErrorKind};

const FORMAT: &str = "PNG";

/// # Errors
/// [`DecodeError`] where the header is cut off, or the kind of file is not supported.
pub fn size(bytes: &[u8]) -> Result<Size, DecodeError> {
    let cut = || DecodeError::Truncated { format: FORMAT };
    let kind = bytes.get(12..16).ok_or_else(cut)?;
    if kind == b"CgBI" {
        return Err(DecodeError::unsupported("a PNG in Apple's own form (CgBI)"));
    }
    if kind != b"IHDR" {
        return Err(DecodeError::Damaged { format: FORMAT, what: "its header is missing" });
    }
    let [w0, w1, w2, w3, h0, h1, h2, h3, bits, colour, _, _, interlaced] =
        bytes.get(16..29).and_then(|b| b.try_into().ok()).ok_or_else(cut)?;
    let (width, height) = (u32::from_be_bytes([w0, w1, w2, w3]), u32::from_be_bytes([h0, h1, h2, h3]));
    // RGB and its rotated copy, because the orientation may come after the pixels. An interlaced image is needed as a
    // whole before that, as it is stored, with the alpha that a chunk may add.
    let channels = if matches!(colour, 0 | 4) { 2 } else { 4 };
    let native = if bits == 16 { 2 * channels } else { channels };
    let pixel_bytes = if interlaced == 0 { 6 } else { native + 3 };
    Ok(Size { width, height, pixel_bytes: pixel_bytes.max(6), other_bytes: row_bytes(width) })
}

/// Bytes for the rows as they are stored, before and after their filter.
fn row_bytes(width: u32) -> u64 {
    4 * 8 * u64::from(width.min(crate::MAX_SIDE_PX))
}

/// EXIF data, which may come before or after the pixels.
pub fn exif(bytes: &[u8]) -> Option<&[u8]> {
    let mut at = 8;
    loop {
        let length = u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize;
        let body = at + 8..(at + 8).checked_add(length)?;
        if bytes.get(at + 4..at + 8)? == b"eXIf" {
            return bytes.get(body);
        }
        at = body.end.checked_add(4)?;
    }
}

/// The pixels of a PNG file, not rotated.
///
/// # Errors
/// [`DecodeError`] where the file is cut off or damaged, or would show almost nothing in 8 bits.
pub fn pixels(bytes: &[u8], head: &Head) -> Result<RgbImage, DecodeError> {
    let refusal = |error| refusal(error, head);
    let limits = Limits { bytes: usize::try_from(head.decode_bytes).unwrap_or(usize::MAX) };
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), limits);
    // These chunks are not needed, so their errors do not matter.
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(Transformations::EXPAND);
    let mut reader = decoder.read_info().map_err(refusal)?;
    let (colour, bits) = reader.output_color_type();
    let channels = match colour {
        ColorType::Grayscale => 1,
        ColorType::GrayscaleAlpha => 2,
        ColorType::Rgb | ColorType::Indexed => 3,
        ColorType::Rgba => 4,
    };
    let mut sink = Sink { span: (bits == BitDepth::Sixteen).then(Span::default), channels };
    let mut out = RgbImage::new(head.width, head.height);
    let stride = 3 * head.width as usize;
    if reader.info().interlaced {
        let length = reader.output_buffer_size().ok_or(head.too_large(Limit::Memory))?;
        let mut whole = vec![0; length];
        let frame = reader.next_frame(&mut whole).map_err(refusal)?;
        for (from, to) in whole.chunks_exact(frame.line_size).zip(out.chunks_exact_mut(stride)) {
            sink.row(from, to);
        }
    } else {
        for to in out.chunks_exact_mut(stride) {
            let row = reader.next_row().map_err(refusal)?.ok_or(DecodeError::Truncated { format: FORMAT })?;
            sink.row(row.data(), to);
        }
        // The rest of the compressed data contains the checksum.
        reader.next_row().map_err(refusal)?;
    }
    sink.span.map_or(Ok(()), |span| span.check())?;
    Ok(out)
}

/// Converts rows of the decoder to rows of RGB.
struct Sink {
    /// Range of the values; only for 16-bit pixels.
    span: Option<Span>,
    channels: usize,
}

impl Sink {
    fn row(&mut self, from: &[u8], to: &mut [u8]) {
        let colours = if self.channels >= 3 { 3 } else { 1 };
        let bytes = if self.span.is_some() { 2 } else { 1 };
        if let Some(span) = &mut self.span {
            for pixel in from.chunks_exact(2 * self.channels) {
                span.add(pixel[..2 * colours].chunks_exact(2).map(|value| u16::from_be_bytes([value[0], value[1]])));
            }
        }
        // The high byte comes first.
        for (to, pixel) in to.chunks_exact_mut(3).zip(from.chunks_exact(bytes * self.channels)) {
            let at = |channel: usize| pixel[bytes * channel % (bytes * colours)];
            to.copy_from_slice(&[at(0), at(1), at(2)]);
        }
    }
}

fn refusal(error: DecodingError, head: &Head) -> DecodeError {
    match error {
        DecodingError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: FORMAT }
        }
        DecodingError::LimitsExceeded => head.too_large(Limit::Memory),
        _ => DecodeError::Damaged { format: FORMAT, what: "its data are wrong" },
    }
}
