//! Starts the trainer and tells how it ended.
//!
//! The trainer is a child of the service, or it runs in a systemd unit with limits of its own. The service may not
//! start units, so the unit has a socket (`coft-trainer.socket`, SOCK_SEQPACKET): for each connection systemd starts
//! `coft-launch`, which starts the trainer as its child. Over the socket go JSON messages: an [`Order`] with the
//! descriptors of [`Pipes`] beside it, then any number of [`Request`]s; the last message is the [`Answer`]. When the
//! service closes its end, or dies, the trainer is killed.

mod child;
mod unit;

pub use child::Child;
pub use unit::{Answer, Request, Unit, attend};

use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// The descriptor of the trainer's that events are written to.
pub const EVENTS_FD: i32 = 3;

/// What a trainer is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Order {
    /// The file that describes the round.
    pub spec: PathBuf,
    /// 0 to 19; nice(2). 19 is the idle class of sched(7) too: what nobody else takes of the processor.
    pub niceness: i32,
}

/// Where a trainer writes.
#[derive(Debug)]
pub struct Pipes {
    pub events: OwnedFd,
    pub stderr: OwnedFd,
}

/// What starts a trainer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Launcher {
    /// The trainer's program; it becomes a child of this process.
    Program(PathBuf),
    /// The socket of the trainer's unit.
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
    /// Where the program cannot be started, or nobody listens on the socket.
    pub async fn start(launcher: &Launcher, order: &Order, pipes: Pipes) -> io::Result<Self> {
        match launcher {
            Launcher::Program(program) => Child::start(program, order, pipes).map(Self::Child),
            Launcher::Unit(socket) => Unit::start(socket, order, pipes).await.map(Self::Unit),
        }
    }

    /// How the trainer ended. What it has started ends with it. Nothing is lost where this is dropped before it is
    /// ready.
    ///
    /// # Errors
    /// Where that is not known; the message says why.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        match self {
            Self::Child(child) => child.wait().await,
            Self::Unit(unit) => unit.wait().await,
        }
    }

    /// Asks the trainer to stop (SIGTERM), and gives it the processor back that it has left to others.
    pub async fn terminate(&mut self) {
        match self {
            Self::Child(child) => child.terminate(),
            Self::Unit(unit) => unit.request(Request::Terminate).await,
        }
    }

    /// Ends the trainer (SIGKILL).
    pub async fn kill(&mut self) {
        match self {
            Self::Child(child) => child.kill(),
            Self::Unit(unit) => unit.request(Request::Kill).await,
        }
    }
}
