//! What the service says of a picture that a source has brought, what a later generation says of it, and which of these
//! answers are asked for.

use coft_core::ids::{GenerationId, ImageId};
use std::path::PathBuf;

/// The answer about a picture that a source has brought.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// Of the answers of the source, from 1, without gaps.
    pub sequence: u64,
    pub image: ImageId,
    /// The file that came.
    pub path: PathBuf,
    /// The likeliest labels with their probabilities, best first.
    pub labels: Vec<(String, f64)>,
    /// When the picture came, Unix time, s.
    pub time: i64,
    pub classifier: String,
    pub generation: GenerationId,
    /// How much likelier the likeliest label is than the next one.
    pub margin: f64,
    pub doubtful: bool,
    /// Whether it looks like none of the classes, where that is asked for.
    pub none_of_these: Option<bool>,
    /// The class that the user's thresholds decide for, where there are some.
    pub decision: Option<String>,
    /// What the generation that serves says, where another one has answered and it has answered again.
    pub later: Option<(GenerationId, Said)>,
}

/// What a generation says of a picture: the label that counts, and its probability; none of the classes has none.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    pub label: String,
    pub probability: Option<f64>,
}

/// Where two generations differ on the pictures that both have answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationDiff {
    pub compared: u64,
    /// Pictures to which the newer one gives another label.
    pub changed: u64,
    /// Pictures that the newer one is yet to answer again.
    pub waiting: u64,
    /// From which label to which, and how many; the most first.
    pub moves: Vec<(String, String, u64)>,
    /// Pictures with another label, those first of which both generations are surest.
    pub changes: Vec<Difference>,
    /// Pictures of which the newer one is least sure, those first.
    pub unsure: Vec<Difference>,
}

/// What two generations say of a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    pub source: PathBuf,
    pub image: ImageId,
    /// The file that came.
    pub path: PathBuf,
    /// When it came, Unix time, s.
    pub time: i64,
    pub old: Said,
    pub new: Said,
    /// How much likelier the newer generation takes the likeliest label to be than the next one.
    pub margin: f64,
}

/// Which answers are meant: those of which all that is given holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservationFilter {
    /// The label that counts: the decision, or the likeliest, or none of these.
    pub label: Option<String>,
    pub doubtful: Option<bool>,
    /// The picture came then or later, Unix time, s.
    pub since: Option<i64>,
    /// A sequence number that is larger.
    pub before: Option<u64>,
    pub generation: Option<u64>,
    pub classifier: Option<String>,
    /// Whether the generation that serves says otherwise.
    pub changed: Option<bool>,
}
