//! A classification request, from submission to its answer.

use super::ServeError;
use super::load::Loaded;
use super::ort::{Outputs, Provider};
use super::pulse::Waits;
use super::shares::Place;
use crate::decode_budget::Party;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

#[derive(Debug)]
pub struct Request {
    pub image: OwnedFd,
    pub party: Party,
    /// The session that served when the request arrived; it prepares and answers the image.
    pub loaded: Arc<Loaded>,
    /// None where the caller waits without limit.
    pub deadline: Option<Instant>,
    pub reply: oneshot::Sender<Result<Answer, ServeError>>,
    /// Becomes free when the request was answered or dropped.
    pub _place: Place,
}

#[derive(Debug)]
pub struct Answer {
    pub outputs: Outputs,
    pub provider: Provider,
    pub queue: Duration,
    pub decode: Duration,
    pub inference: Duration,
}

#[derive(Debug)]
pub struct Decoded {
    pub request: Request,
    pub pixels: Vec<f32>,
    pub submitted: Instant,
    pub decode: Duration,
    pub waits: Waits,
}

impl Request {
    /// Whether somebody still waits for the answer.
    pub fn is_wanted(&self) -> bool {
        !self.reply.is_closed() && !self.is_late()
    }

    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// The request, if somebody still waits for the answer.
    pub fn wanted(self) -> Option<Self> {
        if self.reply.is_closed() {
            return None;
        }
        if self.is_late() {
            self.answer(Err(ServeError::DeadlineExceeded));
            return None;
        }
        Some(self)
    }

    pub fn answer(self, answer: Result<Answer, ServeError>) {
        // Sending fails where the caller has gone, which needs no answer.
        let _ = self.reply.send(answer);
    }
}
