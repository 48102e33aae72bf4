//! Rejected files in the log: the first of each kind by name, the many that follow in one line. Reads no clock.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// How many files of one kind are named. [choice]
const NAMED: u32 = 3;
/// How often the other files are summed up in one line. [choice]
const PAUSE: Duration = Duration::from_secs(10);
/// If no file of a kind was refused for this long, the next one is named again. [choice]
const OVER: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub struct Refusals {
    kinds: HashMap<String, Tally>,
}

#[derive(Debug)]
struct Tally {
    named: u32,
    latest: Instant,
    rest: Option<Rest>,
}

/// Files that were not named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rest {
    pub count: u64,
    /// The last one, and why it was refused.
    pub path: PathBuf,
    pub reason: String,
    since: Instant,
}

impl Refusals {
    /// Records a refused file. Returns whether to name it.
    pub fn refused(&mut self, path: &Path, reason: &str, now: Instant) -> bool {
        let kind = self.kinds.entry(kind(reason)).or_insert(Tally { named: 0, latest: now, rest: None });
        kind.latest = now;
        if kind.named < NAMED {
            kind.named += 1;
            return true;
        }
        let count = kind.rest.as_ref().map_or(0, |rest| rest.count);
        let since = kind.rest.as_ref().map_or(now, |rest| rest.since);
        kind.rest = Some(Rest { count: count + 1, path: path.to_owned(), reason: reason.to_owned(), since });
        false
    }

    /// Whether there are files to sum up, now or later.
    pub fn is_waiting(&self) -> bool {
        self.kinds.values().any(|tally| tally.rest.is_some())
    }

    /// The sums to log now; all of them if `last`, when nothing more follows.
    pub fn due(&mut self, now: Instant, last: bool) -> Vec<Rest> {
        let due = |rest: &mut Rest| last || now.saturating_duration_since(rest.since) >= PAUSE;
        let rests = self.kinds.values_mut().filter_map(|tally| tally.rest.take_if(due)).collect();
        self.kinds.retain(|_, tally| tally.rest.is_some() || now.saturating_duration_since(tally.latest) < OVER);
        rests
    }
}

/// The reason without its numbers: a file that is one byte larger is refused for the same reason.
fn kind(reason: &str) -> String {
    reason.split(|c: char| c.is_ascii_digit()).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("#")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 900 videos gave 900 warnings.
    #[test]
    fn many_refusals_of_a_kind_are_one_line() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        let second = |second| start + Duration::from_secs(second);
        let named = (0..900)
            .filter(|n| refusals.refused(Path::new("/in/v.mp4"), &format!("it has {n} B"), second(n / 100)))
            .count();
        assert_eq!(named, 3);
        assert!(refusals.refused(Path::new("/in/a.txt"), "not an image", second(9)), "another kind");
        assert_eq!(refusals.due(second(9), false), []);
        let rest = refusals.due(second(10), false);
        assert_eq!(
            rest.iter().map(|rest| (rest.count, rest.reason.as_str())).collect::<Vec<_>>(),
            [(897, "it has 899 B")]
        );
        assert_eq!(refusals.due(second(30), true), []);
        assert!(!refusals.refused(Path::new("/in/v.mp4"), "it has 1 B", second(40)));
        assert_eq!(refusals.due(second(41), true).len(), 1);
        refusals.due(second(200), false);
        assert!(refusals.refused(Path::new("/in/v.mp4"), "it has 1 B", second(200)), "it is new again");
    }
}
