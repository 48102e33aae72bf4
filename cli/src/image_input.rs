//! Opens a file, or `-`, as a descriptor that the service accepts: a regular file or a sealed memfd.
//!
//! The content is not checked here; the service decides whether it is an image.

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::path::Path;

/// The usual name for standard input.
pub const STANDARD_INPUT: &str = "-";

/// Most bytes that are read from a pipe: far more than any photograph has, and a limit for `/dev/zero` (choice).
const PIPE_LIMIT_BYTES: u64 = 256 << 20;

/// Blocks until a pipe has been read to its end.
pub fn open(name: &Path) -> io::Result<OwnedFd> {
    if name.as_os_str() == STANDARD_INPUT {
        return sealed(&mut io::stdin().lock(), PIPE_LIMIT_BYTES);
    }
    let mut file = OpenOptions::new().read(true).open(name)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(io::Error::new(
            io::ErrorKind::IsADirectory,
            "it is a directory; name the files in it, or give --recursive",
        ));
    }
    if kind.is_file() { Ok(file.into()) } else { sealed(&mut file, PIPE_LIMIT_BYTES) }
}

/// Copies `source` into memory that cannot be changed afterwards.
fn sealed(source: &mut impl Read, limit_bytes: u64) -> io::Result<OwnedFd> {
    let mut memory = File::from(memfd_create(c"coftctl-image", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?);
    let copied = io::copy(&mut source.take(limit_bytes + 1), &mut memory)?;
    if copied > limit_bytes {
        let limit = limit_bytes >> 20;
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("more than {limit} MiB came; is it an image?"),
        ));
    }
    memory.rewind()?;
    let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    fcntl(&memory, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(memory.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_pipe_becomes_sealed_memory() {
        let mut memory = File::from(sealed(&mut &b"pixels"[..], 6).unwrap());
        let seals = SealFlag::from_bits_truncate(fcntl(&memory, FcntlArg::F_GET_SEALS).unwrap());
        assert!(seals.contains(SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL));
        let mut text = String::new();
        memory.read_to_string(&mut text).unwrap();
        assert_eq!(text, "pixels");
        memory.rewind().unwrap();
        assert_eq!(memory.write(b"other").unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn a_pipe_without_end_is_refused() {
        assert_eq!(sealed(&mut io::repeat(0), 1 << 20).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(open(dir.path()).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        assert_eq!(open(&dir.path().join("absent.jpg")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
