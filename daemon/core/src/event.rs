//! What the trainer says while it works: one JSON object a line on its own file descriptor.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Event {
    /// First line. A reader that does not know `protocol` stops the round.
    Started {
        protocol: u32,
        device: String,
        threads: u32,
    },
    Progress(Progress),
    /// Something the user should know and that does not stop the round.
    Warning {
        message: String,
    },
    /// Last line of a round that left a candidate directory.
    Finished,
    /// Last line of a round that did not.
    Failed {
        kind: FailureKind,
        message: String,
        hint: String,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Progress {
    pub stage: Stage,
    /// Iteration of Phase I, from 1; 1 in every other stage.
    pub iteration: u32,
    /// Share of the whole round that is done; 0 to 1, never falling.
    pub fraction: f64,
    /// Image visits of this stage, done and planned.
    pub images_done: u64,
    pub images_total: u64,
    pub images_per_second: f64,
    /// Seconds to the end of the round; absent until there is something to estimate it from.
    pub remaining_seconds: Option<f64>,
    /// The training step, where the stage trains.
    pub training: Option<Training>,
}

/// Where a training stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Training {
    /// Pass over the training images, from 1.
    pub epoch: u32,
    /// Optimiser steps done and planned.
    pub step: u32,
    pub steps: u32,
    /// Terms of the last step's loss by name; `total` is what is minimised.
    pub losses: BTreeMap<String, f64>,
}

/// The stages of a round, in order; a round may skip some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    Load,
    Label,
    Phase1Model1,
    Phase1Model2,
    Filter,
    Phase2Model1,
    Phase2Model2,
    Choose,
    Export,
}

impl Stage {
    /// The stage as events, the bus and the command line write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Load => "load",
            Stage::Label => "label",
            Stage::Phase1Model1 => "phase1-model1",
            Stage::Phase1Model2 => "phase1-model2",
            Stage::Filter => "filter",
            Stage::Phase2Model1 => "phase2-model1",
            Stage::Phase2Model2 => "phase2-model2",
            Stage::Choose => "choose",
            Stage::Export => "export",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    BadSpec,
    BadModel,
    BadImages,
    NoSeeds,
    NonFinite,
    OutOfMemory,
    DiskFull,
    Cancelled,
    Internal,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_their_wording() {
        let failed = Event::Failed { kind: FailureKind::DiskFull, message: "m".into(), hint: "h".into() };
        let line = serde_json::to_string(&failed).unwrap();
        assert_eq!(line, r#"{"type":"failed","kind":"disk-full","message":"m","hint":"h"}"#);
        let line = r#"{"type":"progress","stage":"phase1-model2","iteration":1,"fraction":0.5,"images-done":1,"images-total":2,"images-per-second":3.0,"remaining-seconds":null,"training":{"epoch":2,"step":3,"steps":4,"losses":{"total":0.5}}}"#;
        let Event::Progress(progress) = serde_json::from_str(line).unwrap() else { panic!("not progress") };
        assert_eq!(progress.stage, Stage::Phase1Model2);
        assert_eq!(serde_json::to_string(&Event::Progress(progress)).unwrap(), line);
    }

    #[test]
    fn stages_are_written_alike_everywhere() {
        for stage in [Stage::Load, Stage::Phase1Model1, Stage::Phase2Model2, Stage::Export] {
            assert_eq!(serde_json::to_value(stage).unwrap(), stage.as_str());
        }
    }
}
