//! What the verbs print, as plain data: each of these is a JSON document with `--json` and a table without.
//!
//! The field names are part of the interface: scripts read them. Knows neither the bus nor the terminal.

use coft_core::job::{JobState, Trigger};
use coft_core::shown::shown_path;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    pub version: String,
    /// Why classifiers that are configured are not there.
    pub left_out: Vec<String>,
    pub classifier: String,
    /// The other classifiers of the service.
    pub others: Vec<String>,
    pub classes: Vec<String>,
    /// None until a first round has ended.
    pub active_generation: Option<u64>,
    pub images: u64,
    pub quarantined: u64,
    /// What the service waits for before it is set up as configured.
    pub setup_problem: Option<String>,
    /// Why images cannot be stored now.
    pub intake_problem: Option<String>,
    /// Why the active generation does not serve.
    pub serving_problem: Option<String>,
    /// Execution provider that serves.
    pub provider: String,
    /// Why a provider that was to come before it does not run the model.
    pub provider_problem: Option<String>,
    /// Why no round can start now.
    pub round_problem: Option<String>,
    /// The round that runs.
    pub round: Option<u64>,
    /// The latest round: that one, or how the last one ended.
    pub last_round: Option<Round>,
    pub next_round: NextRound,
    /// What a person is asked, or was asked last while the same generation has served.
    pub review: Option<Review>,
    /// Pictures that earlier generations have answered, and the active one is yet to answer again.
    pub unanswered_again: u64,
    pub sources: Vec<Source>,
}

/// What may be wrong with the names of classes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Advice {
    /// Line of the file, from 1; none where it is about the file as a whole, or there is no file.
    pub line: Option<u64>,
    pub class: Option<String>,
    pub advice: String,
}

/// A classifier that was made or changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Changed {
    pub classifier: String,
}

/// A classifier among the others.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassifierLine {
    pub classifier: String,
    pub classes: Vec<String>,
    /// None until a first round has ended.
    pub active_generation: Option<u64>,
    pub images: u64,
    /// The round that runs.
    pub round: Option<u64>,
    /// Names of its sources.
    pub sources: Vec<String>,
    /// What it waits for, or what does not work.
    pub problem: Option<String>,
}

/// When a round starts by itself, unless one runs; without either field rounds start by hand alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NextRound {
    /// So many more images have to come first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<u64>,
    /// Unix time, s; 0 where it starts as soon as none runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<i64>,
    /// The classifier whose job has to end first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Source {
    /// The classifier that answers its pictures and learns from them.
    pub classifier: String,
    /// Its name, or its path where it has none.
    pub name: String,
    pub path: String,
    pub images: u64,
    pub quarantined: u64,
    /// Why the directory cannot be watched now.
    pub problem: Option<String>,
    /// What its latest pictures show together, and since when, Unix time, s; none where its pictures are not answered.
    pub state: Option<String>,
    pub state_since: Option<i64>,
    /// Files that wait to be looked at.
    pub waiting_files: u64,
    /// Pictures that wait for their answer, and why they are not answered now.
    pub unanswered: u64,
    pub answers_problem: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Round {
    pub round: u64,
    pub trigger: Trigger,
    pub state: JobState,
    pub stage: String,
    /// Share of the round that is done, 0 to 1.
    pub fraction: f64,
    pub images_done: u64,
    pub images_total: u64,
    pub images_per_second: f64,
    pub remaining_seconds: Option<f64>,
    /// Unix time, s.
    pub started: i64,
    pub ended: Option<i64>,
    /// Measured by a clock that nobody sets: not what lies between `started` and `ended` where the wall clock was set.
    pub took_seconds: Option<f64>,
    /// The round that it takes up, which did not come to its end.
    pub continues: Option<u64>,
    pub images: u64,
    pub result: Outcome,
    pub warnings: Vec<String>,
}

impl Round {
    pub fn is_running(&self) -> bool {
        self.state == JobState::Running
    }
}

/// What a round came to; which fields are there depends on its state.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Outcome {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Why the candidate was not taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The generation that the candidate is kept as, while it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidate: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Generation {
    pub generation: u64,
    pub round: u64,
    pub method: String,
    /// Unix time, s.
    pub created: i64,
    /// What was active before this one became so, the last time it did.
    pub replaces: Option<u64>,
    pub active: bool,
    /// Why the rules have not let it serve; none where it has been active.
    pub refused: Option<String>,
    pub images: u64,
    pub parity_max_abs_diff: f64,
    pub report: Value,
}

/// How it stands with the pictures that a person is asked about.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Review {
    /// `asking`, `candidate`, `present` or `no-difference`.
    pub state: String,
    /// The round that could not decide.
    pub round: u64,
    pub candidate: u64,
    /// The generation that serves.
    pub present: u64,
    /// Share of the compared pictures on which the two differ, 0 to 1.
    pub differs: f64,
    pub compared: u64,
    pub answered: u64,
    pub most: u64,
    /// Empty where nothing is known yet.
    pub shares: Vec<Share>,
    /// The round that lets the candidate serve.
    pub activation: Option<u64>,
}

impl Review {
    pub fn is_asking(&self) -> bool {
        self.state == "asking"
    }
}

/// The share of a class among the compared pictures, with an interval of 95 %; 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Share {
    pub class: String,
    pub share: f64,
    pub low: f64,
    pub high: f64,
}

/// What `review` answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Asked {
    pub review: Option<Review>,
    /// The pictures that are asked about, of which a file is there; the first is to be answered first.
    pub items: Vec<ReviewItem>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReviewItem {
    pub image: String,
    /// Escaped as [`coft_core::shown`] does it.
    pub path: String,
    /// The class that the generation which serves gives it.
    pub present: String,
    pub candidate: String,
}

