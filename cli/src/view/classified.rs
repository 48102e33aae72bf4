//! Images of the command line and what they show.

use coft_core::shown::shown_path;
use serde::Serialize;
use std::path::Path;

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
