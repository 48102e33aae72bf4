//! File systems for a test: a small one, and one that is slow or does not answer.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A disk that is soon full; unmounted when dropped.
pub struct SmallDisk(TempDir);

impl SmallDisk {
    /// A disk of so many bytes, written as mount(8) has it; none, and a word why, where mounting is not allowed.
    ///
    /// # Panics
    /// Where there are no temporary directories or no mount(8).
    pub fn mount(size: &str) -> Option<Self> {
        let dir = TempDir::with_prefix("coft-disk-").expect("a temporary directory");
        let options = format!("size={size},mode=0755");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir.path()).stderr(Stdio::null());
        if command.status().expect("mount(8) is there").success() {
            return Some(Self(dir));
        }
        eprintln!("skipped: cannot mount a small file system; run as root for that");
        None
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all room but so many bytes.
    ///
    /// # Panics
    /// Where the disk cannot be written.
    pub fn fill(&self, but: u64) {
        let mut file = File::create(self.filler()).expect("a file on the disk");
        for size in [64 << 10, 4 << 10, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        let size = file.metadata().expect("the file is open").len();
        file.set_len(size - but).expect("a file can be cut off");
    }

    /// Gives the room back.
    ///
    /// # Panics
    /// Where it was not taken.
    pub fn free(&self) {
        fs::remove_file(self.filler()).expect("the disk was filled");
    }

    /// Lets nobody open anything there for writing, as after a disk has failed; what is open stays so.
    ///
    /// # Panics
    /// Where that is not possible.
    pub fn make_read_only(&self) {
        // The file system itself cannot be, while a file is open for writing: a read-only view of it is mounted above.
        for options in [&["--bind"][..], &["-o", "remount,bind,ro"]] {
            let (mut command, dir) = (Command::new("mount"), self.path());
            command.args(options).args(if options.len() == 1 { vec![dir, dir] } else { vec![dir] });
            assert!(command.status().expect("mount(8) is there").success(), "mount {options:?}");
        }
    }

    /// The opposite.
    pub fn make_writable(&self) {
        unmount(self.path());
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The read-only view, where there is one, and the disk.
        unmount(self.path());
        unmount(self.path());
    }
}

/// A file system of FUSE that shows another directory; unmounted when dropped.
pub struct Bindfs {
    process: Child,
    at: PathBuf,
}

impl Bindfs {
    /// None, and a word why, where there is no bindfs.
    ///
    /// # Panics
    /// Where there is no directory to mount it on.
    pub fn mount(from: &Path, at: &Path, options: &[&str]) -> Option<Self> {
        let device = || fs::metadata(at).expect("a directory to mount on").dev();
        let before = device();
        let process = Command::new("bindfs").args(options).arg("-f").args([from, at]).stdin(Stdio::null()).spawn();
        let Ok(process) = process else {
            eprintln!("skipped: there is no bindfs (Debian package bindfs)");
            return None;
        };
        let mut bindfs = Self { process, at: at.to_owned() };
        let since = Instant::now();
        while device() == before {
            if !matches!(bindfs.process.try_wait(), Ok(None)) || since.elapsed() > Duration::from_secs(30) {
                eprintln!("skipped: bindfs does not mount here");
                return None;
            }
            thread::sleep(Duration::from_millis(10));
        }
        Some(bindfs)
    }

    /// Has it stop answering, or go on.
    ///
    /// # Panics
    /// Where it has ended.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id() as i32), signal).expect("it has not ended");
    }
}

impl Drop for Bindfs {
    fn drop(&mut self) {
        // What waits for it is let go of by the kernel. It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
        unmount(&self.at);
    }
}

/// Lazily: a daemon that a failed test leaves may still use it.
fn unmount(at: &Path) {
    // It may not be mounted.
    let _ = Command::new("umount").arg("-l").arg(at).stderr(Stdio::null()).status();
}
