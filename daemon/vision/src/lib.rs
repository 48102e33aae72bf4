//! Bytes to pixels to a normalised tensor: the one preprocessing that labelling, training, exporting and serving share,
//! so that no two of them ever see an image differently.
//!
//! [`head`] reads from the first bytes of a file what decoding it will need. [`cores`] says how many threads compute
//! best.
//!
//! An image passes three stages. [`decode`] turns the bytes of a file into upright RGB pixels; a [`Region`] of them may
//! be used instead of the whole. [`Preprocess::canonical`] shrinks them once, to the size for a model;
//! [`save_canonical`] keeps the result, and decoding it again gives the same pixels. [`Preprocess::tensor`] (or
//! [`Preprocess::augmented`], for training) crops and normalises. [`Preprocess::whole`] does the last two stages for an
//! image that is to be answered, and squashes it if the model requires that.
//!
//! This crate does not know models, classes, watched files, or the bus.

#![warn(missing_docs, clippy::missing_errors_doc)]

mod canonical;
mod cores;
mod decode;
mod depth;
mod error;
mod exif;
mod format;
mod head;
mod heif;
mod ifd;
mod jpeg;
mod png;
mod preprocess;
mod region;
mod size;
mod tensor;
mod tiff;
mod webp;

pub use canonical::save_canonical;
pub use cores::cores;
pub use decode::{Decoded, decode};
pub use error::{DecodeError, Limit, MAX_ALLOCATION_BYTES, MAX_PIXELS, MAX_SIDE_PX};
pub use head::head;
pub use heif::has_libheif;
pub use preprocess::{CONFIG_FILE, Filter, Preprocess, PreprocessError, with_image_size};
pub use region::Region;
pub use size::Head;
pub use tensor::{Window, random_resized_crop};
