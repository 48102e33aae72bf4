//! From a client's descriptor to the session's input.

use super::ServeError;
use coft_vision::Preprocess;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// Reads, decodes and prepares the image behind a descriptor: 3·S·S values, as the trainer prepared its own.
pub fn prepare(image: &OwnedFd, limit: u64, preprocess: &Preprocess) -> Result<Vec<f32>, ServeError> {
    let bytes = read(image, limit)?;
    let decoded = coft_vision::decode(&bytes).map_err(|error| ServeError::BadImage(error.to_string()))?;
    let mut pixels = vec![0f32; preprocess.tensor_len()];
    preprocess.whole(&decoded, &mut pixels);
    Ok(pixels)
}

/// The whole file, from its start. A pipe or a socket could keep the service waiting: only regular files are read.
fn read(image: &OwnedFd, limit: u64) -> Result<Vec<u8>, ServeError> {
    let unreadable = |error: io::Error| {
        ServeError::BadImage(format!("the descriptor cannot be read: {error}; open the file for reading"))
    };
    let file = File::from(image.as_fd().try_clone_to_owned().map_err(unreadable)?);
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(ServeError::NotAFile);
    }
    let size = metadata.len();
    if size > limit {
        return Err(ServeError::TooLarge { size, limit });
    }
    let mut bytes = vec![0u8; size as usize];
    let mut filled = 0;
    // The file may shrink meanwhile; what is left of it is then decoded, and found wanting.
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(error)),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
