//! The results of the commands as plain data. Each is a JSON document with `--json`, and a table without.
//!
//! The field names are part of the interface, because scripts read them. This module knows neither the bus nor the
//! terminal.

use coft_core::ids::JobId;
use coft_core::job::{JobKind, JobName, JobState, Trigger};
use coft_core::shown::shown_path;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

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

/// A possible problem of class names.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Advice {
    /// Line of the file, from 1; `None` if it concerns the whole file or there is no file.
    pub line: Option<u64>,
    pub class: Option<String>,
    pub advice: String,
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
    pub parity_max_abs_diff: f64,
    pub report: Value,
}

/// The state of a review.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Review {
    /// `asking`, `candidate`, `present` or `no-difference`.
    pub state: String,
    /// The round that could not decide.
    pub round: u64,
    pub candidate: u64,
    /// The active generation.
    pub present: u64,
    /// Share of the compared pictures on which the two differ, 0 to 1.
    pub differs: f64,
    pub compared: u64,
    pub answered: u64,
    pub most: u64,
    /// Empty where no share is known yet.
    pub shares: Vec<Share>,
    /// The job that activates the candidate.
    pub activation: Option<u64>,
}

impl Review {
    pub fn is_asking(&self) -> bool {
        self.state == "asking"
    }
}

/// The share of a class among the compared pictures, with a 95 % interval; 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Share {
    pub class: String,
    pub share: f64,
    pub low: f64,
    pub high: f64,
}

/// The output of `review`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Asked {
    pub review: Option<Review>,
    /// The pictures that a person is asked about and whose files exist. The first one is to be answered first.
    pub items: Vec<ReviewItem>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReviewItem {
    pub image: String,
    /// Escaped as in [`coft_core::shown`].
    pub path: String,
    /// The answer of the active generation.
    pub present: String,
    pub candidate: String,
}

/// The output of `generation activate` where nothing was to be done: the fields of a job, without a job.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unchanged {
    pub round: Option<u64>,
    pub state: &'static str,
    pub result: Outcome,
}

/// The output of `export`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Exported {
    pub generation: u64,
    pub directory: String,
}

/// One line of `classify`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Classified {
    /// The name as it was given on the command line.
    pub file: String,
    /// Whether the name is not UTF-8, which JSON cannot hold; then `file` is escaped as in [`coft_core::shown`].
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

/// A file name in a form that JSON can hold.
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
    /// The class that is decided for by the service's thresholds, if some are configured.
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

/// An error for scripts: `name` is the last part of the D-Bus error name, or `Unreadable` for a file that this program
/// could not open.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Problem {
    pub name: String,
    pub message: String,
}

/// A picture from a source, and its answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Observed {
    /// Its number among the answers of the source, without gaps.
    pub sequence: u64,
    /// Directory of the source.
    pub source: String,
    /// SHA-256 of the file.
    pub image: String,
    /// Path of the file, for users who may see it.
    pub path: Option<String>,
    /// When the picture came, Unix time, s.
    pub time: i64,
    pub classifier: String,
    pub generation: u64,
    /// Its label: `none-of-these`, or the decision, or the most likely class.
    pub label: String,
    /// The most likely labels, best first.
    pub labels: Vec<Label>,
    pub margin: f64,
    pub doubtful: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub none_of_these: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// The answer of the active generation, if another one answered first and the active one has answered again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub later: Option<Later>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Later {
    pub generation: u64,
    pub label: String,
    /// `None` for "none of the classes".
    pub score: Option<f64>,
}

/// The output of `generation diff`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GenerationDiff {
    pub old: u64,
    pub new: u64,
    /// Number of pictures that both have answered, and of those for which the newer one gives another label.
    pub compared: u64,
    pub changed: u64,
    /// Number of pictures that the newer one has not answered again yet.
    pub waiting: u64,
    /// The most frequent first.
    pub moves: Vec<Move>,
    /// Pictures with another label; those for which both generations are most confident come first.
    pub changes: Vec<Difference>,
    /// Pictures for which the newer generation is least confident; these come first.
    pub unsure: Vec<Difference>,
}

/// The number of pictures whose label changed from one to another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Move {
    pub from: String,
    pub to: String,
    pub count: u64,
}

/// The answers of two generations for a picture. "None of the classes" has no score.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// SHA-256 of the file.
    pub image: String,
    /// Directory of the source.
    pub source: String,
    /// Path of the file, for users who may see it.
    pub path: Option<String>,
    /// When the picture came, Unix time, s.
    pub time: i64,
    pub old_label: String,
    pub old_score: Option<f64>,
    pub new_label: String,
    pub new_score: Option<f64>,
    /// Difference between the largest and the second largest probability of the newer generation.
    pub margin: f64,
}

/// The number of pictures with a label in an hour; a line of `results --summary`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HourCount {
    /// Beginning of the hour, Unix time, s.
    pub hour: i64,
    pub label: String,
    pub count: u64,
}

/// The output of `reload`: the settings that have changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reloaded {
    pub changed: Vec<String>,
}

/// The output of `config check`, as `coftd --check` prints it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigReport {
    pub file: String,
    pub findings: Vec<ConfigFinding>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigFinding {
    /// The configuration file, or the file of a classifier.
    pub file: String,
    /// `warning` or `error`.
    pub severity: String,
    /// Line of the file, from 1.
    pub line: Option<u64>,
    pub key: Option<String>,
    pub message: String,
}

/// The output of `doctor`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diagnosis {
    pub checks: Vec<Check>,
    pub errors: usize,
    pub warnings: usize,
}

/// One line of the diagnosis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was checked.
    pub check: String,
    /// `ok`, `warning` or `error`.
    pub level: String,
    pub found: String,
    /// What to type; empty if nothing has to be done.
    pub advice: String,
}

/// The number of a job: the output of `round start` without `--wait`, and of `job cancel`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Named {
    pub round: u64,
}

/// A pretrained model, in the store or in a directory.
#[derive(Clone, Debug, Serialize)]
pub struct Model {
    pub names: Vec<String>,
    /// SHA-256 over its files; `None` outside the store.
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
    /// The preprocessing in the form of `preprocessor_config.json`.
    pub preprocessing: serde_json::Value,
    /// SHA-256 of the pickles that the weights were converted from, by file name; empty if there were none.
    pub converted_from: BTreeMap<String, String>,
}

/// A model of the store in the list.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Listed {
    Usable(Box<Model>),
    Unusable(Unusable),
}

/// A model of the store that cannot be used as it is.
#[derive(Clone, Debug, Serialize)]
pub struct Unusable {
    pub names: Vec<String>,
    pub digest: String,
    pub source: String,
    pub size_bytes: u64,
    /// Why, and what to do.
    pub problem: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct Verified {
    pub names: Vec<String>,
    pub digest: String,
    /// `None` if every file is unchanged.
    pub problem: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Removed {
    pub names: Vec<String>,
    pub digest: String,
    pub size_bytes: u64,
}
