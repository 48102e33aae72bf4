//! How long is waited before something is tried again, and what systemd is told meanwhile.

use sd_notify::NotifyState;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// The first wait, and the longest, which is reached by doubling [choice].
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// What keeps failing is tried less and less often, and told once.
#[derive(Debug, Default)]
pub struct Backoff {
    waited: Option<Duration>,
    told: Option<String>,
    works_since: Option<Instant>,
}

impl Backoff {
    /// Tells of a problem, and how long to wait.
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

    /// Tells that it goes on, after a problem or for the first time.
    pub fn works(&mut self, what: &str) {
        self.told = None;
        self.works_since = Some(Instant::now());
        status(what);
        info!("{what}");
    }

    /// What works for a moment alone, between two failures, is no reason to try it more often.
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

/// One line for `systemctl status`.
fn status(line: &str) {
    // A second line would be taken for another variable.
    tell(&[NotifyState::Status(&line.replace('\n', " "))]);
}

fn tell(state: &[NotifyState<'_>]) {
    // Without systemd nobody listens.
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
