//! Reviews: pictures that a person labels because nothing else shows which of two models is better. Two files of the
//! state directory hold the pictures and the labels.
//!
//! `review.json` holds the pictures of the open review, or of the last one; `labels.csv` holds every answer that was
//! ever given. The answers to a review are those in `labels.csv` about its pictures. So each answer replaces one file
//! at once, and the outcome is computed anew from both files. This module knows neither the generations nor where the
//! pictures are.

mod labels;

use crate::control::ReviewStatus;
use crate::user_labels;
use coft_core::ids::{ClassId, GenerationId, ImageId, JobId};
use coft_core::near_duplicates::NearDuplicates;
use coft_core::review::{self, Difference, State};
use coft_core::shown::shown_path;
use coft_core::text;
use labels::{Label, Labels};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use thiserror::Error;
use tracing::warn;

/// Maximum number of pictures of the pool that both models are run on. 2000 [choice]: this gives the share of pictures
/// that differ to within 2 percentage points.
pub const COMPARED: usize = 2000;

const FILE: &str = "review.json";
/// Version of the format of `review.json`.
const FORMAT: u32 = 1;

/// The pictures that a person is asked about, and the two generations that are compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Review {
    format: u32,
    /// The round that could not decide.
    pub round: JobId,
    pub candidate: GenerationId,
    /// The generation that serves.
    pub present: GenerationId,
    /// The classes of both generations.
    classes: Vec<String>,
    /// By class: the number of compared pictures to which both generations give this class.
    agreed: Vec<u64>,
    /// The pictures on which they differ, in the order in which they are asked about; one of near-duplicates.
    items: Vec<Item>,
}

/// A picture that is asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Item {
    image: ImageId,
    present: ClassId,
    candidate: ClassId,
    /// Number of pictures on which the models differ that look like this one, itself among them. Missing in reviews of
    /// earlier versions, which asked about each; 1 then.
    #[serde(default = "one")]
    pictures: u64,
}

fn one() -> u64 {
    1
}

/// A picture that is asked about, with the names of the classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub image: ImageId,
    pub present: String,
    pub candidate: String,
}

/// Why an answer is not stored or not taken back.
#[derive(Debug, Error)]
pub enum AnswerError {
    #[error("nothing is asked: no round is undecided")]
    NoReview,
    #[error("the review is closed: it was decided for the candidate, generation {0}")]
    Decided(GenerationId),
    #[error("the review is closed: generation {0} stays; take the last label back to go on with it")]
    Closed(GenerationId),
    #[error("{0}")]
    Invalid(String),
    #[error("the answer cannot be written down: {}: {cause}", shown_path(path))]
    Write { path: PathBuf, cause: io::Error },
}

/// Access to the review and the labels; clones share them. Every method that writes waits for the disk.
#[derive(Clone)]
pub struct Reviews {
    dir: PathBuf,
    state: Arc<Mutex<Files>>,
}

struct Files {
    review: Option<Review>,
    labels: Labels,
}

impl Review {
    /// A review of the pictures that were compared. `compared` has the pictures in the order in which they were drawn,
    /// each with the class from the present model and the class from the candidate. Of near-duplicates on which the
    /// models differ, the first is asked about; its answers count.
    pub fn new(
        round: JobId,
        [present, candidate]: [GenerationId; 2],
        classes: Vec<String>,
        compared: impl IntoIterator<Item = (ImageId, Difference)>,
        near_duplicates: &NearDuplicates,
    ) -> Self {
        let (mut agreed, mut items) = (vec![0; classes.len()], Vec::<Item>::new());
        let mut asked: HashMap<ImageId, usize> = HashMap::new();
        for (image, Difference { present, candidate }) in compared {
            if present == candidate {
                agreed[present.0 as usize] += 1;
                continue;
            }
            match asked.entry(near_duplicates.standing_for(&image).clone()) {
                Entry::Occupied(place) => items[*place.get()].pictures += 1,
                Entry::Vacant(place) => {
                    place.insert(items.len());
                    items.push(Item { image, present, candidate, pictures: 1 });
                }
            }
        }
        Self { format: FORMAT, round, candidate, present, classes, agreed, items }
    }

    /// Number of pictures that can be asked about: those on which the models differ, one of near-duplicates.
    pub fn scenes(&self) -> u64 {
        self.items.len() as u64
    }

