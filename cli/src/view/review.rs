//! Reviews: the questions to a person about two generations.

use serde::Serialize;

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

/// A part of a picture: its distance from the left and from the top, its width and its height, as shares of the
/// picture's width and height.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Crop {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
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
    /// The part of the picture that is asked about, if it is not the whole picture.
    pub crop: Option<Crop>,
    /// The answer of the active generation.
    pub present: String,
    pub candidate: String,
}
