//! The machine's clocks, read together.

use coft_core::moment::{BootId, Moment};
use std::fs;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Source of the time; tests pass their own.
pub type Clock = Arc<dyn Fn() -> Moment + Send + Sync>;

/// The clock of this machine.
pub fn machine() -> Clock {
    Arc::new(now)
}

/// Reads both clocks.
pub fn now() -> Moment {
    static BOOT: LazyLock<BootId> = LazyLock::new(boot_id);
    let mut since_boot = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes to `since_boot`, a valid timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut since_boot) };
    let part = |number: i64| u64::try_from(number).unwrap_or(0);
    let now = Moment {
        boot: Some(*BOOT),
        since_boot: Duration::from_secs(part(since_boot.tv_sec)) + Duration::from_nanos(part(since_boot.tv_nsec)),
        wall: match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |ago| -ago),
        },
    };
    settings().read(&now);
    now
}

/// Whether the wall clock was set within the last `period`. Then the timestamps that files have from before do not show
/// their age.
pub fn was_set_within(period: Duration) -> bool {
    let now = now();
    settings().set.is_some_and(|set| now.since(&set) < period)
}

/// Detects that the wall clock was set, by comparing each reading with the one before. The service reads the clock at
/// least every 90 s.
#[derive(Debug, Default)]
struct Settings {
    /// By how much the wall clock was ahead of the time since the machine's start at the last reading, s.
    ahead: Option<i128>,
    /// When a change of the wall clock was last detected.
    set: Option<Moment>,
}

impl Settings {
    /// Seconds that two readings may differ by. 2 [choice]: one of the clocks has whole seconds, and NTP corrects by
    /// less.
    const TREMBLE: u128 = 2;

    fn read(&mut self, now: &Moment) {
        let ahead = i128::from(now.wall) - i128::from(now.since_boot.as_secs());
        if self.ahead.replace(ahead).is_some_and(|known| known.abs_diff(ahead) > Self::TREMBLE) {
            self.set = Some(*now);
        }
    }
}

fn settings() -> MutexGuard<'static, Settings> {
    static SETTINGS: Mutex<Settings> = Mutex::new(Settings { ahead: None, set: None });
    SETTINGS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The kernel's id of this start of the machine. If it cannot be read, an id of this process takes its place: moments
/// that an earlier process has stored are then compared by the wall clock, as after a restart of the machine.
fn boot_id() -> BootId {
    let read = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    read.as_deref().and_then(BootId::parse).unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        BootId(since.as_nanos() << 32 | u128::from(std::process::id()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_is_noticed() {
        let at = |since_boot, wall| Moment { boot: Some(BootId(1)), since_boot: Duration::from_secs(since_boot), wall };
        let (synced, trimmed, back) = (at(70, 1_800_000_000), at(80, 1_800_000_011), at(90, 1_700_000_000));
        let mut settings = Settings::default();
        let readings = [(at(5, 5), None), (at(6, 7), None), (at(60, 61), None)];
        let later = [(synced, Some(synced)), (trimmed, Some(synced)), (back, Some(back))];
        for (now, set) in readings.into_iter().chain(later) {
            settings.read(&now);
            assert_eq!(settings.set, set, "{now:?}");
        }
    }

    #[test]
    fn the_machine_s_clocks_go_on_together() {
        let (first, second) = (now(), now());
        assert_eq!((first.boot, first.boot.is_some()), (second.boot, true));
        assert!(second.since_boot >= first.since_boot && first.since_boot > Duration::ZERO);
        assert!(first.wall > 1_700_000_000, "the tests run after 2023");
        assert_eq!(boot_id(), now().boot.unwrap(), "it is the kernel's, not drawn anew");
    }
}
