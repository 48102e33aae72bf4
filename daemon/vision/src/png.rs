//! The chunks of a PNG file: its size, and which way up it is. Nothing is decoded here.

use crate::DecodeError;
use crate::head::Size;

const FORMAT: &str = "PNG";

/// # Errors
/// [`DecodeError`] where the header is cut off or of another kind.
pub fn size(bytes: &[u8]) -> Result<Size, DecodeError> {
    let cut = || DecodeError::Truncated { format: FORMAT };
    let kind = bytes.get(12..16).ok_or_else(cut)?;
    if kind == b"CgBI" {
        return Err(DecodeError::unsupported("a PNG in Apple's own form (CgBI)"));
    }
    if kind != b"IHDR" {
        return Err(DecodeError::Damaged { format: FORMAT, what: "its header is missing" });
    }
    let [w0, w1, w2, w3, h0, h1, h2, h3, bits, colour] =
        bytes.get(16..26).and_then(|b| b.try_into().ok()).ok_or_else(cut)?;
    let (width, height) = (u32::from_be_bytes([w0, w1, w2, w3]), u32::from_be_bytes([h0, h1, h2, h3]));
    // As the decoder hands them out, with the alpha that a chunk may add.
    let channels = match colour {
        0 | 4 => 2,
        _ => 4,
    };
    let native = channels * if bits == 16 { 2 } else { 1 };
    Ok(Size { width, height, pixel_bytes: (native + 3).max(6), other_bytes: row_bytes(width) })
}

/// Rows as they are stored, before and after their filter.
fn row_bytes(width: u32) -> u64 {
    4 * 8 * u64::from(width.min(crate::MAX_SIDE_PX))
}

/// EXIF data, before the pixels or behind them.
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
