//! The socket of `OpenBatch`: one message an image, any number of images.
//!
//! SOCK_SEQPACKET. A request is a JSON object with an `id` of the client's, and the descriptor of the image beside it;
//! the answer to it is a JSON object with the same `id`. Answers come as they are ready, in any order. The service
//! reads on while at most [`WINDOW`] images of the socket are under way; what is sent beyond that waits in the socket.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde::{Deserialize, Serialize};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use tokio_seqpacket::UnixSeqpacket;
use tokio_seqpacket::ancillary::{AncillaryMessageWriter, OwnedAncillaryMessage};

/// Images of one socket that are under way at most.
pub const WINDOW: usize = 32;

/// Largest message, B.
const MESSAGE: usize = 1 << 20;

/// What a client writes for each image; the image's descriptor travels beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRequest {
    /// Number of the client's choice, which the answer repeats.
    pub id: u64,
}

/// What the service writes for each image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamAnswer {
    /// The number of the request.
    pub id: u64,
    /// What the image was answered with.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// The answer about an image, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Outcome {
    /// The image was answered.
    Labels(StreamLabels),
    /// The image was not answered.
    Error {
        /// Why it was not.
        error: StreamError,
    },
}

/// What `Classify` answers, by the same names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StreamLabels {
    /// Class names with probabilities, best first.
    pub labels: Vec<(String, f64)>,
    /// Whether the image looks like none of the classes.
    pub none_of_these: bool,
    /// The class that the configured thresholds decide for, where there are some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// Embedding of the image, of length 1, where it was wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding: Option<Vec<f32>>,
    /// The generation that answered.
    pub generation: u64,
    /// Waiting for its turn, s.
    pub queue_seconds: f64,
    /// Reading, decoding and preprocessing, s.
    pub decode_seconds: f64,
    /// The batch that the image was part of, s.
    pub inference_seconds: f64,
    /// Execution provider that ran the model, as ONNX Runtime names it.
    pub provider: String,
}

/// As the error of a call would be; `name` is what follows `org.coft.Coft1.Error.`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamError {
    /// Last part of the error's name: `Busy`, `BadImage` and so on.
    pub name: String,
    /// What went wrong, and what to do.
    pub message: String,
}

/// A client's end. Requests and answers may be under way at the same time.
#[derive(Debug)]
pub struct Stream(UnixSeqpacket);

/// The service's end.
#[derive(Debug)]
pub struct Served(UnixSeqpacket);

/// Both ends of a new socket; the client's as it travels.
///
/// # Errors
/// The process or the system has no descriptor left.
pub fn pair() -> io::Result<(Served, OwnedFd)> {
    let (ours, theirs) = UnixSeqpacket::pair()?;
    let theirs = OwnedFd::from(theirs);
    set_nonblocking(&theirs, false)?; // as a client in any language expects it
    Ok((Served(ours), theirs))
}

fn set_nonblocking(socket: &OwnedFd, nonblocking: bool) -> io::Result<()> {
    let mut flags = OFlag::from_bits_retain(fcntl(socket, FcntlArg::F_GETFL)?);
    flags.set(OFlag::O_NONBLOCK, nonblocking);
    fcntl(socket, FcntlArg::F_SETFL(flags))?;
    Ok(())
}

impl Stream {
    /// Of the descriptor that `OpenBatch` has answered.
    ///
    /// # Errors
    /// The descriptor is no socket of this kind, or cannot be watched by the Tokio runtime.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        set_nonblocking(&socket, true)?;
        socket.try_into().map(Self)
    }

    /// Sends an image, as an opened file, under an id. Waits while the service is behind.
    ///
    /// # Errors
    /// The service has closed its end ([`is_gone`]), or the socket fails.
    pub async fn send(&self, id: u64, image: impl AsFd) -> io::Result<()> {
        let mut space = [0; 64];
        let mut descriptor = AncillaryMessageWriter::new(&mut space);
        descriptor.add_fds([image.as_fd()]).expect("there is space for one descriptor");
        let message = serde_json::to_vec(&StreamRequest { id })?;
        self.0.send_with_ancillary(&message, &mut descriptor).await.map(drop)
    }

    /// No more images will come; the answers that are due still do.
    ///
    /// # Errors
    /// The service has closed its end already, or the socket fails.
    pub fn finish(&self) -> io::Result<()> {
        self.0.shutdown(std::net::Shutdown::Write)
    }

    /// The next answer; none when the service has closed its end.
    ///
    /// # Errors
    /// The socket fails, or a message is no answer.
    pub async fn answer(&self) -> io::Result<Option<StreamAnswer>> {
        let mut message = vec![0; MESSAGE];
        let read = self.0.recv(&mut message).await?.bytes_read();
        if read == 0 {
            return Ok(None);
        }
        Ok(Some(serde_json::from_slice(&message[..read])?))
    }
}

impl Served {
    /// The next request, with its image where it has one; none when the client wants no more.
    ///
    /// # Errors
    /// The socket fails, or a message is no request ([`ErrorKind::InvalidData`]).
    pub async fn request(&self) -> io::Result<Option<(StreamRequest, Option<OwnedFd>)>> {
        let (mut message, mut space) = ([0; 4096], [0; 64]);
        let (info, beside) = self.0.recv_with_ancillary(&mut message, &mut space).await?;
        let mut image = None;
        for part in beside.into_messages() {
            if let OwnedAncillaryMessage::FileDescriptors(descriptors) = part {
                image = image.or(descriptors.into_iter().next());
            }
        }
        match info.bytes_read() {
            0 => Ok(None),
            read => {
                let request = serde_json::from_slice(&message[..read]);
                Ok(Some((request.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?, image)))
            }
        }
    }

    /// Answers a request. An answer that is too large for a message becomes an error that says so.
    ///
    /// # Errors
    /// The client's end is closed, or the socket fails; see [`is_gone`].
    pub async fn answer(&self, answer: &StreamAnswer) -> io::Result<()> {
        match self.0.send(&serde_json::to_vec(answer)?).await {
            Err(error) if error.raw_os_error() == Some(Errno::EMSGSIZE as i32) => {
                let error = StreamError {
                    name: "Failed".into(),
                    message: "the answer is too large for a message; ask for fewer labels by top-k".into(),
                };
                let answer = StreamAnswer { id: answer.id, outcome: Outcome::Error { error } };
                self.0.send(&serde_json::to_vec(&answer)?).await.map(drop)
            }
            sent => sent.map(drop),
        }
    }
}

/// Whether the other end has merely gone.
pub fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::NotConnected)
}