/// What `generation activate` answers where nothing had to be done: a round's fields, without a round.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unchanged {
    pub round: Option<u64>,
    pub state: &'static str,
    pub result: Outcome,
}

/// What `export` has written.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Exported {
    pub generation: u64,
    pub directory: String,
}

/// One line of `classify`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Classified {
    /// The name as it was given.
    pub file: String,
    /// The name is not UTF-8, which JSON cannot hold; `file` is escaped as [`coft_core::shown`] does it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub file_escaped: bool,
    #[serde(flatten)]
    pub answer: Answer,
}

impl Classified {
    pub fn new(path: &Path, answer: Answer) -> Self {
        Self { file: file_name(path), file_escaped: path.to_str().is_none(), answer }
    }
}

/// A file's name as JSON can hold it.
pub fn file_name(path: &Path) -> String {
    path.to_str().map_or_else(|| shown_path(path).into_owned(), str::to_owned)
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    Labels(Labels),
    Error { error: Problem },
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Labels {
    pub labels: Vec<Label>,
    pub none_of_these: bool,
    /// The class that the service's thresholds decide for, where some are configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding: Option<Vec<f64>>,
    pub generation: u64,
    pub queue_seconds: f64,
    pub decode_seconds: f64,
    pub inference_seconds: f64,
    pub provider: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Label {
    pub label: String,
    pub score: f64,
}

/// An error as scripts see it: `name` is the last part of the D-Bus error name, or `Unreadable` for a file that could
/// not be opened here.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Problem {
    pub name: String,
    pub message: String,
}

/// A picture that a source has brought, and what it shows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Observed {
    /// Its number among the answers of the source, without gaps.
    pub sequence: u64,
    /// Directory of the source.
    pub source: String,
    /// SHA-256 of the file.
    pub image: String,
    /// The file that came, for those who may see it.
    pub path: Option<String>,
    /// When it came, Unix time, s.
    pub time: i64,
    pub classifier: String,
    pub generation: u64,
    /// The label that counts: `none-of-these`, or the decision, or the likeliest.
    pub label: String,
    /// The likeliest labels, best first.
    pub labels: Vec<Label>,
    pub margin: f64,
    pub doubtful: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub none_of_these: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// What the active generation says, where another one has answered and it has answered again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub later: Option<Later>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Later {
    pub generation: u64,
    pub label: String,
    /// None of the classes has none.
    pub score: Option<f64>,
}

/// What `generation diff` answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GenerationDiff {
    pub old: u64,
    pub new: u64,
    /// Pictures that both have answered, and those to which the newer one gives another label.
    pub compared: u64,
    pub changed: u64,
    /// Pictures that the newer one is yet to answer again.
    pub waiting: u64,
    /// The most first.
    pub moves: Vec<Move>,
    /// Pictures with another label, those first of which both generations are surest.
    pub changes: Vec<Difference>,
    /// Pictures of which the newer generation is least sure, those first.
    pub unsure: Vec<Difference>,
}

/// Pictures that go from a label to another one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Move {
    pub from: String,
    pub to: String,
    pub count: u64,
}

/// What two generations say of a picture; none of the classes has no score.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// SHA-256 of the file.
    pub image: String,
    /// Directory of the source.
    pub source: String,
    /// The file that came, for those who may see it.
    pub path: Option<String>,
    /// When it came, Unix time, s.
    pub time: i64,
    pub old_label: String,
    pub old_score: Option<f64>,
    pub new_label: String,
    pub new_score: Option<f64>,
    /// How much likelier the newer generation takes its likeliest label to be than the next one.
    pub margin: f64,
}

/// How many pictures of an hour have a label; a line of `results --summary`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HourCount {
    /// Beginning of the hour, Unix time, s.
    pub hour: i64,
    pub label: String,
    pub count: u64,
}

/// What `reload` answers: the settings that are used otherwise from now on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reloaded {
    pub changed: Vec<String>,
}

/// What `config check` answers, as `coftd --check` says it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigReport {
    pub file: String,
    pub findings: Vec<ConfigFinding>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigFinding {
    /// The configuration file, or that of a classifier.
    pub file: String,
    /// `warning` or `error`.
    pub severity: String,
    /// Line of the file, from 1.
    pub line: Option<u64>,
    pub key: Option<String>,
    pub message: String,
}

/// What `doctor` answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diagnosis {
    pub checks: Vec<Check>,
    pub errors: usize,
    pub warnings: usize,
}

/// One line of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub check: String,
    /// `ok`, `warning` or `error`.
    pub level: String,
    pub found: String,
    /// What to type; empty where nothing is to be done.
    pub advice: String,
}

/// A round by its number: what `round start` without `--wait` and `round cancel` answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Named {
    pub round: u64,
}

/// A pretrained model, in the store or in a directory.
#[derive(Clone, Debug, Serialize)]
pub struct Model {
    pub names: Vec<String>,
    /// SHA-256 over its files; none outside the store.
    pub digest: Option<String>,
    pub source: Option<String>,
    pub weights_sha256: String,
    pub directory: String,
    pub layout: String,
    pub size_bytes: u64,
    pub parameters: u64,
    pub image_encoder_parameters: u64,
    pub image_size: u64,
    pub patch_size: u64,
    pub image_layers: u64,
    pub image_width: u64,
    pub text_layers: u64,
    pub text_width: u64,
    pub text_window: u64,
    pub embedding: u64,
    pub activation: String,
    /// As `preprocessor_config.json` states it.
    pub preprocessing: serde_json::Value,
}

#[derive(Clone, Debug, Serialize)]
pub struct Verified {
    pub names: Vec<String>,
    pub digest: String,
    /// None where every file is as it came.
    pub problem: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Removed {
    pub names: Vec<String>,
    pub digest: String,
    pub size_bytes: u64,
}
