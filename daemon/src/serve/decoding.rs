//! The threads that decode: small pictures on some, large pictures on others, so that only users who send large
//! pictures wait for them.
//!
//! A large picture takes seconds and hundreds of megabytes. It waits for memory of the decode budget. The threads for
//! large pictures have a lower priority, so that small pictures and sessions get the processor first.

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

/// Nice steps by which the threads for large pictures are below the others. When others want the processor too, such
/// a thread gets a third of what another thread gets, which is twenty times as much as a trainer gets. 5 [choice].
const LOWER: i32 = 5;

/// Largest file that is read to find out whether its picture is small. 4 MiB [choice].
const SMALL_FILE_BYTES: u64 = 4 << 20;

/// A request that waits for a thread, and when it was submitted.
pub type Submitted = (Instant, Request);

/// What the threads share.
#[derive(Clone)]
pub struct Decoding {
    pub file_limit: u64,
    pub budget: DecodeBudget,
    pub pass_on: PrioritySender<Decoded>,
    pub pulse: Arc<Pulse>,
}

/// Starts the threads: `decoders` plus one for small pictures, and as many for large ones. One user alone, or bulk work
/// alone, never occupies all threads of a kind. The threads end when the entrance is dropped.
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
            // A large file is not read here, only its size: its picture is seldom small.
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
        // coftd.service refuses the call; then these threads have the same priority as the others.
        // SAFETY: the argument is a plain number, and only the calling thread changes.
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

    /// Reads an image, and stops when nobody waits for the answer any more: the client's file system may be slow.
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

/// Answers a request whose image was not read. The reason may be that its deadline has passed.
fn unread(request: Request, error: ServeError) {
    if let Some(request) = request.wanted() {
        request.answer(Err(error));
    }
}

/// Turns a decoder's panic into an error, so that the thread lives on for the next images.
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
