//! From a client's descriptor to the session's input.

use super::ServeError;
use crate::regular::Steps;
use coft_vision::{Head, Preprocess};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

/// An image that was read, and not decoded yet.
#[derive(Debug)]
pub struct Unpacked {
    pub bytes: Vec<u8>,
    pub head: Head,
}

/// Reads the image behind a descriptor, for as long as somebody wants it, and what its head says.
pub fn read(image: &OwnedFd, limit: u64, is_wanted: &dyn Fn() -> bool) -> Result<Unpacked, ServeError> {
    let (file, size) = open(image)?;
    if size > limit {
        return Err(ServeError::TooLarge { size, limit });
    }
    let mut bytes = Vec::with_capacity(size as usize);
    // The file may shrink meanwhile; what is left of it is then decoded, and found wanting.
    let read = Steps::new(&file, is_wanted).and_then(|steps| steps.take(size).read_to_end(&mut bytes));
    read.map_err(unreadable)?;
    let head = coft_vision::head(&bytes).map_err(|error| ServeError::BadImage(error.to_string()))?;
    Ok(Unpacked { bytes, head })
}

/// Bytes of the file.
pub fn size(image: &OwnedFd) -> Result<u64, ServeError> {
    open(image).map(|(_, size)| size)
}

/// Decodes and prepares an image: 3·S·S values, as the trainer prepared its own.
pub fn prepare(bytes: &[u8], preprocess: &Preprocess) -> Result<Vec<f32>, ServeError> {
    let decoded = coft_vision::decode(bytes).map_err(|error| ServeError::BadImage(error.to_string()))?;
    let mut pixels = vec![0f32; preprocess.tensor_len()];
    preprocess.whole(&decoded, &mut pixels);
    Ok(pixels)
}

/// The file and its size. A pipe or a socket could keep the service waiting: only regular files are read.
fn open(image: &OwnedFd) -> Result<(File, u64), ServeError> {
    let file = File::from(image.as_fd().try_clone_to_owned().map_err(unreadable)?);
    let metadata = file.metadata().map_err(unreadable)?;
    match metadata.is_file() {
        true => Ok((file, metadata.len())),
        false => Err(ServeError::NotAFile),
    }
}

fn unreadable(error: io::Error) -> ServeError {
    ServeError::BadImage(format!("the descriptor cannot be read: {error}; open the file for reading"))
}
