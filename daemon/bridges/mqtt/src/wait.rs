//! The pauses before failed work is tried again, and the messages to systemd.

use sd_notify::NotifyState;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// The first pause; the longest one is reached by doubling [choice].
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Makes the pauses longer while the work keeps failing, and logs the problem once.
#[derive(Debug, Default)]
pub struct Backoff {
    waited: Option<Duration>,
    told: Option<String>,
    works_since: Option<Instant>,
}

impl Backoff {
    /// Logs a problem, and returns the pause.
    pub fn failed(&mut self, problem: String) -> Duration {
        let wait = self.wait(Instant::now());
        status(&problem);
        if self.told.as_ref() != Some(&problem) {
            let longest = LONGEST.as_secs();
            warn!("{problem}\n  it is tried again, after {longest} s at the latest");
            self.told = Some(problem);
        }
        wait
    }

    /// Logs that the work continues after a problem, or has begun.
    pub fn works(&mut self, what: &str) {
        self.told = None;
        self.works_since = Some(Instant::now());
        status(what);
        info!("{what}");
    }

    /// Work that succeeds only briefly between two failures does not reset the pause.
    fn wait(&mut self, now: Instant) -> Duration {
        if self.works_since.take().is_some_and(|since| now.duration_since(since) > LONGEST) {
            self.waited = None;
        }
        let wait = self.waited.map_or(FIRST, |before| (2 * before).min(LONGEST));
        self.waited = Some(wait);
        wait
    }
}

pub fn ready() {
    tell(&[NotifyState::Ready]);
}

pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Sets the status line of `systemctl status`.
fn status(line: &str) {
    // A second line would be read as another variable.
    tell(&[NotifyState::Status(&line.replace('\n', " "))]);
}

fn tell(state: &[NotifyState<'_>]) {
    // Without systemd nobody receives this.
    let _ = sd_notify::notify(state);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_begin_anew_once_it_has_worked_for_a_while() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        let waits: Vec<u64> = (0..8).map(|_| backoff.wait(now).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        backoff.works_since = Some(now);
        assert_eq!(backoff.wait(now + LONGEST / 2).as_secs(), 60);
        backoff.works_since = Some(now);
        assert_eq!(backoff.wait(now + 2 * LONGEST).as_secs(), 1);
    }
}
