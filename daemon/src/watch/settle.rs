//! The settle rule: a file counts as written when its writer closed or renamed it, or when it has looked the same for
//! the quiet period. This module reads no clock and no file.

use crate::observed_file::FileFingerprint;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The files that somebody may still be writing.
#[derive(Debug)]
pub struct Settling {
    quiet_period: Duration,
    files: HashMap<PathBuf, Look>,
}

#[derive(Debug)]
struct Look {
    fingerprint: FileFingerprint,
    /// Since when the file has looked like this.
    since: Instant,
}

impl Settling {
    pub fn new(quiet_period: Duration) -> Self {
        Self { quiet_period, files: HashMap::new() }
    }

    /// The file was written to or found. Its quiet period starts again, even if it looks the same: a write may leave
    /// the size unchanged, and the time too, within the file system's resolution.
    pub fn touched(&mut self, path: PathBuf, fingerprint: FileFingerprint, now: Instant) {
        self.files.insert(path, Look { fingerprint, since: now });
    }

    /// The file was found by a scan, not because somebody wrote to it. Its quiet period goes on if it looks the same.
    pub fn seen(&mut self, path: PathBuf, fingerprint: FileFingerprint, now: Instant) {
        if self.files.get(&path).is_none_or(|look| look.fingerprint != fingerprint) {
            self.touched(path, fingerprint, now);
        }
    }

    /// The file has gone, or is known to be complete in another way.
    pub fn forget(&mut self, path: &Path) {
        self.files.remove(path);
    }

    /// The files whose quiet period has passed. The caller has to check each of them with [`Settling::looked`].
    pub fn quiet(&self, now: Instant) -> Vec<PathBuf> {
        let quiet = |look: &Look| now.saturating_duration_since(look.since) >= self.quiet_period;
        self.files.iter().filter(|(_, look)| quiet(look)).map(|(path, _)| path.clone()).collect()
    }

    /// Checks a file a second time; true where it has settled. If it looks different, its quiet period starts again.
    pub fn looked(&mut self, path: &Path, fingerprint: FileFingerprint, now: Instant) -> bool {
        let Some(look) = self.files.get_mut(path) else { return false };
        if look.fingerprint != fingerprint {
            *look = Look { fingerprint, since: now };
            return false;
        }
        let settled = now.saturating_duration_since(look.since) >= self.quiet_period;
        if settled {
            self.files.remove(path);
        }
        settled
    }

    /// Whether no file has to settle.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Duration = Duration::from_secs(2);

    /// What happens to one file, and at which second.
    enum Step {
        Touched(u64),
        /// The file was checked and had this size; whether it has settled then.
        Looked(u64, bool),
        Forgotten,
    }
    use Step::*;

    #[track_caller]
    fn tell(story: &[(u64, Step)]) {
        let start = Instant::now();
        let path = Path::new("/camera/a.jpg");
        let mut settling = Settling::new(QUIET);
        for (second, step) in story {
            let now = start + Duration::from_secs(*second);
            let fingerprint = |bytes| FileFingerprint { bytes, modified_ns: 0, changed_ns: 0 };
            match *step {
                Touched(bytes) => settling.touched(path.to_owned(), fingerprint(bytes), now),
                Looked(bytes, settled) => {
                    if settled {
                        assert_eq!(settling.quiet(now), [path], "second {second}");
                    }
                    assert_eq!(settling.looked(path, fingerprint(bytes), now), settled, "second {second}");
                }
                Forgotten => settling.forget(path),
            }
        }
    }

    #[test]
    fn a_file_settles_once_after_the_quiet_period() {
        tell(&[(0, Touched(9)), (1, Looked(9, false)), (2, Looked(9, true)), (9, Looked(9, false))]);
    }

    #[test]
    fn a_growing_file_waits() {
        tell(&[(0, Touched(1)), (2, Looked(5, false)), (3, Looked(5, false)), (4, Looked(5, true))]);
        tell(&[(0, Touched(1)), (1, Touched(1)), (2, Looked(1, false)), (3, Looked(1, true))]);
    }

    #[test]
    fn a_file_that_goes_away_never_settles() {
        tell(&[(0, Touched(1)), (1, Forgotten), (5, Looked(1, false))]);
    }

    #[test]
    fn the_oldest_file_is_looked_at_first() {
        let start = Instant::now();
        let fingerprint = FileFingerprint { bytes: 1, modified_ns: 0, changed_ns: 0 };
        let mut settling = Settling::new(QUIET);
        assert!(settling.is_empty());
        settling.touched("/b".into(), fingerprint, start + QUIET);
        settling.touched("/a".into(), fingerprint, start);
        assert!(!settling.is_empty());
        assert_eq!(settling.quiet(start + QUIET), [Path::new("/a")]);
    }
}
