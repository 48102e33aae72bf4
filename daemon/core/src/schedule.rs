//! When a round is due without anybody asking for it.
//!
//! A pure function of the catalogue, the rounds so far and the time. It does not know whether a round already runs (see
//! [`crate::lifecycle`]).

use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime};

/// `[schedule]` of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Schedule {
    /// Whether rounds start by themselves. true [choice].
    pub automatic: bool,
    /// Images catalogued since the last completed round that make a new one worth its energy; ≥ 1. 200 [choice].
    pub new_images: u64,
    /// Least time between the end of a round, however it ended, and the next start; "0s" or more. "6h" [choice].
    #[serde(with = "humantime_serde")]
    pub minimum_interval: Duration,
    /// Time without a new image before a round starts, so that a folder that is being copied in is there as a whole; a
    /// stream that never pauses starts one at [`STREAM`] times `new-images`. "1m" [choice].
    #[serde(with = "humantime_serde")]
    pub quiet_period: Duration,
}

/// So many times `new-images` are enough without a pause. 10 [choice].
pub const STREAM: u64 = 10;

impl Default for Schedule {
    fn default() -> Self {
        Self {
            automatic: true,
            new_images: 200,
            minimum_interval: Duration::from_secs(6 * 60 * 60),
            quiet_period: Duration::from_secs(60),
        }
    }
}

/// What the decision is made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Images in the catalogue.
    pub images: u64,
    /// Images that the last completed round saw: one that was promoted, or kept out by its verdict. 0 without any.
    pub images_of_last_completed: u64,
    /// When the last adapting round ended, however it did: a round that fails must not be repeated at once.
    pub last_end: Option<SystemTime>,
    /// When the last new image was catalogued, as far as is known.
    pub last_image: Option<SystemTime>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    Now,
    /// Images enough, but the last round ended too recently, or images are still coming in.
    At(SystemTime),
    /// More images have to come first, or rounds only start by hand.
    No,
}

pub fn due(schedule: &Schedule, facts: &Facts, now: SystemTime) -> Due {
    let new = facts.images.saturating_sub(facts.images_of_last_completed);
    let enough = schedule.new_images.max(1);
    if !schedule.automatic || new < enough {
        return Due::No;
    }
    let rested = after(facts.last_end, schedule.minimum_interval, now);
    let quiet = match new >= enough.saturating_mul(STREAM) {
        true => Due::Now,
        false => after(facts.last_image, schedule.quiet_period, now),
    };
    match (rested, quiet) {
        (Due::No, _) | (_, Due::No) => Due::No,
        (Due::Now, due) | (due, Due::Now) => due,
        (Due::At(rested), Due::At(quiet)) => Due::At(rested.max(quiet)),
    }
}

/// When `wait` has gone by since something happened.
fn after(event: Option<SystemTime>, wait: Duration, now: SystemTime) -> Due {
    // A device without a battery-backed clock may start in the past; an event that lies ahead says nothing.
    let Some(event) = event.filter(|event| *event <= now) else { return Due::Now };
    match event.checked_add(wait) {
        Some(ready) if ready <= now => Due::Now,
        Some(ready) => Due::At(ready),
        None => Due::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour(hours: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(hours * 60 * 60)
    }

    fn facts(images: u64, images_of_last_completed: u64, last_end: Option<u64>) -> Facts {
        Facts { images, images_of_last_completed, last_end: last_end.map(hour), last_image: None }
    }

    #[track_caller]
    fn check(facts: Facts, now: u64, expected: Due) {
        assert_eq!(due(&Schedule::default(), &facts, hour(now)), expected, "{facts:?} at hour {now}");
    }

    #[test]
    fn images_and_time_are_both_needed() {
        check(facts(199, 0, None), 100, Due::No);
        check(facts(200, 0, None), 100, Due::Now);
        check(facts(399, 200, Some(1)), 100, Due::No);
        check(facts(400, 200, Some(1)), 100, Due::Now);
        check(facts(400, 200, Some(96)), 100, Due::At(hour(102)));
        check(facts(400, 200, Some(94)), 100, Due::Now);
    }

    #[test]
    fn a_failing_round_is_not_repeated_at_once() {
        check(facts(500, 0, Some(99)), 100, Due::At(hour(105)));
    }

    #[test]
    fn a_clock_that_went_back_does_not_stop_the_rounds() {
        check(facts(500, 0, Some(1_000_000)), 3, Due::Now);
    }

    #[test]
    fn a_folder_that_is_being_copied_in_is_waited_for() {
        let minutes = |minutes: u64| hour(100) + Duration::from_secs(60 * minutes);
        let copying = Facts { last_image: Some(minutes(5)), ..facts(500, 0, None) };
        assert_eq!(due(&Schedule::default(), &copying, minutes(5)), Due::At(minutes(6)));
        assert_eq!(due(&Schedule::default(), &copying, minutes(6)), Due::Now);
        let resting = Facts { last_end: Some(hour(99)), ..copying };
        assert_eq!(due(&Schedule::default(), &resting, minutes(5)), Due::At(hour(105)), "the later of the two");
        let stream = Facts { images: 2000, ..copying };
        assert_eq!(due(&Schedule::default(), &stream, minutes(5)), Due::Now, "a stream never pauses");
    }

    #[test]
    fn by_hand_means_by_hand() {
        let schedule = Schedule { automatic: false, ..Schedule::default() };
        assert_eq!(due(&schedule, &facts(1_000_000, 0, None), hour(100)), Due::No);
    }

    /// A year of a camera that sees `per_day` new images; every round succeeds and takes an hour.
    fn rounds_in_a_year(per_day: u64) -> u64 {
        let (mut facts, mut rounds) = (Facts::default(), 0);
        for now in 0..365 * 24 {
            facts.images = now * per_day / 24;
            if due(&Schedule::default(), &facts, hour(now)) == Due::Now {
                facts.images_of_last_completed = facts.images;
                facts.last_end = Some(hour(now + 1));
                rounds += 1;
            }
        }
        rounds
    }

    #[test]
    fn a_year_of_operation() {
        assert_eq!(rounds_in_a_year(0), 0);
        assert_eq!(rounds_in_a_year(10), 18, "3650 images, a round every 200");
        assert_eq!(rounds_in_a_year(1_000_000), 1252, "every seven hours: one of work, six of rest");
    }
}
