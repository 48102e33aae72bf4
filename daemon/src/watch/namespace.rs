//! Tests that mount file systems or lower the kernel's limits: each runs once more, in a process with namespaces of its
//! own.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const ENTERED: &str = "COFT_TEST_NAMESPACE";
/// Mounts that nobody else sees; for root alone.
pub const MOUNTS: &[&str] = &["-m"];
/// A user of its own, with limits of its own.
pub const USER: &[&str] = &["-U", "-r"];

/// Whether the test is in its namespace. Where it is not, it was run there, or skipped where that may not be made.
#[must_use]
pub fn entered(test: &str, flags: &[&str]) -> bool {
    if env::var_os(ENTERED).is_some() {
        return true;
    }
    let unshare = |program: &Path, args: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(flags).arg(program).args(args).env(ENTERED, "1").output()
    };
    if !unshare(Path::new("true"), &[]).is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: `unshare {}` is not permitted", flags.join(" "));
        return false;
    }
    let program = env::current_exe().unwrap();
    let output = unshare(&program, &["--exact", test, "--nocapture", "--test-threads=1"]).unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "no test of that name: {text}");
    if let Some(skipped) = text.lines().find(|line| line.contains("skipped: ")) {
        eprintln!("{skipped}");
    }
    false
}

#[track_caller]
pub fn run(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).status().unwrap();
    assert!(status.success(), "{program} {args:?}: {status}");
}

/// A file system of FUSE that shows another directory.
pub struct Bindfs(Child);

impl Bindfs {
    /// None, and a word why, where there is no bindfs.
    pub fn mount(from: &Path, to: &Path, options: &[&str]) -> Option<Self> {
        let device = fs::metadata(to).unwrap().dev();
        let child = Command::new("bindfs").args(options).arg("-f").args([from, to]).stdin(Stdio::null()).spawn();
        let Ok(child) = child else {
            eprintln!("skipped: there is no bindfs (Debian package bindfs)");
            return None;
        };
        let mut bindfs = Self(child);
        let since = Instant::now();
        while fs::metadata(to).unwrap().dev() == device {
            if bindfs.0.try_wait().unwrap().is_some() || since.elapsed() > Duration::from_secs(30) {
                eprintln!("skipped: bindfs does not mount here");
                return None;
            }
            thread::sleep(Duration::from_millis(10));
        }
        Some(bindfs)
    }

    /// Stops answering, or goes on.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.0.id() as i32), signal).unwrap();
    }
}

impl Drop for Bindfs {
    fn drop(&mut self) {
        // What waits for it is let go of by the kernel.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
