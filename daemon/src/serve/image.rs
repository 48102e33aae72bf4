//! From a client's descriptor to the session's input.

use super::ServeError;
use crate::regular::Steps;
use coft_vision::{Head, Preprocess};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

/// An image that was read but not decoded yet.
#[derive(Debug)]
pub struct Unpacked {
    pub bytes: Vec<u8>,
    pub head: Head,
}

/// Reads the image behind a descriptor, and its head. Stops when nobody waits for it any more.
pub fn read(image: &OwnedFd, limit: u64, is_wanted: &dyn Fn() -> bool) -> Result<Unpacked, ServeError> {
    let (file, size) = open(image)?;
    if size > limit {
        return Err(ServeError::TooLarge { size, limit });
    }
    let mut bytes = Vec::with_capacity(size as usize);
    // The file may shrink while it is read; decoding the shorter content then fails.
    let read = Steps::new(&file, is_wanted).and_then(|steps| steps.take(size).read_to_end(&mut bytes));
    read.map_err(unreadable)?;
    let head = coft_vision::head(&bytes).map_err(|error| ServeError::BadImage(error.to_string()))?;
    Ok(Unpacked { bytes, head })
}

/// Size of the file, B.
pub fn size(image: &OwnedFd) -> Result<u64, ServeError> {
    open(image).map(|(_, size)| size)
}

/// Decodes an image and prepares it as the trainer does: 3·S·S values.
pub fn prepare(bytes: &[u8], preprocess: &Preprocess) -> Result<Vec<f32>, ServeError> {
    let decoded = coft_vision::decode(bytes).map_err(|error| ServeError::BadImage(error.to_string()))?;
    let mut pixels = vec![0f32; preprocess.tensor_len()];
    preprocess.whole(&decoded, &mut pixels);
    Ok(pixels)
}

/// The file and its size. Only regular files are accepted, because reading a pipe or a socket could block the service.
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
