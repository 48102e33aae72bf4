//! Jobs: what they are, how far they are, and what came of them.

use coft_core::ids::JobId;
use coft_core::job::{JobKind, JobName, JobState, Trigger};
use serde::Serialize;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Job {
    /// Number of the job.
    pub round: u64,
    pub kind: JobKind,
    pub trigger: Trigger,
    pub state: JobState,
    pub stage: String,
    /// Share of the job that is done, 0 to 1.
    pub fraction: f64,
    pub images_done: u64,
    pub images_total: u64,
    pub images_per_second: f64,
    pub remaining_seconds: Option<f64>,
    /// Unix time, s.
    pub started: i64,
    pub ended: Option<i64>,
    /// Measured by a clock that nobody can set. If the wall clock was set, it differs from `ended` minus `started`.
    pub took_seconds: Option<f64>,
    /// The uncompleted round whose work it takes up.
    pub continues: Option<u64>,
    pub images: u64,
    pub result: Outcome,
    pub warnings: Vec<String>,
}

impl Job {
    /// The job as messages name it.
    pub fn name(&self) -> JobName {
        self.kind.job(JobId(self.round))
    }

    pub fn is_running(&self) -> bool {
        self.state == JobState::Running
    }
}

/// The result of a job. Which fields are present depends on its state.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Outcome {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Why the candidate was not promoted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The generation that holds the candidate, while it is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidate: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// When the next round starts by itself, if none is running. Without both fields, rounds are started by a person only.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NextRound {
    /// This many more images have to come first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<u64>,
    /// Unix time, s; 0 where it starts as soon as no round is running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<i64>,
    /// The classifier whose job has to end first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
}

/// The number of a job: the output of `round start` without `--wait`, and of `job cancel`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Named {
    pub round: u64,
}

/// The output of `generation activate` where nothing was to be done: the fields of a job, without a job.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unchanged {
    pub round: Option<u64>,
    pub state: &'static str,
    pub result: Outcome,
}
