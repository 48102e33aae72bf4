//! The threads that decode: small pictures on some, large ones on others, so that nobody waits for a large one but who
//! sends such.
//!
//! A large picture takes seconds and hundreds of megabytes: it waits for its part of the decode budget, and its threads
//! leave the processor to the small ones and to the sessions where these want it.

use super::priority_queue::{Priority, PrioritySender};
use super::pulse::Pulse;
use super::queue::{Entrance, Exit, queue};
use super::request::{Decoded, Request};
use super::{ServeError, image};
use crate::decode_budget::{DecodeBudget, SMALL_BYTES};
use image::Unpacked;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

/// How much lower the priority of the threads is that decode large pictures: a third of the processor where others want
/// it, too, and twenty times what a trainer gets. Nice steps; 5 [choice].
const LOWER: i32 = 5;

/// Largest file that is read to see whether the picture in it is small. 4 MiB [choice].
const SMALL_FILE_BYTES: u64 = 4 << 20;

/// A request that nobody has looked at yet, and since when it waits.
pub type Submitted = (Instant, Request);

/// What the threads share.
#[derive(Clone)]
pub struct Decoding {
    pub file_limit: u64,
    pub budget: DecodeBudget,
    pub pass_on: PrioritySender<Decoded>,
    pub pulse: Arc<Pulse>,
}

/// Starts the threads: for the pictures of either size as many as `decoders`, and one more of each, which one user
/// alone, or bulk work alone, never has. They end when the entrance is gone.
pub fn start(decoders: usize, decoding: &Decoding) -> Entrance<Submitted> {
    let workers = decoders + 1;
    let (submit, submitted) = queue(workers);
    let (large, of_large) = queue(workers);
    let large = Arc::new(large);
    for number in 0..workers {
        let (small, submitted, large) = (decoding.clone(), submitted.clone(), Arc::clone(&large));
        spawn(&format!("decode-{number}"), move || small.small(&submitted, &large));
        let (large, of_large) = (decoding.clone(), of_large.clone());
        spawn(&format!("decode-large-{number}"), move || large.large(&of_large));
    }
    submit
}

pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) {
    thread::Builder::new().name(name.to_owned()).spawn(work).expect("a thread can be started");
}

impl Decoding {
    fn small(&self, submitted: &Exit<Submitted>, large: &Entrance<Submitted>) {
        while let Some(mut turn) = submitted.next() {
            let (since, request) = turn.item();
            let Some(request) = request.wanted() else { continue };
            // Of a large file only the size is looked at here: what is in it is seldom small.
            let unpacked = guarded(|| match image::size(&request.image)? {
                ..=SMALL_FILE_BYTES => self.read(&request).map(Some),
                _ => Ok(None),
            });
            match unpacked {
                Ok(Some(unpacked)) if unpacked.head.decode_bytes <= SMALL_BYTES => {
                    self.decode(turn.priority, since, request, &unpacked);
                }
                Ok(_) => large.push(turn.priority, request.party, (since, request)),
                Err(error) => unread(request, error),
            }
        }
    }

    fn large(&self, of_large: &Exit<Submitted>) {
        // SAFETY: it takes a plain number, and changes the calling thread alone.
        unsafe { libc::nice(LOWER) };
        while let Some(mut turn) = of_large.next() {
            let (since, request) = turn.item();
            let Some(request) = request.wanted() else { continue };
            match guarded(|| self.read(&request)) {
                Ok(unpacked) => self.decode(turn.priority, since, request, &unpacked),
                Err(error) => unread(request, error),
            }
        }
    }

    /// Reads an image for as long as somebody waits for its answer: the client's file system may be slow.
    fn read(&self, request: &Request) -> Result<Unpacked, ServeError> {
        image::read(&request.image, self.file_limit, &|| request.is_wanted())
    }

    fn decode(&self, priority: Priority, submitted: Instant, request: Request, unpacked: &Unpacked) {
        let held = match self.budget.wait_for(&unpacked.head, request.party, priority == Priority::Bulk) {
            Ok(held) => held,
            Err(error) => return request.answer(Err(ServeError::OverBudget(error))),
        };
        let Some(request) = request.wanted() else { return };
        let began = Instant::now();
        let pixels = guarded(|| image::prepare(&unpacked.bytes, &request.loaded.preprocess));
        drop(held);
        match pixels {
            Ok(pixels) => {
                let (decode, waits) = (began.elapsed(), self.pulse.wait());
                self.pass_on.send(priority, Decoded { request, pixels, submitted, decode, waits });
            }
            Err(error) => request.answer(Err(error)),
        }
    }
}

/// Answers a request whose image was not read, which may be because its deadline has passed.
fn unread(request: Request, error: ServeError) {
    if let Some(request) = request.wanted() {
        request.answer(Err(error));
    }
}

/// A decoder that panics over an image must not take its thread along: the next images need it.
fn guarded<T>(work: impl FnOnce() -> Result<T, ServeError>) -> Result<T, ServeError> {
    panic::catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(ServeError::Internal("the decoder failed over the image".into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_costs_one_answer() {
        let failed = guarded(|| -> Result<(), ServeError> { panic!("an image it could not bear") }).unwrap_err();
        assert!(matches!(failed, ServeError::Internal(_)), "{failed}");
    }
}
