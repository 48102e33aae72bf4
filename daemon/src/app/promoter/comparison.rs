//! What two generations answer on the same images.

use super::{Promoter, going_on};
use crate::serve::LoadError;
use coft_core::decision::likeliest;
use coft_core::event::{Failure, FailureKind};
use coft_core::ids::{ClassId, GenerationId};
use coft_core::review::Difference;
use coft_core::shown::shown_path;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// A candidate that is compared with the generation that serves.
#[derive(Debug)]
pub struct Contender {
    /// The generation that it is, or becomes if it is kept.
    pub id: GenerationId,
    pub dir: PathBuf,
    pub classes: Vec<String>,
}

/// What two generations of the same classes answer on the same images.
#[derive(Debug)]
pub struct Compared {
    /// The generation that serves.
    pub present: GenerationId,
    /// The class of each image from both generations, as the user's thresholds decide; none for a damaged image.
    pub differences: Vec<Option<Difference>>,
}

impl Promoter {
    /// Compares the answers of the generation that serves and of a candidate on images. Fails if another generation
    /// starts to serve meanwhile. `answered` gets the number of answers after each of them, two for each image in all.
    pub fn compare(
        &self,
        candidate: &Contender,
        images: &[PathBuf],
        stop: &CancellationToken,
        answered: &mut dyn FnMut(usize),
    ) -> Result<Compared, Failure> {
        let active = || self.store().active().map(|active| (active.id, active.manifest.classes.clone()));
        let serving = active().filter(|(_, classes)| *classes == candidate.classes);
        let (present, _) = serving
            .clone()
            .ok_or_else(|| incomparable("it was made for other classes than what serves, or nothing serves".into()))?;
        let ready = self.controller.load(&candidate.dir, candidate.id)?;
        // One generation after the other: memory may hold only one of them.
        let mut count = 0;
        let mut next = || {
            answered(count);
            count += 1;
            going_on(stop)
        };
        let mut damaged = BTreeMap::new();
        let presents = self.classes(images, &mut damaged, &mut next, |image| self.controller.answer(image))?;
        let candidates = self.classes(images, &mut damaged, &mut next, |image| ready.answer(image))?;
        answered(2 * images.len());
        log_damaged(&damaged);
        let pair = |(present, candidate): (Option<ClassId>, Option<ClassId>)| {
            Some(Difference { present: present?, candidate: candidate? })
        };
        let differences: Vec<Option<Difference>> = presents.into_iter().zip(candidates).map(pair).collect();
        if differences.iter().all(Option::is_none) {
            return Err(incomparable("the cached pixels of the pictures are damaged".into()));
        }
        match active() == serving {
            true => Ok(Compared { present, differences }),
            false => Err(incomparable(format!("generation {present} does not serve any more"))),
        }
    }

    /// The class of each image from a generation; none for a damaged image. `next` is called before each.
    fn classes(
        &self,
        images: &[PathBuf],
        damaged: &mut BTreeMap<PathBuf, String>,
        next: &mut dyn FnMut() -> Result<(), Failure>,
        answer: impl Fn(&Path) -> Result<Vec<f32>, LoadError>,
    ) -> Result<Vec<Option<ClassId>>, Failure> {
        let mut classes = Vec::with_capacity(images.len());
        for image in images {
            next()?;
            let class = match answer(image) {
                Ok(probabilities) => {
                    let decided = self.controller.decide(&probabilities).or_else(|| likeliest(&probabilities));
                    Some(decided.ok_or_else(|| incomparable("what serves cannot answer now".into()))?)
                }
                Err(LoadError::Read { path, cause }) if path == *image => {
                    damaged.insert(path, cause);
                    None
                }
                Err(error) => return Err(error.into()),
            };
            classes.push(class.map(|class| ClassId(class as u32)));
        }
        Ok(classes)
    }
}

/// The answers of the generation that serves and of a candidate on images; empty if none serves. Damaged images are
/// left out: a sample of the pool is enough.
pub(super) fn side_by_side(
    images: &[PathBuf],
    stop: &CancellationToken,
    serving: impl Fn(&Path) -> Result<Vec<f32>, LoadError>,
    candidate: impl Fn(&Path) -> Result<Vec<f32>, LoadError>,
) -> Result<[Vec<f32>; 2], Failure> {
    let (mut active, mut found, mut damaged) = (Vec::new(), Vec::new(), BTreeMap::new());
    // One image at a time, so that a stop takes effect soon and a damaged image is known.
    for image in images {
        going_on(stop)?;
        match serving(image).and_then(|serving| Ok((serving, candidate(image)?))) {
            Ok((serving, _)) if serving.is_empty() => break,
            Ok((serving, candidate)) => {
                active.extend(serving);
                found.extend(candidate);
            }
            Err(LoadError::Read { path, cause }) if path == *image => drop(damaged.insert(path, cause)),
            Err(error) => return Err(error.into()),
        }
    }
    log_damaged(&damaged);
    Ok([active, found])
}

/// Logs the images whose pixels are damaged, each with what is wrong, in one line.
fn log_damaged(damaged: &BTreeMap<PathBuf, String>) {
    if let Some((path, problem)) = damaged.first_key_value() {
        let (images, first) = (damaged.len(), shown_path(path));
        warn!(
            images,
            %first,
            problem, "damaged pixels of {images} images have no part in the comparison; the first is {first}: {problem}"
        );
    }
}

fn incomparable(message: String) -> Failure {
    Failure::new(FailureKind::Internal, message, "the active generation keeps serving")
}
