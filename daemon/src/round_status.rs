//! The status of a job, while it runs and after it has ended.

use coft_core::event::{Failure, Progress};
use coft_core::ids::{GenerationId, RoundId};
use coft_core::job::{JobState, Trigger};
use coft_core::moment::Moment;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq)]
pub struct RoundStatus {
    pub round: RoundId,
    pub trigger: Trigger,
    pub started: Moment,
    pub ended: Option<Moment>,
    pub images: u64,
    /// Seed of the training; none for a job that does not learn from images.
    pub seed: Option<u64>,
    /// The unfinished round whose work this round takes up.
    pub continues: Option<RoundId>,
    pub state: RoundState,
    pub progress: Option<Progress>,
    pub warnings: Vec<String>,
}

impl RoundStatus {
    /// How long the job took; none while it runs.
    pub fn took(&self) -> Option<Duration> {
        Some(self.ended?.since(&self.started))
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum RoundState {
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

impl RoundState {
    /// The state in one word.
    pub fn name(&self) -> JobState {
        match self {
            RoundState::Running => JobState::Running,
            RoundState::Promoted(_) => JobState::Promoted,
            RoundState::Kept { .. } => JobState::Kept,
            RoundState::Failed(_) => JobState::Failed,
            RoundState::Cancelled => JobState::Cancelled,
            RoundState::Interrupted => JobState::Interrupted,
        }
    }
}
