//! The events that the trainer writes while it works: one JSON object per line on a file descriptor of its own.

use crate::candidate::ModelIndex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A line that the trainer writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Event {
    /// First line. A reader that does not know `protocol` stops the round.
    Started {
        /// Version of the protocol: of these lines and of the spec.
        protocol: u32,
        /// What the round is computed on: `cpu`, or `cuda(0)` for the first GPU.
        device: String,
        /// CPU threads that the round uses.
        threads: u32,
    },
    /// How far the round is; sent again and again while it works.
    Progress(Progress),
    /// Something the user should know and that does not stop the round.
    Warning {
        /// The warning in words.
        message: String,
    },
    /// Last line of a round that left a candidate directory.
    Finished,
    /// Last line of a round that did not.
    Failed(Failure),
}

/// Why a job (a round, an import, an activation) has failed, for people and for programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Failure {
    /// What kind of failure it is.
    pub kind: FailureKind,
    /// What happened, in words.
    pub message: String,
    /// What the user can do about it, in words.
    pub hint: String,
}

impl Failure {
    /// A failure of this kind, in words, and what the user can do about it.
    pub fn new(kind: FailureKind, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: hint.into() }
    }
}

/// How far a round is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Progress {
    /// The stage that it is in.
    pub stage: Stage,
    /// Iteration of Phase I, from 1; 1 in every other stage.
    pub iteration: u32,
    /// Share of the whole round that is done; 0 to 1, never falling.
    pub fraction: f64,
    /// Image visits of this stage that are done.
    pub images_done: u64,
    /// Image visits of this stage that are planned.
    pub images_total: u64,
    /// Image visits a second in this stage.
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
    /// Optimiser steps done.
    pub step: u32,
    /// Optimiser steps planned.
    pub steps: u32,
    /// Terms of the last step's loss by name; `total` is what is minimised.
    pub losses: BTreeMap<String, f64>,
}

/// The stages of a round, in order; a round may skip some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The models are read.
    Load,
    /// Zero-shot labels are given to the images of the pool.
    Label,
    /// Phase I of the first model: its prompts are tuned.
    Phase1Model1,
    /// Phase I of the second model.
    Phase1Model2,
    /// The collaborative filter: each model confirms or refuses the labels of the other.
    Filter,
    /// Phase II of the first model: its image encoder and head are trained.
    Phase2Model1,
    /// Phase II of the second model.
    Phase2Model2,
    /// The candidates answer the pool, and the one to deploy is chosen.
    Choose,
    /// The candidate directory is written.
    Export,
    /// The service has the candidate and what serves answer pictures of the pool, to ask a person about those on which
    /// they differ. The trainer has ended.
    Compare,
}

impl Stage {
    /// Phase I of a model.
    pub fn phase1(model: ModelIndex) -> Self {
        match model {
            ModelIndex::First => Stage::Phase1Model1,
            ModelIndex::Second => Stage::Phase1Model2,
        }
    }

    /// Phase II of a model.
    pub fn phase2(model: ModelIndex) -> Self {
        match model {
            ModelIndex::First => Stage::Phase2Model1,
            ModelIndex::Second => Stage::Phase2Model2,
        }
    }

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
            Stage::Compare => "compare",
        }
    }
}

/// What kind of failure has ended a round; users read the message beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The spec cannot be read, is of another version, or asks for what is not there.
    BadSpec,
    /// The checkpoint cannot be used, or class names or templates do not fit it.
    BadModel,
    /// The images of the pool cannot be used.
    BadImages,
    /// No image is a seed: there is nothing to learn from.
    NoSeeds,
    /// The loss of a training step is not a finite number.
    NonFinite,
    /// The memory does not suffice for the smallest part that a batch can be computed in.
    OutOfMemory,
    /// A disk that the round writes to is full.
    DiskFull,
    /// The round was asked to stop, or its trainer was stopped from outside.
    Cancelled,
    /// Anything else: a panic, a file that cannot be written, a trainer that was killed.
    Internal,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_their_wording() {
        let failed = Event::Failed(Failure::new(FailureKind::DiskFull, "m", "h"));
        let line = serde_json::to_string(&failed).unwrap();
        assert_eq!(line, r#"{"type":"failed","kind":"disk-full","message":"m","hint":"h"}"#);
        let line = r#"{"type":"progress","stage":"phase1-model2","iteration":1,"fraction":0.5,"images-done":1,"images-total":2,"images-per-second":3.0,"remaining-seconds":null,"training":{"epoch":2,"step":3,"steps":4,"losses":{"total":0.5}}}"#;
        let Event::Progress(progress) = serde_json::from_str(line).unwrap() else { panic!("not progress") };
        assert_eq!(progress.stage, Stage::Phase1Model2);
        assert_eq!(serde_json::to_string(&Event::Progress(progress)).unwrap(), line);
    }

    #[test]
    fn stages_are_written_alike_everywhere() {
        for stage in [Stage::Load, Stage::Phase1Model1, Stage::Phase2Model2, Stage::Export, Stage::Compare] {
            assert_eq!(serde_json::to_value(stage).unwrap(), stage.as_str());
        }
    }
}
