//! The machine's clocks, read together.

use coft_core::moment::{BootId, Moment};
use std::fs;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where the time comes from; the tests have one of their own.
pub type Clock = Arc<dyn Fn() -> Moment + Send + Sync>;

/// The clock of this machine.
pub fn machine() -> Clock {
    Arc::new(now)
}

/// This moment.
pub fn now() -> Moment {
    static BOOT: LazyLock<BootId> = LazyLock::new(boot_id);
    let mut since_boot = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes a timespec, which is there.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut since_boot) };
    let part = |number: i64| u64::try_from(number).unwrap_or(0);
    Moment {
        boot: Some(*BOOT),
        since_boot: Duration::from_secs(part(since_boot.tv_sec)) + Duration::from_nanos(part(since_boot.tv_nsec)),
        wall: match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |ago| -ago),
        },
    }
}

/// The kernel's id of this start of the machine. Where it cannot be read, one of this process: what an earlier one has noted is
/// then judged by the wall clock, as after a restart of the machine.
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
    fn the_machine_s_clocks_go_on_together() {
        let (first, second) = (now(), now());
        assert_eq!((first.boot, first.boot.is_some()), (second.boot, true));
        assert!(second.since_boot >= first.since_boot && first.since_boot > Duration::ZERO);
        assert!(first.wall > 1_700_000_000, "the tests run after 2023");
        assert_eq!(boot_id(), now().boot.unwrap(), "it is the kernel's, not drawn anew");
    }
}
