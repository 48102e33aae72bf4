//! What a lane reports: the files that wait and the source's problem as status, rejected files in the log.

use super::Lane;
use crate::telemetry::events;
use coft_core::shown::shown_path;
use std::mem;
use std::path::Path;
use tokio::time::Instant;
use tracing::{debug, info, warn};

/// Why files of a source are not taken in as they should be.
#[derive(Default)]
pub(super) struct Problems {
    pub(super) watch: Option<String>,
    /// The file system does not answer.
    pub(super) silent: Option<String>,
    pub(super) slow: Option<String>,
    pub(super) unreadable: Option<String>,
}

impl Lane {
    pub(super) fn tell_waiting(&mut self) {
        let waiting = self.waiting.len();
        if mem::replace(&mut self.told_waiting, waiting) != waiting {
            self.shared.status.send_modify(|status| {
                status.waiting.insert(self.source.clone(), waiting as u64);
            });
        }
    }

    /// Reports at once that no file waits any more; that files wait is reported once a second.
    pub(super) fn tell_end_of_waiting(&mut self) {
        if self.waiting.is_empty() {
            self.tell_waiting();
        }
    }

    pub(super) fn tell_problem(&mut self) {
        let Problems { watch, silent, slow, unreadable } = &self.problems;
        // The watch's problem comes first: it may be that the source does not exist at all.
        let problems: Vec<&str> = [watch, silent, slow, unreadable].into_iter().flatten().map(String::as_str).collect();
        let problem = (!problems.is_empty()).then(|| problems.join("; "));
        if self.told.as_ref() == Some(&problem) {
            return;
        }
        let source = shown_path(&self.source).into_owned();
        match &problem {
            Some(problem) => warn!(message_id = events::SOURCE_PROBLEM, %source, problem, "{source}: {problem}"),
            None => info!(message_id = events::SOURCE_WATCHED, %source, "{source} is watched"),
        }
        self.told = Some(problem.clone());
        self.shared.status.send_modify(|status| {
            status.sources.insert(self.source.clone(), problem);
        });
    }

    /// Logs a rejected file: the first ones of each kind by name, the others together later.
    pub(super) fn log_refusal(&mut self, path: &Path, reason: &str) {
        self.count_refusals(false);
        let is_named = self.refusals.refused(path, reason, Instant::now());
        let path = shown_path(path).into_owned();
        if is_named {
            warn!(message_id = events::QUARANTINED, %path, reason, "{path} is no usable image: {reason}");
        } else {
            debug!(%path, reason, "{path} is no usable image: {reason}");
        }
    }

    /// Logs the rejected files that were not named and are due; all of them if `last`.
    pub(super) fn count_refusals(&mut self, last: bool) {
        let source = shown_path(&self.source).into_owned();
        for rest in self.refusals.due(Instant::now(), last) {
            let (count, path, reason) = (rest.count, shown_path(&rest.path).into_owned(), rest.reason);
            warn!(
                message_id = events::QUARANTINED,
                %source,
                files = count,
                %path,
                reason,
                "{count} more files in {source} are no usable images, the last one {path}: {reason}"
            );
        }
    }
}
