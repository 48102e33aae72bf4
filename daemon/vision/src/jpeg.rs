//! Decodes JPEG by libjpeg-turbo, which rounds and upsamples chroma as libjpeg does.

mod segments;

use crate::error::{DecodeError, Limit};
use image::RgbImage;
use std::ffi::{c_int, c_long};
use turbojpeg_sys as _; // links libjpeg-turbo

pub use segments::Frame;

const FORMAT: &str = "JPEG";

/// Most scans of a progressive file. Each costs a pass over all coefficients, and a small file can hold thousands
/// ("Two Issues with the JPEG Standard", libjpeg-turbo.org). [choice]
const MAX_SCANS: c_int = 500;

/// Memory that libjpeg takes for any image: tables and small structures, bytes. [choice]
const ROOM: u64 = 1 << 20;

/// How the three channels are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Colour {
    /// As stated in the file.
    Stated = 0,
    Rgb = 1,
    YCbCr = 2,
}

// The list of outcomes in decode.c.
const WHOLE: c_int = 0;
const ENDS_EARLY: c_int = 1;
const ROWS_MISSING: c_int = 2;
const DAMAGED: c_int = 3;
const UNSUPPORTED: c_int = 4;
const TOO_MANY_SCANS: c_int = 5;
const TOO_MUCH_MEMORY: c_int = 6;

unsafe extern "C" {
    fn coft_jpeg_decode(
        bytes: *const u8,
        length: usize,
        rgb: *mut u8,
        width: u32,
        height: u32,
        colour: c_int,
        max_scans: c_int,
        max_memory: c_long,
    ) -> c_int;
}

/// The pixels of a JPEG file, not rotated. Grey is repeated, and inks are mixed as in Pillow.
///
/// A file is accepted if it has all rows. It does not matter what follows the last row, or that nothing follows it:
/// some cameras omit the end marker. A file with missing or invented rows is refused.
///
/// # Errors
/// [`DecodeError`] for a file that is cut off, damaged or of a kind that is not decoded.
pub fn pixels(bytes: &[u8], frame: &Frame, colour: Colour) -> Result<RgbImage, DecodeError> {
    frame.check()?;
    let (bytes, has_end) = segments::without_lost_end(bytes);
    let (width, height) = (frame.width, frame.height);
    let mut rgb = vec![0; 3 * width as usize * height as usize];
    let memory = c_long::try_from(frame.working_bytes() + ROOM).unwrap_or(c_long::MAX);
    // SAFETY: the pointers are those of slices of the stated lengths, which nothing else touches meanwhile; decode.c
    // writes 3 * width * height bytes, having compared both sides with the file's own.
    let outcome = unsafe {
        coft_jpeg_decode(
            bytes.as_ptr(),
            bytes.len(),
            rgb.as_mut_ptr(),
            width,
            height,
            colour as c_int,
            MAX_SCANS,
            memory,
        )
    };
    let damaged = |what| Err(DecodeError::Damaged { format: FORMAT, what });
    match outcome {
        // With arithmetic coding, zeros at the end of the data are omitted, so the decoder cannot see a cut. It cannot
        // see that a scan is missing either.
        WHOLE if !has_end && (frame.is_arithmetic() || !frame.has_all_scans(bytes)) => {
            Err(DecodeError::Truncated { format: FORMAT })
        }
        WHOLE => Ok(RgbImage::from_raw(width, height, rgb).expect("three bytes a pixel")),
        // Without an end marker, the most likely cause is that the rest is missing.
        ROWS_MISSING | DAMAGED if !has_end => Err(DecodeError::Truncated { format: FORMAT }),
        ENDS_EARLY => Err(DecodeError::Truncated { format: FORMAT }),
        ROWS_MISSING => damaged("a part of its pixels is missing"),
        UNSUPPORTED => Err(DecodeError::unsupported("a rare kind of JPEG")),
        TOO_MANY_SCANS => damaged("it has too many scans"),
        TOO_MUCH_MEMORY => Err(DecodeError::TooLarge { width, height, limit: Limit::Memory }),
        _ => damaged("its data are wrong"),
    }
}
