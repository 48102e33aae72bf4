//! A pause after failures, in which nothing is tried.

use std::time::Duration;
use tokio::time::Instant;

/// Pause after a failure, in which nothing is tried; it doubles each time. [choice]
const FIRST_PAUSE: Duration = Duration::from_secs(10);

const LONGEST_PAUSE: Duration = Duration::from_secs(10 * 60);

/// A pause after failures, longer each time.
pub(super) struct Pause {
    pub(super) until: Option<Instant>,
    length: Duration,
}

impl Pause {
    pub(super) fn none() -> Self {
        Self { until: None, length: FIRST_PAUSE }
    }

    pub(super) fn begin(&mut self) {
        // Several failures of one attempt count as one.
        if self.until.is_none() {
            self.until = Some(Instant::now() + self.length);
            self.length = (2 * self.length).min(LONGEST_PAUSE);
        }
    }

    pub(super) fn is_over(&mut self) -> bool {
        self.until.take_if(|until| *until <= Instant::now());
        self.until.is_none()
    }
}
