//! SHA-256 of files, streamed.

use sha2::{Digest, Sha256};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// SHA-256, hex, of the files' bytes one behind the other; of a single file it is that file's own.
///
/// # Errors
/// A file cannot be read.
pub fn digest(files: &[PathBuf]) -> io::Result<String> {
    let mut hash = Sha256::new();
    for file in files {
        // A buffer of this size keeps the disk and the hash busy alike.
        let mut reader = io::BufReader::with_capacity(1 << 20, File::open(file)?);
        io::copy(&mut reader, &mut hash)?;
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// SHA-256 of one file, hex.
///
/// # Errors
/// The file cannot be read.
pub fn file_digest(file: &Path) -> io::Result<String> {
    digest(&[file.to_owned()])
}
