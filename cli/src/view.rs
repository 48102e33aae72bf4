//! The results of the commands as plain data. Each is a JSON document with `--json`, and a table without.
//!
//! The field names are part of the interface, because scripts read them. This module knows neither the bus nor the
//! terminal.

mod classified;
mod findings;
mod job;
mod model;
mod observed;
mod review;

pub use classified::{Answer, Classified, Label, Labels, Problem, file_name};
pub use findings::{Advice, Check, ConfigFinding, ConfigReport, Diagnosis};
pub use job::{Job, Named, NextRound, Outcome, Unchanged};
pub use model::{Listed, Model, Removed, Unusable, Verified};
pub use observed::{Difference, GenerationDiff, HourCount, Later, Move, Observed};
pub use review::{Asked, Crop, Review, ReviewItem, Share};

use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    pub version: String,
    /// Why some configured classifiers are missing.
    pub left_out: Vec<String>,
    pub classifier: String,
    /// The other classifiers of the service.
    pub others: Vec<String>,
    pub classes: Vec<String>,
    /// `None` until the first generation is active.
    pub active_generation: Option<u64>,
    pub images: u64,
    pub quarantined: u64,
    /// What is missing before the service is set up as configured.
    pub setup_problem: Option<String>,
    /// Why images cannot be stored now.
    pub intake_problem: Option<String>,
    /// Why the active generation does not serve.
    pub serving_problem: Option<String>,
    /// Execution provider that runs the model.
    pub provider: String,
    /// Why a preferred provider does not run the model.
    pub provider_problem: Option<String>,
    /// Why no round can start now.
    pub round_problem: Option<String>,
    /// The running job.
    pub round: Option<u64>,
    /// The latest job: the running one, or the last one that ended.
    pub last_round: Option<Job>,
    pub next_round: NextRound,
    /// The current review, or the last one while the same generation has been active.
    pub review: Option<Review>,
    /// Number of pictures with an answer of an earlier generation, which the active one has not answered again yet.
    pub unanswered_again: u64,
    pub sources: Vec<Source>,
}

/// A classifier that was created or changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Changed {
    pub classifier: String,
}

/// A classifier in a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassifierLine {
    pub classifier: String,
    pub classes: Vec<String>,
    /// `None` until the first generation is active.
    pub active_generation: Option<u64>,
    pub images: u64,
    /// The running job.
    pub round: Option<u64>,
    /// Names of its sources.
    pub sources: Vec<String>,
    /// What it waits for, or what does not work.
    pub problem: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Source {
    /// The classifier that answers its pictures and is trained on them.
    pub classifier: String,
    /// Its name, or its path if it has no name.
    pub name: String,
    pub path: String,
    pub images: u64,
    pub quarantined: u64,
    /// Why the directory cannot be watched now.
    pub problem: Option<String>,
    /// The state that its latest pictures show, and since when, Unix time, s; `None` where its pictures are not
    /// answered.
    pub state: Option<String>,
    pub state_since: Option<i64>,
    /// Number of files that wait to be read.
    pub waiting_files: u64,
    /// Number of pictures that wait for their answer, and why they are not answered now.
    pub unanswered: u64,
    pub answers_problem: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Generation {
    pub generation: u64,
    /// The job that made or imported it.
    pub round: u64,
    pub method: String,
    /// Unix time, s.
    pub created: i64,
    /// The active generation before this one, the last time that this one was activated.
    pub replaces: Option<u64>,
    pub active: bool,
    /// Why the rules have refused it; `None` if it has been active.
    pub refused: Option<String>,
    pub images: u64,
    /// Share of each class that the setting `shares` had when it was made; empty if none were set.
    pub shares: BTreeMap<String, f64>,
    pub parity_max_abs_diff: f64,
    pub report: Value,
}

/// The output of `generation show`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GenerationDetails {
    #[serde(flatten)]
    pub generation: Generation,
    /// What it has answered about the latest pictures, the most frequent label first; `None` if that is not known now.
    pub answers: Option<Vec<LabelCount>>,
}

/// How often a generation has given a label to the latest pictures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LabelCount {
    pub label: String,
    pub pictures: u64,
    /// Those of the pictures that the user has labelled, and those that the user has given this label.
    pub labelled: u64,
    pub right: u64,
}

/// The output of `export`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Exported {
    pub generation: u64,
    pub directory: String,
}

/// The output of `reload`: the settings that have changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reloaded {
    pub changed: Vec<String>,
}
