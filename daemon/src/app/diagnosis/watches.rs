//! Whether the kernel's limits allow a watch for every directory.

use super::{Surroundings, error, ok, warning};
use crate::control::Check;
use std::fs;

const NAME: &str = "inotify";

pub fn look(_: &Surroundings) -> Vec<Check> {
    let limit = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).ok()?;
        text.trim().parse().ok()
    };
    let limits = (limit("max_user_watches"), limit("max_user_instances"));
    let (Some(watches), Some(instances)) = limits else {
        return vec![warning(NAME, "the kernel's limits cannot be read", "")];
    };
    let (held, held_instances) = held();
    vec![
        judge("watched directories", "max_user_watches", held, watches),
        judge("inotify instances", "max_user_instances", held_instances, instances),
    ]
}

/// The watches of this process, and the inotify instances that hold them.
fn held() -> (u64, u64) {
    let (mut watches, mut instances) = (0, 0);
    for entry in fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        let is_inotify = fs::read_link(entry.path()).is_ok_and(|to| to.to_str() == Some("anon_inode:inotify"));
        let number = entry.file_name();
        if let (true, Some(number)) = (is_inotify, number.to_str()) {
            instances += 1;
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
            watches += info.lines().filter(|line| line.starts_with("inotify ")).count() as u64;
        }
    }
    (watches, instances)
}

/// The limit applies to all programs of the user together.
fn judge(what: &str, limit: &str, held: u64, most: u64) -> Check {
    let found = format!("{held} {what} of {most} (fs.inotify.{limit})");
    let raise = || {
        let more = most.saturating_mul(4).max(1024);
        format!("echo fs.inotify.{limit}={more} | sudo tee /etc/sysctl.d/60-coft.conf; sudo sysctl --system")
    };
    match held {
        _ if held >= most => error(NAME, found, raise()),
        // More than four fifths.
        _ if held.saturating_mul(5) > most.saturating_mul(4) => warning(NAME, found, raise()),
        _ => ok(NAME, found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Level;

    #[test]
    fn a_limit_that_is_near_is_told_with_what_raises_it() {
        for (held, level) in [(0, Level::Ok), (8000, Level::Ok), (8001, Level::Warning), (10_000, Level::Error)] {
            let check = judge("watched directories", "max_user_watches", held, 10_000);
            assert_eq!(check.level, level, "{check:?}");
            let raises = check.advice.contains("fs.inotify.max_user_watches=40000");
            assert_eq!(raises, level != Level::Ok, "{check:?}");
        }
    }

    #[test]
    fn watches_of_this_process_are_counted() {
        use notify::{RecommendedWatcher, RecursiveMode, Watcher};
        let dir = tempfile::tempdir().unwrap();
        let mut watcher = RecommendedWatcher::new(|_| {}, notify::Config::default()).unwrap();
        watcher.watch(dir.path(), RecursiveMode::NonRecursive).unwrap();
        let (watches, instances) = held();
        assert!(watches >= 1 && instances >= 1, "{watches} of {instances}");
    }
}
