//! Pictures of the sources and what they show, by one generation or by two.

use super::Label;
use serde::Serialize;

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
