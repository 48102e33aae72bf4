//! Runs a program on a terminal of its own, and types there.

use anyhow::{Context, bail, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::process::{Child, Command};
use std::ptr;
use std::time::{Duration, Instant};

/// Longest time to wait for an output; the machine may be busy.
const LIMIT: Duration = Duration::from_secs(120);
const POLL_MS: u16 = 100;

/// A program whose input and output are a terminal.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    keyboard_and_screen: File,
    said: String,
    /// End of the output that was expected so far.
    seen: usize,
}

impl Terminal {
    /// Starts a program on a new terminal.
    ///
    /// # Errors
    /// No terminal is available, or the program cannot be started.
    pub fn start(mut command: Command) -> anyhow::Result<Self> {
        let (ours, theirs) = open().context("opening a terminal")?;
        let stdio = || theirs.try_clone();
        command.stdin(stdio()?).stdout(stdio()?).stderr(stdio()?);
        let child = command.spawn().context("starting the program")?;
        // The command holds its side of the terminal open too.
        drop((command, theirs));
        Ok(Self { child, keyboard_and_screen: File::from(ours), said: String::new(), seen: 0 })
    }

    /// Waits until the program prints this text, after the text that was expected before.
    ///
    /// # Errors
    /// It does not; the error contains all its output.
    pub fn expect(&mut self, text: &str) -> anyhow::Result<()> {
        let since = Instant::now();
        loop {
            if let Some(at) = self.said[self.seen..].find(text) {
                self.seen += at + text.len();
                return Ok(());
            }
            ensure!(since.elapsed() < LIMIT, "{text:?} was not said within {LIMIT:?}:\n{}", self.said);
            if !self.read()? {
                bail!("{text:?} was never said:\n{}", self.said);
            }
        }
    }

    /// # Errors
    /// The terminal cannot be written to.
    pub fn type_line(&mut self, line: &str) -> anyhow::Result<()> {
        self.type_text(&format!("{line}\n"))
    }

    /// # Errors
    /// The terminal cannot be written to.
    pub fn type_text(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(self.keyboard_and_screen.write_all(text.as_bytes())?)
    }

    /// Waits for the program's end. Returns its exit code and all its output.
    ///
    /// # Errors
    /// It does not end.
    pub fn end(mut self) -> anyhow::Result<(Option<i32>, String)> {
        let since = Instant::now();
        loop {
            let there = self.read()?;
            if let Some(status) = self.child.try_wait()? {
                while self.read()? && since.elapsed() < LIMIT {}
                return Ok((status.code(), std::mem::take(&mut self.said)));
            }
            ensure!(since.elapsed() < LIMIT, "it has not ended within {LIMIT:?}:\n{}", self.said);
            if !there {
                std::thread::sleep(Duration::from_millis(POLL_MS.into()));
            }
        }
    }

    /// Reads the output so far, after a short wait. Returns whether the program still holds the terminal.
    fn read(&mut self) -> anyhow::Result<bool> {
        let mut ready = [PollFd::new(self.keyboard_and_screen.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ready, PollTimeout::from(POLL_MS))? == 0 {
            return Ok(true);
        }
        let mut chunk = [0; 4096];
        match self.keyboard_and_screen.read(&mut chunk) {
            Ok(0) => Ok(false),
            Ok(count) => {
                // A terminal ends each line with two characters.
                self.said += &String::from_utf8_lossy(&chunk[..count]).replace('\r', "");
                Ok(true)
            }
            // No process holds the other side any more.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Opens both sides of a new terminal; other programs inherit neither of them.
fn open() -> io::Result<(OwnedFd, OwnedFd)> {
    let (mut ours, mut theirs) = (-1, -1);
    // SAFETY: both pointers are to descriptors. The other arguments are null, so nothing else is read or written.
    let opened = unsafe { libc::openpty(&mut ours, &mut theirs, ptr::null_mut(), ptr::null_mut(), ptr::null_mut()) };
    if opened != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both descriptors have just been opened, and nothing else uses them.
    let both = unsafe { (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) };
    for side in [ours, theirs] {
        // SAFETY: the descriptor is open, and the call takes plain numbers.
        if unsafe { libc::fcntl(side, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(both)
}
