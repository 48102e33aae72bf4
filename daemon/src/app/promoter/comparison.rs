//! What two generations answer on the same images.

use super::{Promoter, going_on};
use crate::serve::LoadError;
use coft_core::event::{Failure, FailureKind};
use coft_core::ids::{ClassId, GenerationId};
use coft_core::review::Difference;
use coft_core::shown::shown_path;
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
    /// The likeliest class of each image from both generations; none for a damaged image.
    pub differences: Vec<Option<Difference>>,
}

impl Promoter {
    /// Compares the answers of the generation that serves and of a candidate on images. Fails if another generation
    /// starts to serve meanwhile.
    pub fn compare(
        &self,
        candidate: &Contender,
        images: &[PathBuf],
        stop: &CancellationToken,
    ) -> Result<Compared, Failure> {
        let active = || self.store().active().map(|active| (active.id, active.manifest.classes.clone()));
        let serving = active().filter(|(_, classes)| *classes == candidate.classes);
        let (present, _) = serving
            .clone()
            .ok_or_else(|| incomparable("it was made for other classes than what serves, or nothing serves".into()))?;
        let ready = self.controller.load(&candidate.dir, candidate.id)?;
        let mut differences = Vec::with_capacity(images.len());
        for image in images {
            let [serving, found] = side_by_side(
                std::slice::from_ref(image),
                stop,
                |image| self.controller.answer(image),
                |image| ready.answer(image),
            )?;
            let class = |probabilities: &[f32]| likeliest(probabilities).map(|class| ClassId(class as u32));
            let difference = class(&serving).zip(class(&found));
            differences.push(difference.map(|(present, candidate)| Difference { present, candidate }));
        }
        match active() == serving {
            true => Ok(Compared { present, differences }),
            false => Err(incomparable(format!("generation {present} does not serve any more"))),
        }
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
    let (mut active, mut found, mut damaged) = (Vec::new(), Vec::new(), Vec::new());
    // One image at a time, so that a stop takes effect soon and a damaged image is known.
    for image in images {
        going_on(stop)?;
        match serving(image).and_then(|serving| Ok((serving, candidate(image)?))) {
            Ok((serving, _)) if serving.is_empty() => break,
            Ok((serving, candidate)) => {
                active.extend(serving);
                found.extend(candidate);
            }
            Err(LoadError::Read { path, cause }) if path == *image => damaged.push((path, cause)),
            Err(error) => return Err(error.into()),
        }
    }
    if let Some((path, problem)) = damaged.first() {
        let (images, first) = (damaged.len(), shown_path(path));
        warn!(
            images,
            %first,
            problem, "damaged pixels of {images} images have no part in the judgement; the first is {first}: {problem}"
        );
    }
    Ok([active, found])
}

fn likeliest(probabilities: &[f32]) -> Option<usize> {
    (0..probabilities.len()).max_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b]).then(b.cmp(&a)))
}

fn incomparable(message: String) -> Failure {
    Failure::new(FailureKind::Internal, message, "the active generation keeps serving")
}
