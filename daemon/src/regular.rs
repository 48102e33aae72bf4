//! Only regular files, opened without blocking and read in short steps. A pipe, a device, a socket or a slow file
//! system would block the reader.

use nix::fcntl::{OFlag, PosixFadviseAdvice, posix_fadvise};
use nix::sys::statfs::{FUSE_SUPER_MAGIC, fstatfs};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// Opens a regular file for reading; a symbolic link is not followed.
///
/// # Errors
/// The file cannot be opened. The error is `InvalidInput` where it is not a regular file, and the system's `ELOOP`
/// where it is a link.
pub fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    let metadata = file.metadata()?;
    match metadata.is_file() {
        true => Ok((file, metadata)),
        false => Err(io::Error::new(ErrorKind::InvalidInput, "it is no regular file")),
    }
}

/// Bytes of the first step, and fewest of any step: one page. 4 KiB [choice].
const LEAST_BYTES: usize = 4 << 10;
/// Most bytes of a step. 1 MiB [choice].
const MOST_BYTES: usize = 1 << 20;
/// After a step that takes less time, the next one is larger; after any other, smaller. 50 ms [choice].
const STEP_TIME: Duration = Duration::from_millis(50);

/// Reads a file from its beginning, in short steps, and stops when the content is not wanted any more.
///
/// A read from a FUSE file system ends only when that file system answers: neither a signal nor the end of the process
/// interrupts it. A service that is asked to stop therefore waits for the current step. The offset of the file does not
/// change.
pub struct Steps<'a> {
    file: &'a File,
    offset: u64,
    bytes: usize,
    is_wanted: &'a dyn Fn() -> bool,
}

impl<'a> Steps<'a> {
    /// `is_wanted` is called before every step; if it returns false, reading fails.
    ///
    /// # Errors
    /// The kind of the file system cannot be determined.
    pub fn new(file: &'a File, is_wanted: &'a dyn Fn() -> bool) -> io::Result<Self> {
        if fstatfs(file)?.filesystem_type() == FUSE_SUPER_MAGIC {
            // Without this, the kernel would read up to 128 KiB ahead, whatever the size of a step.
            posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_RANDOM)?;
        }
        Ok(Self { file, offset: 0, bytes: LEAST_BYTES, is_wanted })
    }
}

impl Read for Steps<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !(self.is_wanted)() {
            return Err(io::Error::other("nobody waits for the file any more"));
        }
        let most = buffer.len().min(self.bytes);
        let began = Instant::now();
        let read = self.file.read_at(&mut buffer[..most], self.offset)?;
        self.offset += read as u64;
        self.bytes = next_step(self.bytes, read, began.elapsed());
        Ok(read)
    }
}

/// Bytes of the next step, after a step of up to `bytes` that read `read` bytes. A step that read less says nothing
/// about the speed of the file system, because the kernel may have had the rest of a page already.
fn next_step(bytes: usize, read: usize, took: Duration) -> usize {
    let next = match took < STEP_TIME {
        true if read == bytes => 2 * bytes,
        true => bytes,
        false => bytes / 2,
    };
    next.clamp(LEAST_BYTES, MOST_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::Mode;
    use std::cell::Cell;
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

    #[test]
    fn steps_grow_while_they_are_quick_and_shrink_while_they_are_slow() {
        let (quick, slow) = (Duration::from_millis(1), Duration::from_secs(4));
        let after = |times: &[Duration]| times.iter().fold(LEAST_BYTES, |bytes, took| next_step(bytes, bytes, *took));
        assert_eq!(after(&[]), 4096);
        assert_eq!(after(&[quick; 3]), 32 << 10);
        assert_eq!(after(&[quick; 20]), 1 << 20);
        assert_eq!(after(&[quick, quick, slow]), 8 << 10);
        assert_eq!(after(&[slow; 5]), 4096);
        assert_eq!(next_step(4096, 4064, quick), 4096, "the page was there already");
    }

    #[test]
    fn a_file_is_read_whole_while_it_is_wanted_and_no_further_than_that() {
        let content: Vec<u8> = (0..3_000_000u32).map(|number| (number / 7) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        io::copy(&mut &content[..], &mut file).unwrap();
        let mut read = Vec::new();
        Steps::new(&file, &|| true).unwrap().read_to_end(&mut read).unwrap();
        assert!(read == content);

        let steps = Cell::new(0);
        let three = || {
            steps.set(steps.get() + 1);
            steps.get() <= 3
        };
        read.clear();
        assert!(Steps::new(&file, &three).unwrap().read_to_end(&mut read).is_err());
        assert_eq!(steps.get(), 4);
        assert!(read.len() <= (4 + 8 + 16) << 10 && content.starts_with(&read), "{} bytes", read.len());
    }
}
