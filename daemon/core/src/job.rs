//! What a job is, why it began and how it stands, in the words of the catalogue, the bus and the command line.
//!
//! A job makes a generation or lets one serve. All jobs of a classifier are numbered together ([`crate::ids::RoundId`]).

use serde::{Deserialize, Serialize};
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
    /// A generation that was made elsewhere is taken in.
    Import,
    /// A generation that is kept serves again.
    Activation,
}

impl JobKind {
    /// Whether the trainer makes what is to serve; otherwise it is there already.
    pub fn needs_trainer(self) -> bool {
        matches!(self, JobKind::Adaptation | JobKind::ZeroShot)
    }
}

/// What made a job start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Display, EnumIter, EnumString, IntoStaticStr)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Trigger {
    /// Somebody asked for a round.
    Manual,
    /// A round is due: enough new images and enough time have gone by.
    Schedule,
    /// The class names or the pretrained model have no generation yet.
    ZeroShot,
    /// Somebody hands over a generation that was made elsewhere.
    Import,
    /// Somebody wants a generation that is kept to serve again.
    Activation,
}

impl Trigger {
    /// What the job does that it starts.
    pub fn kind(self) -> JobKind {
        match self {
            Trigger::Manual | Trigger::Schedule => JobKind::Adaptation,
            Trigger::ZeroShot => JobKind::ZeroShot,
            Trigger::Import => JobKind::Import,
            Trigger::Activation => JobKind::Activation,
        }
    }

    /// Whether the job learns from images.
    pub fn adapts(self) -> bool {
        self.kind() == JobKind::Adaptation
    }
}

/// How a job stands, or how it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Display, EnumIter, EnumString, IntoStaticStr)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum JobState {
    /// It runs.
    Running,
    /// It has ended with a new active generation.
    Promoted,
    /// It has ended with a candidate that does not serve.
    Kept,
    /// It has ended without a candidate.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
    /// The service or the machine stopped while it ran.
    Interrupted,
}

#[cfg(test)]
mod tests {
    use super::*;
    use strum::IntoEnumIterator;

    /// Catalogues, programs on the bus and scripts know these words.
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
