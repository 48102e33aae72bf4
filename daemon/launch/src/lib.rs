//! Starts the trainer and reports how it ended.
//!
//! The trainer is a child of the service, or it runs in its own systemd unit with its own limits. The service may not
//! start units, so the unit has a socket (`coft-trainer.socket`, SOCK_SEQPACKET): for each connection systemd starts
//! `coft-launch`, which starts the trainer as its child. JSON messages go over the socket: the service sends an
//! [`Order`] with the descriptors of [`Pipes`], then any number of [`Request`]s; the unit sends the [`Answer`] as the
//! last message. When the service closes its end, or dies, the trainer is killed.

mod child;
mod unit;

pub use child::Child;
pub use unit::{Answer, Request, Unit, attend};

use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// The trainer's file descriptor for events.
pub const EVENTS_FD: i32 = 3;

/// What a trainer is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Order {
    /// The file that describes the round.
    pub spec: PathBuf,
    /// Niceness, 0 to 19; nice(2). 19 also selects the idle class of sched(7), which uses only processor time that no
    /// other process wants. The trainer's unit gives 19 whatever this value is.
    pub niceness: i32,
}

/// Where a trainer writes.
#[derive(Debug)]
pub struct Pipes {
    pub events: OwnedFd,
    pub stderr: OwnedFd,
}

/// How a trainer is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Launcher {
    /// Path of the trainer's program, which becomes a child of this process.
    Program(PathBuf),
    /// Path of the socket of the trainer's unit.
    Unit(PathBuf),
}

impl Launcher {
    pub fn path(&self) -> &Path {
        match self {
            Self::Program(path) | Self::Unit(path) => path,
        }
    }
}

/// A trainer that was started. Dropping it kills the trainer.
#[derive(Debug)]
pub enum Process {
    Child(Child),
    Unit(Unit),
}

impl Process {
    /// # Errors
    /// The program cannot be started, or no process listens on the socket.
    pub async fn start(launcher: &Launcher, order: &Order, pipes: Pipes) -> io::Result<Self> {
        match launcher {
            Launcher::Program(program) => Child::start(program, order, pipes).map(Self::Child),
            Launcher::Unit(socket) => Unit::start(socket, order, pipes).await.map(Self::Unit),
        }
    }

    /// Waits for the trainer's end, and then ends the processes that it has started. If the future is dropped before it
    /// is ready, nothing is lost.
    ///
    /// # Errors
    /// The exit status is unknown; the message says why.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        match self {
            Self::Child(child) => child.wait().await,
            Self::Unit(unit) => unit.wait().await,
        }
    }

    /// Asks the trainer to stop (SIGTERM), and raises its priority again so that it gets processor time to end.
    pub async fn terminate(&mut self) {
        match self {
            Self::Child(child) => child.terminate(),
            Self::Unit(unit) => unit.request(Request::Terminate).await,
        }
    }

    /// Kills the trainer (SIGKILL).
    pub async fn kill(&mut self) {
        match self {
            Self::Child(child) => child.kill(),
            Self::Unit(unit) => unit.request(Request::Kill).await,
        }
    }
}
