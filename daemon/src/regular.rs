//! Regular files alone, opened without waiting: a pipe, a device or a socket in a file's place would hold up whoever
//! reads it.

use nix::fcntl::OFlag;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens a regular file for reading; a link in its place is not followed.
///
/// # Errors
/// Where it cannot be opened; `InvalidInput` where it is no regular file, and the system's `ELOOP` where it is a link.
pub fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    let metadata = file.metadata()?;
    match metadata.is_file() {
        true => Ok((file, metadata)),
        false => Err(io::Error::new(ErrorKind::InvalidInput, "it is no regular file")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::Mode;
    use std::os::unix::fs::symlink;

    #[test]
    fn nothing_but_a_regular_file_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("a"), "12345").unwrap();
        symlink(path("a"), path("link")).unwrap();
        nix::unistd::mkfifo(&path("pipe"), Mode::S_IRWXU).unwrap();
        assert_eq!(open(&path("a")).unwrap().1.len(), 5);
        for (name, kind) in
            [("pipe", ErrorKind::InvalidInput), (".", ErrorKind::InvalidInput), ("b", ErrorKind::NotFound)]
        {
            assert_eq!(open(&path(name)).unwrap_err().kind(), kind, "{name}");
        }
        assert_eq!(open(Path::new("/dev/zero")).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(open(&path("link")).unwrap_err().raw_os_error(), Some(libc::ELOOP));
    }
}
