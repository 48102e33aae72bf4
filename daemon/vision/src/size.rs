//! The size of an image and the memory for decoding it, checked against the limits.

use crate::error::{DecodeError, Limit, MAX_ALLOCATION_BYTES, MAX_PIXELS, MAX_SIDE_PX};
use crate::format::Format;

/// What the first bytes of an image file contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The file format by content, as people write it: `JPEG`, `PNG`.
    pub format: &'static str,
    /// Width as stored, before the image is turned upright, px.
    pub width: u32,
    /// Height as stored, px.
    pub height: u32,
    /// Most memory that [`crate::decode`] holds at any time in addition to the file's own bytes, including the returned
    /// pixels, bytes. An upper bound: most files need much less.
    pub decode_bytes: u64,
}

impl Head {
    pub(crate) fn too_large(&self, limit: Limit) -> DecodeError {
        DecodeError::TooLarge { width: self.width, height: self.height, limit }
    }
}

/// Width and height as stored, and the memory for the decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub width: u32,
    pub height: u32,
    /// Most memory per pixel, including the returned RGB pixels, bytes.
    pub pixel_bytes: u64,
    /// Memory that does not depend on the number of pixels, bytes.
    pub other_bytes: u64,
}

/// Memory that a decoder takes for any image, bytes: tables, buffers for decompression. [choice]
const SMALL: u64 = 1 << 20;

impl Size {
    /// The head of an image of this size, if it is within the limits.
    ///
    /// # Errors
    /// [`DecodeError::TooLarge`] over a limit, [`DecodeError::Damaged`] where the image has no pixel.
    pub fn check(self, format: Format) -> Result<Head, DecodeError> {
        let Self { width, height, .. } = self;
        let pixels = u64::from(width) * u64::from(height);
        let limit = |limit| Err(DecodeError::TooLarge { width, height, limit });
        if pixels == 0 {
            return Err(DecodeError::Damaged { format: format.name(), what: "it has no pixels" });
        }
        if width > MAX_SIDE_PX || height > MAX_SIDE_PX {
            return limit(Limit::Side);
        }
        if pixels > MAX_PIXELS {
            return limit(Limit::Pixels);
        }
        let decode_bytes = pixels * self.pixel_bytes + self.other_bytes.saturating_add(SMALL);
        if decode_bytes > MAX_ALLOCATION_BYTES {
            return limit(Limit::Memory);
        }
        Ok(Head { format: format.name(), width, height, decode_bytes })
    }
}
