//! What a job does, why it started and what its state is, with the words of the catalogue, the bus and the command
//! line.
//!
//! A job makes a generation or activates one. All jobs of a classifier share one series of numbers
//! ([`JobId`]).

use crate::ids::JobId;
use serde::{Deserialize, Serialize};
use std::fmt;
use strum::{Display, EnumIter, EnumString, IntoStaticStr};

/// What a job does. A round is a job that adapts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Display, EnumIter, EnumString, IntoStaticStr)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum JobKind {
    /// A round: the trainer makes a generation that has learnt from images.
    Adaptation,
    /// The trainer makes a generation of the pretrained model, unchanged; needs no image.
    ZeroShot,
    /// A generation that was made elsewhere is imported.
    Import,
    /// A stored generation is activated again.
    Activation,
}

impl JobKind {
    /// Whether the trainer makes the generation; otherwise it exists already.
    pub fn needs_trainer(self) -> bool {
        matches!(self, JobKind::Adaptation | JobKind::ZeroShot)
    }

    /// The job of this kind with this number, as messages name it.
    pub fn job(self, id: JobId) -> JobName {
        JobName { kind: self, id }
    }
}

/// A job as messages name it: `round 7`, `zero-shot job 8`, `import 9` or `activation 10`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobName {
    /// What the job does.
    pub kind: JobKind,
    /// Its number.
    pub id: JobId,
}

impl fmt::Display for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = match self.kind {
            JobKind::Adaptation => "round",
            JobKind::ZeroShot => "zero-shot job",
            JobKind::Import => "import",
            JobKind::Activation => "activation",
        };
        write!(f, "{noun} {}", self.id)
    }
}

/// Why a job started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Display, EnumIter, EnumString, IntoStaticStr)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Trigger {
    /// A person asked for a round.
    Manual,
    /// The schedule: there are enough new images and enough time has passed.
    Schedule,
    /// There is no generation yet for the class names or for the pretrained model.
    ZeroShot,
    /// A person imports a generation that was made elsewhere.
    Import,
    /// A person activates a stored generation again.
    Activation,
}

impl Trigger {
    /// The kind of the job that this trigger starts.
    pub fn kind(self) -> JobKind {
        match self {
            Trigger::Manual | Trigger::Schedule => JobKind::Adaptation,
            Trigger::ZeroShot => JobKind::ZeroShot,
            Trigger::Import => JobKind::Import,
            Trigger::Activation => JobKind::Activation,
        }
    }

    /// Whether the job trains on images.
    pub fn adapts(self) -> bool {
        self.kind() == JobKind::Adaptation
    }
}

/// The state of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Display, EnumIter, EnumString, IntoStaticStr)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum JobState {
    /// It runs.
    Running,
    /// It has ended with a new active generation.
    Promoted,
    /// It has ended with a candidate that was not promoted.
    Kept,
    /// It has ended without a candidate.
    Failed,
    /// A person cancelled it.
    Cancelled,
    /// The service or the machine stopped while it ran.
    Interrupted,
}

#[cfg(test)]
mod tests {
    use super::*;
    use strum::IntoEnumIterator;

    /// Catalogues, programs on the bus and scripts use these words.
    #[test]
    fn words_stay_as_they_are() {
        let words = |all: Vec<&'static str>| all.join(" ");
        assert_eq!(words(JobKind::iter().map(Into::into).collect()), "adaptation zero-shot import activation");
        assert_eq!(words(Trigger::iter().map(Into::into).collect()), "manual schedule zero-shot import activation");
        let states = "running promoted kept failed cancelled interrupted";
        assert_eq!(words(JobState::iter().map(Into::into).collect()), states);
        for state in JobState::iter() {
            assert_eq!(state.to_string().parse(), Ok(state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.to_string());
        }
    }
}
