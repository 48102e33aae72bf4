//! The size of an image and the memory that decoding it takes, held against the limits.

use crate::error::{DecodeError, Limit, MAX_ALLOCATION_BYTES, MAX_PIXELS, MAX_SIDE_PX};
use crate::format::Format;

/// What the first bytes of an image file say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The file format by content, as people write it: `JPEG`, `PNG`.
    pub format: &'static str,
    /// Width as stored, before the image is turned upright, px.
    pub width: u32,
    /// Height as stored, px.
    pub height: u32,
    /// Most memory that [`crate::decode`] takes at a time beside the file's own bytes, the pixels that it returns among
    /// it, bytes. An upper bound: much less for most files.
    pub decode_bytes: u64,
}

impl Head {
    pub(crate) fn too_large(&self, limit: Limit) -> DecodeError {
        DecodeError::TooLarge { width: self.width, height: self.height, limit }
    }
}

/// Width and height as stored, and the memory that the decoder takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub width: u32,
    pub height: u32,
    /// At most, for each pixel, with the RGB pixels that come out, bytes.
    pub pixel_bytes: u64,
    /// Whatever the number of pixels is, bytes.
    pub other_bytes: u64,
}

/// What a decoder takes however small the image is, bytes: tables, buffers of the compression. [choice]
const SMALL: u64 = 1 << 20;

impl Size {
    /// The head of an image of this size, where it is within the limits.
    ///
    /// # Errors
    /// [`DecodeError::TooLarge`] over a limit, [`DecodeError::Damaged`] where there is no pixel.
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
