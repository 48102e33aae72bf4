//! Points in time, for decisions about intervals.
//!
//! The wall clock is set by people and by NTP: it may go back, and on a board without a battery it starts in 1970. So
//! intervals are measured by the time since the machine's start, which nobody can set. The wall clock is used for
//! people, and for intervals that include a restart of the machine.

use std::fmt;
use std::time::Duration;

/// One start of the machine: the kernel draws a new id each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootId(pub u128);

impl BootId {
    /// Parses an id of 32 hex digits; the hyphens of a UUID are skipped.
    pub fn parse(text: &str) -> Option<Self> {
        let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
        let id = u128::from_str_radix(&digits, 16).ok()?;
        (digits.len() == 32).then_some(Self(id))
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A point in time, by the time since the machine's start and by the wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// The start of the machine from which `since_boot` counts. `None` in records of versions that did not save it.
    pub boot: Option<BootId>,
    /// Time since that start, including the time in suspension.
    pub since_boot: Duration,
    /// Unix time, s, as the wall clock showed it at that moment.
    pub wall: i64,
}

impl Moment {
    /// A moment of which only the wall-clock time is known.
    pub fn at_wall(wall: i64) -> Self {
        Self { boot: None, since_boot: Duration::ZERO, wall }
    }

    /// Time from `earlier` to this moment; never negative.
    ///
    /// Between two starts of the machine the wall clock is used, as far as it is credible: if it places `earlier` in
    /// the future, `earlier` counts as the moment of the later start.
    pub fn since(&self, earlier: &Moment) -> Duration {
        if self.boot.is_some() && self.boot == earlier.boot {
            return self.since_boot.saturating_sub(earlier.since_boot);
        }
        match u64::try_from(i128::from(self.wall) - i128::from(earlier.wall)).map(Duration::from_secs) {
            // A moment of another start of the machine is at least as old as this start.
            Ok(by_clock) if earlier.boot.is_some() => by_clock.max(self.since_boot),
            Ok(by_clock) => by_clock,
            Err(_) => self.since_boot,
        }
    }

    /// This moment with the wall-clock time that `now` implies, because the clock may have been set since. Only within
    /// one start of the machine.
    pub fn restated(&self, now: &Moment) -> Self {
        if self.boot.is_none() || self.boot != now.boot {
            return *self;
        }
        let ago = i64::try_from(now.since(self).as_secs()).unwrap_or(i64::MAX);
        Self { wall: now.wall.saturating_sub(ago), ..*self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: u64 = 60 * 60;

    fn moment(boot: u128, since_boot: u64, wall: i64) -> Moment {
        Moment { boot: Some(BootId(boot)), since_boot: Duration::from_secs(since_boot), wall }
    }

    #[track_caller]
    fn check(earlier: Moment, now: Moment, seconds: u64) {
        assert_eq!(now.since(&earlier), Duration::from_secs(seconds), "{earlier:?} to {now:?}");
    }

    #[test]
    fn a_clock_that_is_set_changes_no_interval() {
        check(moment(1, 100, 1_000), moment(1, 160, 1_060), 60);
        check(moment(1, 100, 5), moment(1, 160, 1_800_000_000), 60);
        check(moment(1, 100, 1_800_000_000), moment(1, 160, 5), 60);
        // Two readings whose order was reversed.
        check(moment(1, 160, 1_060), moment(1, 100, 1_000), 0);
    }

    #[test]
    fn after_a_restart_of_the_machine_the_wall_clock_tells() {
        check(moment(1, 100, 10_000), moment(2, 60, 10_000 + HOUR as i64), HOUR);
        // The time passed cannot be less than this start has lasted.
        check(moment(1, 100, 10_000), moment(2, 2 * HOUR, 10_000 + HOUR as i64), 2 * HOUR);
    }

    #[test]
    fn an_end_that_lies_ahead_counts_as_the_start_of_the_machine() {
        check(moment(1, 100, 1_800_000_000), moment(2, 60, 5), 60);
        check(Moment::at_wall(1_800_000_000), moment(2, 60, 5), 60);
        check(Moment::at_wall(i64::MAX), moment(2, 60, i64::MIN), 60);
    }

    #[test]
    fn records_of_earlier_versions_have_the_wall_clock_alone() {
        check(Moment::at_wall(10_000), moment(1, 2 * HOUR, 10_060), 60);
        check(Moment::at_wall(10_000), Moment::at_wall(10_060), 60);
    }

    #[test]
    fn a_moment_is_told_anew_once_the_clock_is_right() {
        let ended = moment(1, 100, 42);
        assert_eq!(ended.restated(&moment(1, 160, 1_800_000_060)), moment(1, 100, 1_800_000_000));
        assert_eq!(ended.restated(&moment(2, 160, 1_800_000_060)), ended);
    }

    #[test]
    fn boot_ids_are_read_as_the_kernel_writes_them() {
        let id = BootId::parse("0a1b2c3d-0000-4000-8000-00000000000f\n").unwrap();
        assert_eq!(id.to_string(), "0a1b2c3d00004000800000000000000f");
        assert_eq!(BootId::parse(&id.to_string()), Some(id));
        assert_eq!(["", "12", "not-an-id"].map(BootId::parse), [None; 3]);
    }

    proptest! {
        /// However the wall clock is set, time passes as the machine measures it.
        #[test]
        fn time_never_runs_backwards(
            earlier in (0u128..3, 0u64..1_000_000, any::<i64>()),
            now in (0u128..3, 0u64..1_000_000, any::<i64>()),
            step in 0u64..1_000_000,
        ) {
            let of = |(boot, since, wall): (u128, u64, i64)| moment(boot, since, wall);
            let (earlier, now) = (of(earlier), of(now));
            let later = Moment { since_boot: now.since_boot + Duration::from_secs(step), wall: now.wall.saturating_add(step as i64), ..now };
            prop_assert!(later.since(&earlier) >= now.since(&earlier));
            if earlier.boot != now.boot {
                prop_assert!(now.since(&earlier) >= now.since_boot);
            }
        }
    }
}
