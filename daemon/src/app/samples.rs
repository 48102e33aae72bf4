//! Jobs and moments that the tests of several modules use.

use crate::job_status::{DetailedState, JobStatus};
use coft_core::ids::JobId;
use coft_core::job::Trigger;
use coft_core::moment::{BootId, Moment};
use std::time::Duration;

/// The moment `second` seconds after the machine's start, which was at Unix time 0.
pub(super) fn second(second: u64) -> Moment {
    Moment { boot: Some(BootId(1)), since_boot: Duration::from_secs(second), wall: second as i64 }
}

/// A job that has started at second 0.
pub(super) fn job(number: u64, trigger: Trigger, images: u64, ended: Option<u64>, state: DetailedState) -> JobStatus {
    JobStatus {
        id: JobId(number),
        trigger,
        started: second(0),
        ended: ended.map(second),
        images,
        seed: None,
        continues: None,
        state,
        progress: None,
        warnings: Vec::new(),
    }
}

/// The end of a job whose candidate was not promoted.
pub(super) fn worse() -> DetailedState {
    DetailedState::Kept { reason: "worse".into(), candidate: None }
}
