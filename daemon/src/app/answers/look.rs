//! How a picture is looked at: in the pixels that the intake has kept, if these give the same answer as the file, and
//! otherwise in the file.

use crate::catalog::{Answer, Catalog, Unanswered};
use crate::decode_budget::Party;
use crate::ingest::{Ingest, Rejection, Unready};
use crate::serve::{Classification, Classifier, Options, Priority, ServeError};
use coft_core::answer::{self, NONE_OF_THESE};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::time::timeout;

/// How long reading a file may take before the picture is put off. 10 s [choice].
const PATIENCE: Duration = Duration::from_secs(10);
/// Maximum number of files with the same image that are tried. 4 [choice].
const FILES: usize = 4;
/// Number of labels that are kept of an answer, the likeliest ones. 5 [choice].
const LABELS: usize = 5;

/// Where to look at a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// In the pixels that are kept of it.
    AsKept,
    InFile,
    /// By another generation than before: in the kept pixels if these are as good as the file, otherwise in the file.
    Again,
}

/// Result of looking at a picture.
pub enum Outcome {
    Answered(Box<Answer>),
    /// The picture has to be looked at again: in its file, or later.
    PutOff,
    /// Nothing is left to look at; the reason.
    Lost(String),
    /// No generation serves; the reason.
    NothingServes(String),
    /// Nothing can be answered now; the reason.
    NotNow(String),
    /// Nothing can be answered now, and this picture may be the cause; the reason.
    Failed(String),
}

/// Looks at pictures.
pub struct Eye {
    pub ingest: Ingest,
    pub catalog: Catalog,
    pub classifier: Classifier,
    /// The classifier's name.
    pub name: String,
    /// Whether answers say that a picture is none of the classes.
    pub none_of_these: bool,
}

impl Eye {
    pub async fn look_at(&self, picture: &Unanswered, look: Look) -> Outcome {
        match look {
            Look::InFile => self.in_file(picture).await,
            Look::Again if !self.kept_is_as_good() => self.in_file(picture).await,
            Look::AsKept if !self.kept_is_as_good() => Outcome::PutOff,
            Look::AsKept | Look::Again => match self.as_kept(picture).await {
                // The generation that answered may be another one than the one that was checked.
                Some(Outcome::Answered(_)) if !self.kept_is_as_good() => Outcome::PutOff,
                None if look == Look::Again => self.in_file(picture).await,
                outcome => outcome.unwrap_or(Outcome::PutOff),
            },
        }
    }

    /// Whether the kept pixels give the same answers as the files: the generation that serves must take the kept pixels
    /// as they are, and not resize them once more.
    fn kept_is_as_good(&self) -> bool {
        let kept = self.ingest.preprocess();
        self.classifier.preprocess().is_none_or(|serving| serving == *kept && !kept.squash)
    }

    /// The answer for the kept pixels of a picture; none if these do not exist or are damaged.
    async fn as_kept(&self, picture: &Unanswered) -> Option<Outcome> {
        let path = self.ingest.canonical_path(&picture.image);
        let opened = tokio::task::spawn_blocking(move || File::open(path)).await;
        let file = opened.expect("opening a file neither panics nor is aborted").ok()?;
        let outcome = self.classified(picture, file.into()).await;
        (!matches!(outcome, Outcome::Lost(_))).then_some(outcome)
    }

    async fn in_file(&self, picture: &Unanswered) -> Outcome {
        let files = match self.catalog.files_of(&picture.image).await {
            Ok(files) => files,
            Err(error) => return Outcome::NotNow(error.to_string()),
        };
        let mut may_come_back = false;
        for file in files.into_iter().take(FILES) {
            match timeout(PATIENCE, self.ingest.read_whole(file)).await {
                Ok(Ok(content)) if content.id == picture.image => {
                    let Ok(bytes) = self.ingest.looked_at(content).await else { continue };
                    return match in_memory(&bytes) {
                        Ok(file) => self.classified(picture, file).await,
                        Err(error) => Outcome::NotNow(format!("an image cannot be held in memory: {error}")),
                    };
                }
                // The file holds another image by now, or none.
                Ok(Ok(_) | Err(Unready::Changed | Unready::Rejected(Rejection { lasts: true, .. }))) => {}
                Ok(Err(Unready::RetryLater(_) | Unready::Rejected(_))) | Err(_) => may_come_back = true,
            }
        }
        if may_come_back {
            return Outcome::PutOff;
        }
        // Without a file, the kept pixels give the best answer there is.
        let gone = || Outcome::Lost("its file had gone, and its pixels are not kept".into());
        self.as_kept(picture).await.unwrap_or_else(gone)
    }

    async fn classified(&self, picture: &Unanswered, image: OwnedFd) -> Outcome {
        let options = Options { priority: Priority::Bulk, party: Party::Sources, ..Options::default() };
        match self.classifier.classify_in_batch(image, &options).await {
            Ok(classification) => Outcome::Answered(Box::new(self.answer(picture, classification))),
            Err(error) => match error {
                ServeError::BadImage(_)
                | ServeError::NotAFile
                | ServeError::TooLarge { .. }
                | ServeError::OverBudget(_) => Outcome::Lost(error.to_string()),
                ServeError::NotReady
                | ServeError::Waiting(_)
                | ServeError::Loading { .. }
                | ServeError::NotLoaded { .. } => Outcome::NothingServes(error.to_string()),
                ServeError::Internal(_) => Outcome::Failed(error.to_string()),
                _ => Outcome::NotNow(error.to_string()),
            },
        }
    }

    fn answer(&self, picture: &Unanswered, classification: Classification) -> Answer {
        let Classification { labels, none_of_these, decision, generation, .. } = classification;
        let none_of_these = self.none_of_these.then_some(none_of_these);
        let likeliest = labels.first().cloned().unwrap_or_default();
        let of = |class: &String| labels.iter().find(|(label, _)| label == class).cloned();
        let (label, probability) = match decision.as_ref().and_then(of) {
            _ if none_of_these == Some(true) => (NONE_OF_THESE.to_owned(), None),
            Some((label, probability)) => (label, Some(probability)),
            None => (likeliest.0, Some(likeliest.1)),
        };
        Answer {
            source: picture.source.clone(),
            arrival: picture.arrival,
            label,
            probability,
            margin: answer::margin(labels.iter().map(|(_, probability)| *probability)),
            doubtful: answer::is_doubtful(likeliest.1),
            classifier: self.name.clone(),
            generation,
            none_of_these,
            decision,
            classes: labels.iter().map(|(label, _)| label.clone()).collect(),
            labels: labels.into_iter().take(LABELS).collect(),
        }
    }
}

/// A file that exists only in memory.
fn in_memory(bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create(c"coftd-image", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)?;
    Ok(file.into())
}
