//! A trainer in its own unit: both ends of the connection.

use crate::{Child, Order, Pipes};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use tokio::signal::unix::{SignalKind, signal};
use tokio_seqpacket::UnixSeqpacket;
use tokio_seqpacket::ancillary::{AncillaryMessageWriter, OwnedAncillaryMessage};

/// Largest message, B. A path has at most 4 KiB, and six times as much if each byte is escaped.
const MESSAGE: usize = 32 << 10;

/// What the service requests while the trainer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    Terminate,
    Kill,
}

/// How the trainer ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The wait status, as in wait(2).
    Ended(i32),
    NotStarted(String),
}

/// The service's end of the connection.
#[derive(Debug)]
pub struct Unit(UnixSeqpacket);

impl Unit {
    /// # Errors
    /// No process listens on the socket.
    pub async fn start(socket: &Path, order: &Order, pipes: Pipes) -> io::Result<Self> {
        let socket = UnixSeqpacket::connect(socket).await?;
        let mut space = [0; 64];
        let mut descriptors = AncillaryMessageWriter::new(&mut space);
        descriptors.add_fds([pipes.events.as_fd(), pipes.stderr.as_fd()]).expect("there is space for two descriptors");
        socket.send_with_ancillary(&serde_json::to_vec(order)?, &mut descriptors).await?;
        Ok(Self(socket))
    }

    /// # Errors
    /// The trainer was not started, or the unit ended before it reported the exit status.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        match receive(&self.0).await {
            Ok(Some(Answer::Ended(status))) => Ok(ExitStatus::from_raw(status)),
            Ok(Some(Answer::NotStarted(why))) => Err(io::Error::other(why)),
            Err(error) if error.kind() != ErrorKind::ConnectionReset => Err(error),
            // The error is ConnectionReset if the unit had not read all messages.
            Ok(None) | Err(_) => Err(io::Error::other("the trainer's unit ended before it could tell")),
        }
    }

    pub async fn request(&mut self, request: Request) {
        // If the unit has ended, there is nothing to stop.
        let _ = send(&self.0, &request).await;
    }
}

/// The unit's end of the connection: starts `program` as ordered, and returns after it has ended. SIGTERM stops the
/// trainer, too.
///
/// # Errors
/// The connection fails, or the first message is not an order.
pub async fn attend(socket: OwnedFd, program: &Path) -> io::Result<()> {
    let socket = UnixSeqpacket::try_from(socket)?;
    let Some((order, pipes)) = order(&socket).await? else { return Ok(()) };
    let mut told_to_stop = signal(SignalKind::terminate())?;
    let mut trainer = match Child::start(program, &order, pipes) {
        Ok(trainer) => trainer,
        Err(error) => {
            let why = format!("cannot start {}: {error}", program.display());
            return send(&socket, &Answer::NotStarted(why)).await;
        }
    };
    loop {
        tokio::select! {
            status = trainer.wait() => return send(&socket, &Answer::Ended(status?.into_raw())).await,
            request = receive(&socket) => match request {
                Ok(Some(Request::Terminate)) => trainer.terminate(),
                Ok(Some(Request::Kill)) => trainer.kill(),
                // The service has closed the connection, or sent an invalid message.
                Ok(None) | Err(_) => {
                    trainer.kill();
                    return trainer.wait().await.map(drop);
                }
            },
            _ = told_to_stop.recv() => trainer.terminate(),
        }
    }
}

/// The order with its pipes; `None` where the service closed its end before it sent one.
async fn order(socket: &UnixSeqpacket) -> io::Result<Option<(Order, Pipes)>> {
    let (mut message, mut space) = (vec![0; MESSAGE], [0; 64]);
    let (info, beside) = socket.recv_with_ancillary(&mut message, &mut space).await?;
    let mut descriptors = Vec::new();
    for part in beside.into_messages() {
        if let OwnedAncillaryMessage::FileDescriptors(received) = part {
            descriptors.extend(received);
        }
    }
    if info.bytes_read() == 0 {
        return Ok(None);
    }
    let order = serde_json::from_slice(&message[..info.bytes_read()])?;
    let [events, stderr] = <[OwnedFd; 2]>::try_from(descriptors)
        .map_err(|others| io::Error::new(ErrorKind::InvalidData, format!("{} descriptors, not 2", others.len())))?;
    Ok(Some((order, Pipes { events, stderr })))
}

async fn send(socket: &UnixSeqpacket, message: &impl Serialize) -> io::Result<()> {
    socket.send(&serde_json::to_vec(message)?).await.map(drop)
}

/// The next message; `None` where the other end is closed.
async fn receive<M: DeserializeOwned>(socket: &UnixSeqpacket) -> io::Result<Option<M>> {
    let mut message = vec![0; MESSAGE];
    match socket.recv(&mut message).await?.bytes_read() {
        0 => Ok(None),
        read => Ok(Some(serde_json::from_slice(&message[..read])?)),
    }
}