    /// Why the review is invalid: it is of another version or contradicts itself.
    fn fault(&self) -> Option<&'static str> {
        let classes = self.classes.len();
        let is_class = |class: ClassId| (class.0 as usize) < classes;
        let counts = || self.agreed.iter().chain(self.items.iter().map(|item| &item.pictures));
        let compared = counts().fold(0, |sum: u64, &count| sum.saturating_add(count));
        let images: HashSet<&ImageId> = self.items.iter().map(|item| &item.image).collect();
        if self.format != FORMAT {
            Some("it is of another version")
        } else if self.agreed.len() != classes
            || images.len() != self.items.len()
            || compared > COMPARED as u64
            || self.items.iter().any(|item| item.pictures == 0)
        {
            Some("its counts contradict each other")
        } else if self
            .items
            .iter()
            .any(|Item { present, candidate, .. }| !is_class(*present) || !is_class(*candidate) || present == candidate)
        {
            Some("it has a picture on which the models do not differ")
        } else {
            None
        }
    }

    fn class(&self, name: &str) -> Option<ClassId> {
        self.classes.iter().position(|known| known == name).map(|at| ClassId(at as u32))
    }

    /// The answers to the review, in the order in which they were given: the picture and its label.
    fn answers<'l>(&self, labels: &'l [Label]) -> Vec<(&Item, &'l Label)> {
        let items: HashMap<&ImageId, &Item> = self.items.iter().map(|item| (&item.image, item)).collect();
        labels.iter().filter_map(|label| Some((*items.get(&label.image)?, label))).collect()
    }

    fn status(&self, labels: &[Label]) -> ReviewStatus {
        let answers = self.answers(labels);
        // A class that is not one of the review's counts for neither model.
        let class = |label: &Label| Some(self.class(label.class.as_deref()?).unwrap_or(ClassId(u32::MAX)));
        let labelled: Vec<(&Item, ClassId)> =
            answers.iter().filter_map(|&(item, label)| Some((item, class(label)?))).collect();
        let told = labelled
            .iter()
            .map(|&(item, class)| (Difference { present: item.present, candidate: item.candidate }, class));
        let pictures: Vec<(ClassId, u64)> = labelled.iter().map(|&(item, class)| (class, item.pictures)).collect();
        let scenes: Vec<u64> = self.items.iter().map(|item| item.pictures).collect();
        let differing = scenes.iter().sum();
        let left = (self.items.len() - answers.len()) as u64;
        let shares = review::shares(&self.agreed, &scenes, &pictures);
        ReviewStatus {
            round: self.round,
            candidate: self.candidate,
            present: self.present,
            compared: self.agreed.iter().sum::<u64>() + differing,
            differing,
            answered: labelled.len() as u64,
            state: review::decide(told, left),
            shares: self.classes.iter().cloned().zip(shares).collect(),
            activation: None,
        }
    }
}

impl Reviews {
    /// Reads the review and the labels of a state directory. Damage is logged, and only the damaged part is lost.
    pub fn open(dir: &Path) -> Self {
        let review = read(&dir.join(FILE));
        let state = Files { review, labels: Labels::open(dir) };
        Self { dir: dir.to_owned(), state: Arc::new(Mutex::new(state)) }
    }

    /// Opens a review, which replaces the one before it.
    ///
    /// # Errors
    /// The file cannot be written; then the review before it stays.
    pub fn begin(&self, review: Review) -> io::Result<()> {
        let mut state = self.state();
        coft_fs::replace(&self.dir.join(FILE), &serde_json::to_vec(&review).expect("a review is plain data"))?;
        state.review = Some(review);
        Ok(())
    }

