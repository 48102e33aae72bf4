//! Which images of a round look nearly the same as another one: the trainer finds them, so that the daemon does not ask
//! a person about the same scene twice.

use crate::ids::ImageId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// File beside the candidate directory of CoFT and CoFT+, with the [`NearDuplicates`] of the round as JSON.
pub fn file(candidate_dir: &Path) -> PathBuf {
    candidate_dir.with_file_name("near-duplicates.json")
}

/// For each image that a round leaves out, the image that stands for it. An image that stands for others stands for
/// itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NearDuplicates(pub BTreeMap<ImageId, ImageId>);

impl NearDuplicates {
    /// The image that stands for this one: itself, unless it was left out.
    pub fn standing_for<'a>(&'a self, image: &'a ImageId) -> &'a ImageId {
        self.0.get(image).unwrap_or(image)
    }
}
