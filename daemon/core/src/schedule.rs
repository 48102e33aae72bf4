//! When a round starts by itself: because of new images, or to take up interrupted work ([`crate::continuation`]).
//!
//! A pure function of the catalogue, the earlier rounds and the time. It does not know whether a round is running (see
//! [`crate::lifecycle`]).

use crate::continuation::Next;
use crate::moment::Moment;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// `[schedule]` of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Schedule {
    /// Whether rounds start by themselves. true [choice].
    pub automatic: bool,
    /// Number of images catalogued since the last completed round that justify the energy for a new round; ≥ 1. 200
    /// [choice].
    pub new_images: u64,
    /// Least time between the end of a round, whatever its outcome, and the next start; "0s" or more. "6h" [choice].
    #[serde(with = "humantime_serde")]
    pub minimum_interval: Duration,
    /// Time without a new image before a round starts, so that a folder that is being copied is complete. Images that
    /// come without a pause start a round at [`STREAM`] times `new-images`. "1m" [choice].
    #[serde(with = "humantime_serde")]
    pub quiet_period: Duration,
}

/// With this many times `new-images`, a round starts without a pause. 10 [choice].
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

/// The facts from which the decision is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Whether the images have been counted since the service started. Before that, their number is unknown.
    pub counted: bool,
    /// Images in the catalogue.
    pub images: u64,
    /// Value of `images` at the last completed round, whose candidate was promoted or kept; 0 without one.
    pub images_of_last_completed: u64,
    /// When the last round ended, whatever its outcome: a round that fails must not be repeated at once.
    pub last_end: Option<Moment>,
    /// When the last new image was catalogued, if that is known.
    pub last_image: Option<Moment>,
}

/// When the next round starts by itself, if none is running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NextRound {
    /// Rounds are started by a person only.
    #[default]
    ByHand,
    /// This many more images have to come first.
    Images(u64),
    /// At this Unix time, s.
    At(i64),
    /// A round starts as soon as possible. It may still wait for the set-up, for a minute after a failed start, or for
    /// a round of this or another classifier to end.
    Due,
}

/// When the next round starts by itself. `unfinished` is what happens to the work of the last round; `minimum_images`
/// is the fewest images for a round.
pub fn next_round(
    schedule: &Schedule,
    unfinished: Next,
    facts: &Facts,
    minimum_images: u64,
    now: &Moment,
) -> NextRound {
    let new = facts.images.saturating_sub(facts.images_of_last_completed);
    let missing = |enough: u64| enough.saturating_sub(new).max(minimum_images.saturating_sub(facts.images));
    let after = |wait: Duration| match wait {
        Duration::ZERO => NextRound::Due,
        wait => NextRound::At(now.wall.saturating_add_unsigned(wait.as_secs())),
    };
    match unfinished {
        _ if !schedule.automatic => NextRound::ByHand,
        Next::ByItself(pause) if facts.counted && missing(0) == 0 => after(left(facts.last_end, pause, now)),
        Next::ByItself(_) => NextRound::Images(missing(0).max(1)),
        _ => match (missing(schedule.new_images.max(1)), due(schedule, facts, now)) {
            (0, Due::Now) => NextRound::Due,
            (0, Due::In(wait)) => after(wait),
            (0, Due::No) => NextRound::ByHand,
            (missing, _) => NextRound::Images(missing),
        },
    }
}

/// Whether and when new images make a round due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// A round is due now.
    Now,
    /// After this time: there are enough images, but the last round ended too recently, or images are still coming in.
    In(Duration),
    /// More images have to come first, or rounds are started by a person only.
    No,
}

/// When new images make a round due according to these facts, if no round runs and nothing else happens.
fn due(schedule: &Schedule, facts: &Facts, now: &Moment) -> Due {
    let new = facts.images.saturating_sub(facts.images_of_last_completed);
    let enough = schedule.new_images.max(1);
    if !schedule.automatic || new < enough {
        return Due::No;
    }
    let rest = left(facts.last_end, schedule.minimum_interval, now);
    let quiet = match new >= enough.saturating_mul(STREAM) {
        true => Duration::ZERO,
        false => left(facts.last_image, schedule.quiet_period, now),
    };
    match rest.max(quiet) {
        Duration::ZERO => Due::Now,
        wait => Due::In(wait),
    }
}