    /// Forgets the review; the labels stay.
    ///
    /// # Errors
    /// The file cannot be removed; then the review is forgotten only until the next start.
    pub fn end(&self) -> io::Result<()> {
        self.state().review = None;
        match fs::remove_file(self.dir.join(FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub fn status(&self) -> Option<ReviewStatus> {
        let state = self.state();
        Some(state.review.as_ref()?.status(state.labels.list()))
    }

    /// The pictures that have no answer yet, in the order in which they are asked about; empty if the review is closed.
    pub fn questions(&self) -> Vec<Question> {
        let state = self.state();
        let Some(review) = &state.review else { return Vec::new() };
        if review.status(state.labels.list()).state != State::Asking {
            return Vec::new();
        }
        let answered: HashSet<&ImageId> = state.labels.list().iter().map(|label| &label.image).collect();
        let name = |class: ClassId| review.classes[class.0 as usize].clone();
        let question = |item: &Item| Question {
            image: item.image.clone(),
            present: name(item.present),
            candidate: name(item.candidate),
        };
        review.items.iter().filter(|item| !answered.contains(&item.image)).map(question).collect()
    }

    /// Stores answers, all of them or none. An answer is an image's id and the name of its class, which is empty if the
    /// person cannot tell.
    ///
    /// # Errors
    /// No review is open, an answer fits no question, or the file cannot be written.
    pub fn answer(&self, answers: &[(String, String)]) -> Result<ReviewStatus, AnswerError> {
        let mut state = self.state();
        let review = state.review.clone().ok_or(AnswerError::NoReview)?;
        match review.status(state.labels.list()).state {
            State::Asking => {}
            State::Candidate => return Err(AnswerError::Decided(review.candidate)),
            State::Present | State::NoDifference => return Err(AnswerError::Closed(review.present)),
        }
        let mut list = state.labels.list().to_vec();
        for (image, class) in answers {
            let label = review.label(image, class, &list).map_err(AnswerError::Invalid)?;
            list.push(label);
        }
        self.write(&mut state, list)?;
        Ok(review.status(state.labels.list()))
    }

    /// Takes the last answer back; its picture is asked about again.
    ///
    /// # Errors
    /// There is no answer to take back, the review has already decided for the candidate, or the file cannot be
    /// written.
    pub fn undo(&self) -> Result<ReviewStatus, AnswerError> {
        let mut state = self.state();
        let review = state.review.clone().ok_or(AnswerError::NoReview)?;
        if review.status(state.labels.list()).state == State::Candidate {
            return Err(AnswerError::Decided(review.candidate));
        }
        let images: HashSet<&ImageId> = review.items.iter().map(|item| &item.image).collect();
        let mut list = state.labels.list().to_vec();
        let last = list.iter().rposition(|label| images.contains(&label.image));
        list.remove(last.ok_or_else(|| AnswerError::Invalid("there is no label to take back".into()))?);
        self.write(&mut state, list)?;
        Ok(review.status(state.labels.list()))
    }

    /// The labels of all pictures that a person has answered; none if the person could not tell.
    pub fn labels(&self) -> Vec<(ImageId, Option<String>)> {
        self.state().labels.list().iter().map(|label| (label.image.clone(), label.class.clone())).collect()
    }

    fn write(&self, state: &mut Files, list: Vec<Label>) -> Result<(), AnswerError> {
        state.labels.replace(list).map_err(|cause| AnswerError::Write { path: self.dir.clone(), cause })
    }

    fn state(&self) -> MutexGuard<'_, Files> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Review {
    /// The label that an answer gives, or why the answer is invalid.
    fn label(&self, image: &str, class: &str, known: &[Label]) -> Result<Label, String> {
        if !self.items.iter().any(|item| item.image.0 == image) {
            return Err(format!("the image {image:?} is not asked about; ReviewItems tells which ones are"));
        }
        if known.iter().any(|label| label.image.0 == image) {
            return Err(format!("the image {image} has its label already; it can be taken back with undo"));
        }
        let image = ImageId(image.to_owned());
        let class = text::composed(class.trim());
        if class.is_empty() {
            return Ok(Label { image, class: None });
        }
        if self.class(&class).is_none() {
            let advice = user_labels::nearest(&class, &self.classes)
                .map_or_else(|| "write it as in the label file".to_owned(), |near| format!("did you mean {near:?}?"));
            return Err(format!("there is no class {class:?}; {advice}"));
        }
        Ok(Label { image, class: Some(class) })
    }
}

/// The images in an order that depends only on the seed; each image is equally likely to come first.
pub fn drawn<T>(seed: u64, mut images: Vec<T>, id: impl Fn(&T) -> &ImageId) -> Vec<T> {
    images.sort_by_cached_key(|image| {
        Sha256::new().chain_update(seed.to_le_bytes()).chain_update(&id(image).0).finalize()
    });
    images
}

/// Reads the review from a file. A damaged review is logged and removed: a later round asks anew.
fn read(path: &Path) -> Option<Review> {
    let content = match fs::read(path) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            let file = shown_path(path);
            warn!(problem = %error, "the review {file} cannot be read; nobody is asked: {error}");
            return None;
        }
    };
    let review = serde_json::from_slice::<Review>(&content).map_err(|error| error.to_string());
    let review = review.and_then(|review| review.fault().map_or(Ok(review.clone()), |fault| Err(fault.to_owned())));
    review
        .inspect_err(|problem| {
            let file = shown_path(path);
            warn!(problem, "the review {file} is damaged and dropped, its labels stay: {problem}");
            if let Err(error) = fs::remove_file(path) {
                warn!(problem = %error, "it cannot be removed: {error}");
            }
        })
        .ok()
}

#[cfg(test)]
mod tests;
