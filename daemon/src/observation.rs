//! The service's answer about a picture of a source, the answer of a later generation, and a filter for such answers.

use coft_core::ids::{GenerationId, ImageId};
use std::path::PathBuf;

/// The answer about a picture of a source.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// Number of the answer among those of the source, from 1, without gaps.
    pub sequence: u64,
    pub image: ImageId,
    /// The file that contained the picture.
    pub path: PathBuf,
    /// The most probable labels with their probabilities, best first.
    pub labels: Vec<(String, f64)>,
    /// When the picture arrived, Unix time, s.
    pub time: i64,
    pub classifier: String,
    pub generation: GenerationId,
    /// Difference between the two highest probabilities.
    pub margin: f64,
    pub doubtful: bool,
    /// Whether the picture looks like none of the classes; `None` where the configuration does not ask for it.
    pub none_of_these: Option<bool>,
    /// The class that results from the user's decision thresholds, where some are set.
    pub decision: Option<String>,
    /// The answer of the generation that serves, if another generation gave the first answer and the picture was
    /// classified again.
    pub later: Option<(GenerationId, Said)>,
}

/// A generation's answer about a picture: the label that counts, and its probability, which is absent for "none of the
/// classes".
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    pub label: String,
    pub probability: Option<f64>,
}

/// The differences between two generations on the pictures that both have classified.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationDiff {
    pub compared: u64,
    /// Number of pictures to which the newer generation gives another label.
    pub changed: u64,
    /// Number of pictures that the newer generation has not classified yet.
    pub waiting: u64,
    /// Old label, new label and number of pictures, most frequent first.
    pub moves: Vec<(String, String, u64)>,
    /// Pictures with another label. Those where both generations are most certain come first.
    pub changes: Vec<Difference>,
    /// Pictures where the newer generation is least certain; those come first.
    pub unsure: Vec<Difference>,
}

/// The answers of two generations about a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    pub source: PathBuf,
    pub image: ImageId,
    /// The file that contained the picture.
    pub path: PathBuf,
    /// When the picture arrived, Unix time, s.
    pub time: i64,
    pub old: Said,
    pub new: Said,
    /// Difference between the newer generation's two highest probabilities.
    pub margin: f64,
}

/// Selects answers that meet all given conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservationFilter {
    /// The label that counts: the decision, else the most probable label, or none of the classes.
    pub label: Option<String>,
    pub doubtful: Option<bool>,
    /// Pictures that arrived at this Unix time or later, s.
    pub since: Option<i64>,
    /// Answers with a smaller sequence number.
    pub before: Option<u64>,
    pub generation: Option<u64>,
    pub classifier: Option<String>,
    /// Whether the generation that serves gives another answer.
    pub changed: Option<bool>,
}