/// The rest of a waiting time that began with an event.
fn left(event: Option<Moment>, wait: Duration, now: &Moment) -> Duration {
    event.map_or(Duration::ZERO, |event| wait.saturating_sub(now.since(&event)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moment::BootId;

    const HOUR: Duration = Duration::from_secs(60 * 60);

    /// A machine that has been running since Unix time 0, with a clock that is right.
    fn at(since_boot: Duration) -> Moment {
        Moment { boot: Some(BootId(1)), since_boot, wall: since_boot.as_secs() as i64 }
    }

    fn hour(hours: u32) -> Moment {
        at(hours * HOUR)
    }

    fn facts(images: u64, images_of_last_completed: u64, last_end: Option<u32>) -> Facts {
        Facts { counted: true, images, images_of_last_completed, last_end: last_end.map(hour), last_image: None }
    }

    #[track_caller]
    fn check(facts: Facts, now: u32, expected: Due) {
        assert_eq!(due(&Schedule::default(), &facts, &hour(now)), expected, "{facts:?} at hour {now}");
    }

    #[test]
    fn images_and_time_are_both_needed() {
        check(facts(199, 0, None), 100, Due::No);
        check(facts(200, 0, None), 100, Due::Now);
        check(facts(399, 200, Some(1)), 100, Due::No);
        check(facts(400, 200, Some(1)), 100, Due::Now);
        check(facts(400, 200, Some(96)), 100, Due::In(2 * HOUR));
        check(facts(400, 200, Some(94)), 100, Due::Now);
    }

    #[test]
    fn the_next_round_is_told_with_what_it_waits_for() {
        let next = |schedule: &Schedule, facts: Facts, now| next_round(schedule, Next::Nothing, &facts, 16, &hour(now));
        let schedule = Schedule::default();
        assert_eq!(next(&schedule, facts(150, 0, None), 9), NextRound::Images(50));
        assert_eq!(next(&schedule, facts(200, 0, None), 9), NextRound::Due);
        assert_eq!(next(&schedule, facts(450, 300, Some(1)), 2), NextRound::Images(50));
        assert_eq!(next(&schedule, facts(500, 300, Some(1)), 2), NextRound::At(7 * 60 * 60));
        assert_eq!(next(&schedule, facts(500, 300, Some(1)), 7), NextRound::Due);
        assert_eq!(next(&Schedule { new_images: 1, ..schedule.clone() }, facts(5, 0, None), 9), NextRound::Images(11));
        let by_hand = Schedule { automatic: false, ..schedule };
        assert_eq!(next(&by_hand, facts(500, 0, None), 9), NextRound::ByHand);
    }

    #[test]
    fn interrupted_work_is_taken_up_once_the_images_are_counted() {
        let next = |unfinished, facts| next_round(&Schedule::default(), unfinished, &facts, 16, &hour(2));
        let uncounted = Facts { counted: false, ..facts(0, 0, Some(1)) };
        assert_eq!(next(Next::ByItself(HOUR), uncounted), NextRound::Images(16), "0 images are known so far");
        assert_eq!(next(Next::ByItself(HOUR), facts(15, 0, Some(1))), NextRound::Images(1));
        assert_eq!(next(Next::ByItself(HOUR), facts(50, 0, Some(1))), NextRound::Due);
        assert_eq!(next(Next::ByItself(2 * HOUR), facts(50, 0, Some(1))), NextRound::At(3 * 60 * 60));
        assert_eq!(next(Next::ByHand, facts(50, 0, Some(1))), NextRound::Images(150), "its end was wanted");
    }

    #[test]
    fn a_failing_round_is_not_repeated_at_once() {
        check(facts(500, 0, Some(99)), 100, Due::In(5 * HOUR));
    }

    /// A last end in the future was ignored: after the clock was set back by a month, a round started at once.
    #[test]
    fn a_clock_that_is_set_neither_stops_the_rounds_nor_hurries_them() {
        let month = 30 * 24 * 3600;
        for shift in [-month, month] {
            let now = |hours| Moment { wall: hour(hours).wall + shift, ..hour(hours) };
            let due = |hours| due(&Schedule::default(), &facts(500, 0, Some(99)), &now(hours));
            assert_eq!([due(99), due(104), due(105)], [Due::In(6 * HOUR), Due::In(HOUR), Due::Now], "{shift}");
        }
    }

    /// Three starts of the machine, each with the clock at 1970, caused three rounds within six hours.
    #[test]
    fn a_board_without_a_clock_that_starts_again_and_again_rests_all_the_same() {
        let (mut rounds, mut last_end) = (0, None);
        for boot in 1..=4 {
            for minute in 0..4 * 60 {
                let since_boot = Duration::from_secs(60 * minute);
                let now = Moment { boot: Some(BootId(boot)), since_boot, wall: since_boot.as_secs() as i64 };
                let facts = Facts { last_end, ..facts(5000, 0, None) };
                if due(&Schedule::default(), &facts, &now) == Due::Now {
                    (rounds, last_end) = (rounds + 1, Some(now));
                }
            }
        }
        assert_eq!(rounds, 1, "no start lasts six hours");
        let long = Moment { boot: Some(BootId(9)), since_boot: 6 * HOUR, wall: 6 * 3600 };
        assert_eq!(due(&Schedule::default(), &Facts { last_end, ..facts(5000, 0, None) }, &long), Due::Now);
    }

    #[test]
    fn a_folder_that_is_being_copied_in_is_waited_for() {
        let minutes = |minutes: u32| at(100 * HOUR + minutes * Duration::from_secs(60));
        let copying = Facts { last_image: Some(minutes(5)), ..facts(500, 0, None) };
        assert_eq!(due(&Schedule::default(), &copying, &minutes(5)), Due::In(Duration::from_secs(60)));
        assert_eq!(due(&Schedule::default(), &copying, &minutes(6)), Due::Now);
        // The clock is set for the first time during the copying.
        let synced = Moment { wall: 1_800_000_000, ..minutes(5) };
        assert_eq!(due(&Schedule::default(), &copying, &synced), Due::In(Duration::from_secs(60)));
        let resting = Facts { last_end: Some(hour(99)), ..copying };
        let wait = 5 * HOUR - 5 * Duration::from_secs(60);
        assert_eq!(due(&Schedule::default(), &resting, &minutes(5)), Due::In(wait), "the later of the two");
        let stream = Facts { images: 2000, ..copying };
        assert_eq!(due(&Schedule::default(), &stream, &minutes(5)), Due::Now, "a stream never pauses");
    }

    #[test]
    fn by_hand_means_by_hand() {
        let schedule = Schedule { automatic: false, ..Schedule::default() };
        assert_eq!(due(&schedule, &facts(1_000_000, 0, None), &hour(100)), Due::No);
    }

    /// Number of rounds in a year of a camera that takes `per_day` new images; every round succeeds and takes an hour.
    fn rounds_in_a_year(per_day: u64) -> u64 {
        let (mut facts, mut rounds) = (facts(0, 0, None), 0);
        for now in 0..365 * 24 {
            facts.images = u64::from(now) * per_day / 24;
            if due(&Schedule::default(), &facts, &hour(now)) == Due::Now {
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
