//! Why images cannot be stored, and when everything is scanned again. Knows neither the clock nor what is done about
//! it.

use std::time::Duration;
use tokio::time::Instant;

/// Pause before everything is scanned again after a failure; it doubles each time while the failure lasts. [choice]
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(10 * 60);

#[derive(Debug)]
pub struct Backoff {
    /// The problem as clients get it; none while all is well.
    problem: Option<String>,
    /// When to try again.
    retry: Option<Instant>,
    /// Length of the next pause.
    pause: Duration,
    /// When everything was last scanned again.
    tried: Option<Instant>,
}

impl Backoff {
    pub fn none() -> Self {
        Self { problem: None, retry: None, pause: FIRST_PAUSE, tried: None }
    }

    /// Whether there is a problem.
    pub fn is_there(&self) -> bool {
        self.problem.is_some()
    }

    /// Records that something could not be stored. Returns whether the problem is new to clients; between two tries
    /// only the first failure can be.
    pub fn met(&mut self, problem: &str, now: Instant) -> bool {
        if self.retry.is_some() {
            return false;
        }
        self.retry = Some(now + self.pause);
        self.pause = (2 * self.pause).min(LONGEST_PAUSE);
        self.problem.replace(problem.to_owned()).as_deref() != Some(problem)
    }

    /// Records that images were stored. Returns whether this ends the problem; if a try is still to come, it comes
    /// soon.
    pub fn stored(&mut self, now: Instant) -> bool {
        self.pause = FIRST_PAUSE;
        match &mut self.retry {
            Some(retry) => {
                *retry = (*retry).min(now + FIRST_PAUSE);
                false
            }
            None => self.problem.take().is_some(),
        }
    }

    /// Whether to try again now; true only once for each try.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let due = self.retry.is_some_and(|at| at <= now);
        if due {
            self.tried(now);
        }
        due
    }

    /// Records that everything is scanned again for another reason.
    pub fn looked_at(&mut self, now: Instant) {
        self.pause = FIRST_PAUSE;
        self.tried(now);
    }

    fn tried(&mut self, now: Instant) {
        (self.retry, self.tried) = (None, Some(now));
    }

    /// Whether the problem has ended because it has not come back since the last try: what could not be stored may have
    /// gone.
    pub fn has_passed(&mut self, now: Instant) -> bool {
        let quiet = self.retry.is_none() && self.tried.is_some_and(|at| now >= at + FIRST_PAUSE);
        if quiet {
            self.pause = FIRST_PAUSE;
        }
        quiet && self.problem.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    #[test]
    fn while_it_lasts_the_tries_become_fewer() {
        let (mut backoff, start) = (Backoff::none(), Instant::now());
        let mut now = start;
        let pauses = [30, 60, 120, 240, 480, 600, 600].map(|pause| {
            backoff.met("full", now);
            assert!(!backoff.met("full", now + second(1)), "the next file of many");
            assert!(!backoff.is_due(now + second(pause - 1)), "{pause}");
            now += second(pause);
            assert!(backoff.is_due(now), "{pause}");
            assert!(!backoff.is_due(now), "once");
            pause
        });
        assert_eq!(now, start + second(pauses.iter().sum()));
        assert!(backoff.stored(now), "the try has succeeded");
        backoff.met("full", now);
        assert!(backoff.is_due(now + second(30)), "it begins anew");
    }

    #[test]
    fn clients_hear_of_it_once_a_try_and_only_where_it_is_something_else() {
        let (mut backoff, now) = (Backoff::none(), Instant::now());
        assert!(backoff.met("full", now));
        assert!(!backoff.met("unreadable", now));
        assert!(backoff.is_due(now + second(30)));
        assert!(!backoff.met("full", now + second(30)));
        assert!(backoff.is_due(now + second(90)));
        assert!(backoff.met("unreadable", now + second(90)));
    }

    #[test]
    fn an_image_that_is_stored_meanwhile_brings_the_next_try_nearer() {
        let (mut backoff, start) = (Backoff::none(), Instant::now());
        assert!(!backoff.stored(start), "there was none");
        for at in [0, 30, 90, 210] {
            backoff.met("full", start + second(at));
            assert!(backoff.is_due(start + second(at + 600)));
        }
        backoff.met("full", start + second(900));
        assert!(!backoff.stored(start + second(910)) && backoff.is_there(), "the others are still to come");
        assert!(!backoff.is_due(start + second(939)));
        assert!(backoff.is_due(start + second(940)));
        assert!(backoff.stored(start + second(941)) && !backoff.is_there());
    }

    #[test]
    fn trouble_of_which_nothing_comes_any_more_is_over() {
        let (mut backoff, start) = (Backoff::none(), Instant::now());
        backoff.met("full", start);
        assert!(!backoff.has_passed(start + second(500)), "before a try nobody knows");
        backoff.looked_at(start + second(500));
        assert!(!backoff.has_passed(start + second(529)));
        assert!(backoff.has_passed(start + second(530)) && !backoff.is_there());
        assert!(!backoff.has_passed(start + second(531)), "once");
    }
}
