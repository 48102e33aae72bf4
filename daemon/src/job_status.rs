//! The status of a job, while it runs and after it has ended.

use coft_core::event::{Failure, Progress};
use coft_core::ids::{GenerationId, JobId};
use coft_core::job::{JobName, JobState, Trigger};
use coft_core::moment::Moment;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq)]
pub struct JobStatus {
    pub id: JobId,
    pub trigger: Trigger,
    pub started: Moment,
    pub ended: Option<Moment>,
    pub images: u64,
    /// Seed of the training; none for a job that does not learn from images.
    pub seed: Option<u64>,
    /// The unfinished round whose work this round takes up.
    pub continues: Option<JobId>,
    pub state: DetailedState,
    pub progress: Option<Progress>,
    pub warnings: Vec<String>,
}

impl JobStatus {
    /// The job as messages name it.
    pub fn name(&self) -> JobName {
        self.trigger.kind().job(self.id)
    }

    /// How long the job took; none while it runs.
    pub fn took(&self) -> Option<Duration> {
        Some(self.ended?.since(&self.started))
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum DetailedState {
    Running,
    /// Ended with a new active generation.
    Promoted(GenerationId),
    /// Ended with a candidate that was not promoted.
    Kept {
        reason: String,
        /// The generation as which the candidate was kept, as long as that generation exists.
        candidate: Option<GenerationId>,
    },
    Failed(Failure),
    Cancelled,
    /// The daemon or the machine stopped while the job ran.
    Interrupted,
}

impl DetailedState {
    /// The state in one word.
    pub fn name(&self) -> JobState {
        match self {
            DetailedState::Running => JobState::Running,
            DetailedState::Promoted(_) => JobState::Promoted,
            DetailedState::Kept { .. } => JobState::Kept,
            DetailedState::Failed(_) => JobState::Failed,
            DetailedState::Cancelled => JobState::Cancelled,
            DetailedState::Interrupted => JobState::Interrupted,
        }
    }
}
