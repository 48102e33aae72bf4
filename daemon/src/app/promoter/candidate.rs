//! What becomes of a candidate: it is promoted, kept as a refused one, or belongs to another service.

use super::Contender;
use crate::model::Base;
use crate::review::Review;
use crate::serve::Ready;
use crate::store::Staged;
use coft_core::ids::{GenerationId, JobId};
use coft_core::manifest::Manifest;
use coft_vision::Preprocess;
use std::collections::BTreeSet;

#[derive(Debug)]
pub enum PromotionOutcome {
    Promote(Box<Promotion>),
    /// The active generation stays.
    Keep {
        reason: String,
        /// The candidate, if a person may activate it all the same.
        candidate: Option<Box<RefusedCandidate>>,
    },
}

/// A candidate that a rule has refused.
#[derive(Debug)]
pub struct RefusedCandidate {
    pub(super) staged: Staged,
    pub(super) parity_max_abs_diff: f64,
    pub(super) imported_by: Option<JobId>,
    /// Whether the rule could not decide if the candidate is better than the generation that serves.
    pub(super) undecided: bool,
    /// The review about the candidate, which opens once the candidate is kept; or why nobody can be asked. None if the
    /// rule could decide.
    pub review: Option<Result<Review, String>>,
}

impl RefusedCandidate {
    /// The candidate for a closer look, if the rule could not decide whether it is better than the generation that
    /// serves.
    pub fn contender(&self) -> Option<Contender> {
        let Staged { id, dir, manifest, .. } = &self.staged;
        self.undecided.then(|| Contender { id: *id, dir: dir.clone(), classes: manifest.classes.clone() })
    }
}

#[derive(Debug)]
pub struct Promotion {
    pub(super) candidate: Candidate,
    pub(super) ready: Ready,
}

#[derive(Debug)]
pub(super) enum Candidate {
    Staged {
        staged: Box<Staged>,
        imported_by: Option<JobId>,
    },
    /// A generation of the store that a job activates again.
    Kept {
        id: GenerationId,
        job: JobId,
    },
}

/// What a generation was made for that this service does not have, in words for the message; none if it fits.
pub(super) fn foreign(manifest: &Manifest, base: &Base) -> Option<&'static str> {
    let preprocess = Preprocess::from_json(&manifest.preprocessing);
    if manifest.classes != base.classes {
        let is_order = manifest.classes.iter().collect::<BTreeSet<_>>() == base.classes.iter().collect();
        Some(if is_order { "another order of the classes" } else { "other classes" })
    } else if manifest.base_model != base.digest {
        Some("other pretrained weights")
    } else if !preprocess.is_ok_and(|preprocess| preprocess == *base.served()) {
        Some("other image sizes")
    } else {
        None
    }
}
