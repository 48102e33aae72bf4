//! Counts of answered images since the start, and the time they took. Always enabled, because an image costs only a few
//! atomic additions.

use super::{Classification, ServeError};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What the classifier has done since its start, for sources and clients together, and how much waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Images that were answered with labels.
    pub answered: u64,
    /// Images that were accepted but not answered: not an image, or too late.
    pub failed: u64,
    /// Images that were not accepted, because too many were waiting.
    pub refused: u64,
    /// Sums over the answered images: time of waiting, of reading and decoding, and of the batches that contained them.
    pub queue: Duration,
    pub decode: Duration,
    pub inference: Duration,
    /// Images of each priority that wait or are under way.
    pub interactive: usize,
    pub bulk: usize,
}

impl Figures {
    /// The sum of the figures of two classifiers.
    pub fn and(self, other: Self) -> Self {
        Self {
            answered: self.answered + other.answered,
            failed: self.failed + other.failed,
            refused: self.refused + other.refused,
            queue: self.queue + other.queue,
            decode: self.decode + other.decode,
            inference: self.inference + other.inference,
            interactive: self.interactive + other.interactive,
            bulk: self.bulk + other.bulk,
        }
    }
}

#[derive(Debug, Default)]
pub struct Tally {
    answered: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    queue_us: AtomicU64,
    decode_us: AtomicU64,
    inference_us: AtomicU64,
}

impl Tally {
    pub fn count(&self, answer: &Result<Classification, ServeError>) {
        let Ok(answer) = answer else {
            self.failed.fetch_add(1, Ordering::Relaxed);
            return;
        };
        self.answered.fetch_add(1, Ordering::Relaxed);
        let sums = [(&self.queue_us, answer.queue), (&self.decode_us, answer.decode)];
        for (sum, took) in sums.into_iter().chain([(&self.inference_us, answer.inference)]) {
            sum.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
        }
    }

    pub fn refuse(&self, images: usize) {
        self.refused.fetch_add(images as u64, Ordering::Relaxed);
    }

    pub fn figures(&self, [interactive, bulk]: [usize; 2]) -> Figures {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let sum = |sum: &AtomicU64| Duration::from_micros(read(sum));
        Figures {
            answered: read(&self.answered),
            failed: read(&self.failed),
            refused: read(&self.refused),
            queue: sum(&self.queue_us),
            decode: sum(&self.decode_us),
            inference: sum(&self.inference_us),
            interactive,
            bulk,
        }
    }
}
