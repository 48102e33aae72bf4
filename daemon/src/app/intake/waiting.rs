//! Files of a source that wait to be looked at: the file that arrived last is the next.

use crate::observed_file::{Arrival, ObservedFile};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Default)]
pub struct Waiting {
    /// The files by [`Arrival::order`].
    files: BTreeMap<i64, (ObservedFile, Arrival)>,
    orders: BTreeMap<PathBuf, i64>,
}

impl Waiting {
    /// Adds a file. A file that waits already and is unchanged keeps its place, because a scan reports every file
    /// again.
    pub fn add(&mut self, observed: ObservedFile, came: Arrival) {
        if let Some(before) = self.orders.get(&observed.path) {
            if self.files.get(before).is_some_and(|(known, _)| *known == observed) {
                return;
            }
            self.files.remove(before);
        }
        self.orders.insert(observed.path.clone(), came.order);
        self.files.insert(came.order, (observed, came));
    }

    /// Removes and returns the file that arrived last.
    pub fn next(&mut self) -> Option<(ObservedFile, Arrival)> {
        let (_, next) = self.files.pop_last()?;
        self.orders.remove(&next.0.path);
        Some(next)
    }

    /// Removes the file, or every file below the directory.
    pub fn forget(&mut self, path: &Path) {
        // A path sorts right before the paths below it.
        let below = self.orders.range(path.to_owned()..).take_while(|(below, _)| below.starts_with(path));
        for gone in below.map(|(path, _)| path.clone()).collect::<Vec<_>>() {
            let order = self.orders.remove(&gone).expect("it was found just now");
            self.files.remove(&order);
        }
    }

    pub fn len(&self) -> usize {
        self.files.len()
    }

    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed_file::FileFingerprint;

    /// Files by their paths and sizes.
    fn waiting(files: &[(&str, u64)]) -> Waiting {
        let mut waiting = Waiting::default();
        for (path, bytes) in files {
            let fingerprint = FileFingerprint { bytes: *bytes, modified_ns: 0, changed_ns: 0 };
            waiting.add(ObservedFile { source: "/in".into(), path: path.into(), fingerprint }, Arrival::now());
        }
        waiting
    }

    #[track_caller]
    fn are(mut waiting: Waiting, expected: &[(&str, u64)]) {
        assert_eq!((waiting.len(), waiting.is_empty()), (expected.len(), expected.is_empty()));
        for (path, bytes) in expected {
            let (observed, _) = waiting.next().unwrap();
            assert_eq!((observed.path.as_path(), observed.fingerprint.bytes), (Path::new(path), *bytes));
        }
        assert!(waiting.next().is_none() && waiting.orders.is_empty());
    }

    #[test]
    fn the_latest_is_the_next_and_a_file_waits_once_as_it_was_seen_last() {
        let seen = [("/in/a", 1), ("/in/b", 1), ("/in/c", 1), ("/in/a", 2), ("/in/b", 1)];
        are(waiting(&seen), &[("/in/a", 2), ("/in/c", 1), ("/in/b", 1)]);
    }

    #[test]
    fn what_has_gone_waits_no_more_with_all_below_it() {
        let mut files = waiting(&[("/in/d/a", 0), ("/in/d-1", 1), ("/in/d/e/b", 2), ("/in/da", 3), ("/in/c", 4)]);
        files.forget(Path::new("/in/d"));
        files.forget(Path::new("/in/c"));
        files.forget(Path::new("/in/nothing"));
        are(files, &[("/in/da", 3), ("/in/d-1", 1)]);
    }
}
