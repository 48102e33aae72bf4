//! File systems for tests: a small one, and one that is slow or does not answer.

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

/// A small disk, which is unmounted when this is dropped.
pub struct SmallDisk(TempDir);

impl SmallDisk {
    /// Mounts a disk of this size, written as for mount(8). `None`, after a message, where mounting is not allowed.
    ///
    /// # Panics
    /// There are no temporary directories or no mount(8).
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

    /// Fills the disk except for this number of bytes.
    ///
    /// # Panics
    /// The disk cannot be written to.
    pub fn fill(&self, but: u64) {
        let mut file = File::create(self.filler()).expect("a file on the disk");
        for size in [64 << 10, 4 << 10, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        let size = file.metadata().expect("the file is open").len();
        file.set_len(size - but).expect("a file can be cut off");
    }

    /// Frees the space that was filled.
    ///
    /// # Panics
    /// The disk was not filled.
    pub fn free(&self) {
        fs::remove_file(self.filler()).expect("the disk was filled");
    }

    /// Makes the disk read-only, as after a failure of the disk; files that are open for writing stay so.
    ///
    /// # Panics
    /// That is not possible.
    pub fn make_read_only(&self) {
        // The file system itself cannot become read-only while a file is open for writing, so a read-only view of it is
        // mounted on top.
        for options in [&["--bind"][..], &["-o", "remount,bind,ro"]] {
            let (mut command, dir) = (Command::new("mount"), self.path());
            command.args(options).args(if options.len() == 1 { vec![dir, dir] } else { vec![dir] });
            assert!(command.status().expect("mount(8) is there").success(), "mount {options:?}");
        }
    }

    /// Makes the disk writable again.
    pub fn make_writable(&self) {
        unmount(self.path());
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Unmounts the read-only view, if there is one, and the disk.
        unmount(self.path());
        unmount(self.path());
    }
}

/// A FUSE file system that shows another directory; it is unmounted when this is dropped.
pub struct Bindfs {
    process: Child,
    at: PathBuf,
}

impl Bindfs {
    /// `None`, after a message, where bindfs is not installed.
    ///
    /// # Panics
    /// The directory to mount it on does not exist.
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

    /// Makes it stop answering, or continue.
    ///
    /// # Panics
    /// It has ended.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id() as i32), signal).expect("it has not ended");
    }
}

impl Drop for Bindfs {
    fn drop(&mut self) {
        // The kernel then releases the processes that wait for it. It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
        unmount(&self.at);
    }
}

/// Unmounts lazily, because a daemon that a failed test left may still use it.
fn unmount(at: &Path) {
    // It may not be mounted.
    let _ = Command::new("umount").arg("-l").arg(at).stderr(Stdio::null()).status();
}
