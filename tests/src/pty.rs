//! A program on a terminal of its own, and whoever types there.

use anyhow::{Context, bail, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::process::{Child, Command};
use std::ptr;
use std::time::{Duration, Instant};

/// How long something may take to be said; the machine may be busy.
const LIMIT: Duration = Duration::from_secs(120);
const POLL_MS: u16 = 100;

/// A program whose input and output are a terminal.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    keyboard_and_screen: File,
    said: String,
    /// Up to where it was expected.
    seen: usize,
}

impl Terminal {
    /// Starts a program on a new terminal.
    ///
    /// # Errors
    /// Where there is none to be had, or the program cannot be started.
    pub fn start(mut command: Command) -> anyhow::Result<Self> {
        let (ours, theirs) = open().context("opening a terminal")?;
        let stdio = || theirs.try_clone();
        command.stdin(stdio()?).stdout(stdio()?).stderr(stdio()?);
        let child = command.spawn().context("starting the program")?;
        // The command holds its side open as well.
        drop((command, theirs));
        Ok(Self { child, keyboard_and_screen: File::from(ours), said: String::new(), seen: 0 })
    }

    /// Waits until the program says this, after what was expected before.
    ///
    /// # Errors
    /// Where it does not, with all that it has said.
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
    /// Where the terminal cannot be written.
    pub fn type_line(&mut self, line: &str) -> anyhow::Result<()> {
        self.type_text(&format!("{line}\n"))
    }

    /// # Errors
    /// Where the terminal cannot be written.
    pub fn type_text(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(self.keyboard_and_screen.write_all(text.as_bytes())?)
    }

    /// Waits for the program's end: its exit code, and all that it has said.
    ///
    /// # Errors
    /// Where it does not end.
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

    /// Reads what has been said, and waits a little for it; whether the program still holds the terminal.
    fn read(&mut self) -> anyhow::Result<bool> {
        let mut ready = [PollFd::new(self.keyboard_and_screen.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ready, PollTimeout::from(POLL_MS))? == 0 {
            return Ok(true);
        }
        let mut chunk = [0; 4096];
        match self.keyboard_and_screen.read(&mut chunk) {
            Ok(0) => Ok(false),
            Ok(count) => {
                // A terminal ends its lines with two characters.
                self.said += &String::from_utf8_lossy(&chunk[..count]).replace('\r', "");
                Ok(true)
            }
            // Nobody holds the other side any more.
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

/// Both sides of a new terminal, neither of which other programs inherit.
fn open() -> io::Result<(OwnedFd, OwnedFd)> {
    let (mut ours, mut theirs) = (-1, -1);
    // SAFETY: both are places for a descriptor; without names and settings there is nothing else to read or write.
    let opened = unsafe { libc::openpty(&mut ours, &mut theirs, ptr::null_mut(), ptr::null_mut(), ptr::null_mut()) };
    if opened != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: they have just been opened, and nobody else knows of them.
    let both = unsafe { (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) };
    for side in [ours, theirs] {
        // SAFETY: the descriptor is open, and the call takes plain numbers.
        if unsafe { libc::fcntl(side, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(both)
}
