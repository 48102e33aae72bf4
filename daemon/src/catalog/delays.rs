//! How long pictures wait for their answers: from the moment when a file was seen to be complete until its answer is
//! stored.
//!
//! Measured with a monotonic clock, so a picture that arrived before the service started is not counted.

use crate::observed_file::Arrival;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Upper bounds of the buckets of delays, s. [choice]: they separate answers that come at once, answers that miss the
/// promised second, and answers that work off many pictures which arrived at once.
const BOUNDS_SECONDS: [f64; 10] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0, f64::INFINITY];
/// Maximum number of waiting pictures whose arrival is remembered; if more wait, the earliest are not counted.
const MOST: usize = 100_000;

#[derive(Debug, Default)]
pub struct Delays(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Arrival of each waiting picture, by its order.
    waiting: BTreeMap<i64, Instant>,
    counts: DelayCounts,
}

/// How long pictures have waited.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DelayCounts {
    /// Sum of all delays.
    pub sum: Duration,
    counts: [u64; BOUNDS_SECONDS.len()],
}

impl DelayCounts {
    /// The buckets: upper bound, s, and the number of pictures that waited longer than the bound before and at most
    /// this one. The last bound is infinite.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        BOUNDS_SECONDS.into_iter().zip(self.counts)
    }

    /// The delays of two classifiers together.
    pub fn and(mut self, other: Self) -> Self {
        self.sum += other.sum;
        self.counts.iter_mut().zip(other.counts).for_each(|(sum, more)| *sum += more);
        self
    }

    fn add(&mut self, delay: Duration) {
        let within = BOUNDS_SECONDS.partition_point(|bound| *bound < delay.as_secs_f64());
        self.counts[within] += 1;
        self.sum += delay;
    }
}

impl Delays {
    pub fn come(&self, pictures: &[Arrival]) {
        let mut inner = self.inner();
        inner.waiting.extend(pictures.iter().map(|came| (came.order, came.at)));
        while inner.waiting.len() > MOST {
            inner.waiting.pop_first();
        }
    }

    /// Records that the pictures with these orders have been answered.
    pub fn answered(&self, orders: &[u64]) {
        let mut inner = self.inner();
        for order in orders {
            let came = i64::try_from(*order).ok().and_then(|order| inner.waiting.remove(&order));
            if let Some(came) = came {
                inner.counts.add(came.elapsed());
            }
        }
    }

    /// Records that the pictures with these orders get no answer.
    pub fn given_up(&self, orders: impl Iterator<Item = u64>) {
        let mut inner = self.inner();
        for order in orders.filter_map(|order| i64::try_from(order).ok()) {
            inner.waiting.remove(&order);
        }
    }

    pub fn counts(&self) -> DelayCounts {
        self.inner().counts.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_counted_up_to_their_bounds() {
        let mut counts = DelayCounts::default();
        for millis in [0, 50, 51, 1000, 7000, 4_000_000] {
            counts.add(Duration::from_millis(millis));
        }
        let buckets: Vec<(f64, u64)> = counts.buckets().filter(|(_, count)| *count > 0).collect();
        assert_eq!(buckets, [(0.05, 2), (0.1, 1), (1.0, 1), (10.0, 1), (f64::INFINITY, 1)]);
        assert_eq!(counts.sum, Duration::from_millis(4_008_101));
        let twice: Vec<u64> = counts.clone().and(counts).buckets().map(|(_, count)| count).collect();
        assert_eq!(twice, [4, 2, 0, 0, 2, 0, 2, 0, 0, 2]);
    }

    #[test]
    fn a_picture_is_counted_once_and_one_that_nobody_saw_come_never() {
        let delays = Delays::default();
        let came = Arrival::now();
        delays.come(&[came]);
        let order = u64::try_from(came.order).unwrap();
        delays.answered(&[order, order, 7]);
        let other = Arrival::now();
        delays.come(&[other]);
        delays.given_up([u64::try_from(other.order).unwrap()].into_iter());
        assert!(delays.inner().waiting.is_empty());
        assert_eq!(delays.counts().buckets().map(|(_, count)| count).sum::<u64>(), 1);
    }
}
