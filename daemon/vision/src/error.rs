//! Why a file cannot be decoded, and the limits of decoding.

use std::borrow::Cow;
use thiserror::Error;

/// Longest side that is decoded, px. Twice the longest side of today's cameras. [choice]
pub const MAX_SIDE_PX: u32 = 32_768;
/// Most pixels that are decoded. 100 megapixels, 300 MB of RGB. [choice]
pub const MAX_PIXELS: u64 = 100_000_000;
/// Most memory that decoding an image may take in addition to its file, bytes. [choice]
pub const MAX_ALLOCATION_BYTES: u64 = 1 << 30;

/// Why a file cannot be decoded, and what its owner can do.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum DecodeError {
    /// The file has no bytes.
    #[error("the file is empty; send the complete file again")]
    Empty,
    /// The file is something else than an image.
    #[error("not an image but {what}; {advice}")]
    NotAnImage {
        /// What the file is.
        what: &'static str,
        /// What its owner can do.
        advice: &'static str,
    },
    /// The first bytes are those of no known format.
    #[error("not an image: the content is of no known image format")]
    Unknown,
    /// A photograph in a camera's own format.
    #[error("a RAW photograph; export it as JPEG or PNG")]
    Raw,
    /// The file ends before the image does.
    #[error("the {format} image is cut off: the file ends before its last pixel; send the complete file again")]
    Truncated {
        /// Format of the image.
        format: &'static str,
    },
    /// The image is too large; no pixel was decoded.
    #[error("the image is too large: {width}×{height} px, over the limit of {limit}; send a smaller one")]
    TooLarge {
        /// Width as stored, px.
        width: u32,
        /// Height as stored, px.
        height: u32,
        /// The limit that is exceeded.
        limit: Limit,
    },
    /// An image of a kind that is not decoded.
    #[error("unsupported image: {what}; {advice}")]
    Unsupported {
        /// The kind, in words.
        what: Cow<'static, str>,
        /// What its owner can do.
        advice: &'static str,
    },
    /// The file is complete, but its data are wrong.
    #[error("the {format} image is damaged: {what}; copy it again from where it came")]
    Damaged {
        /// Format of the image.
        format: &'static str,
        /// What is wrong, in words.
        what: &'static str,
    },
}

impl DecodeError {
    /// An image of a kind that is not decoded.
    pub(crate) fn unsupported(what: impl Into<Cow<'static, str>>) -> Self {
        DecodeError::Unsupported { what: what.into(), advice: "export it as JPEG or PNG" }
    }
}

/// The limit that an image exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Limit {
    /// [`MAX_SIDE_PX`] for width and height.
    #[error("{MAX_SIDE_PX} px a side")]
    Side,
    /// [`MAX_PIXELS`] in total.
    #[error("{} megapixels", MAX_PIXELS / 1_000_000)]
    Pixels,
    /// [`MAX_ALLOCATION_BYTES`] of memory while it is decoded.
    #[error("{} MiB of memory while decoding", MAX_ALLOCATION_BYTES >> 20)]
    Memory,
}
