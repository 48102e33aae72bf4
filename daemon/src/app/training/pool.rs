//! The images of a round: which ones take part, and cached pixels that turn out to be lost or damaged.

use super::{TrainingRunner, catalog_failed, failed, told};
use crate::catalog::CatalogError;
use crate::observed_file::ObservedFile;
use crate::review;
use crate::round::Outcome;
use coft_core::event::FailureKind;
use coft_core::ids::ImageId;
use coft_core::near_duplicates::NearDuplicates;
use coft_core::shown::shown_path;
use coft_core::spec::{PoolImage, RoundSpec};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use tracing::{info, warn};

impl TrainingRunner {
    /// Gives a round its images: those of the unfinished round that it `continues`, or the latest ones. Returns how
    /// many images had been taken in by then: these, and older ones that take no part any more.
    pub(super) async fn fill(&self, spec: &mut RoundSpec, continues: bool) -> Result<u64, Outcome> {
        let (images, all) = self.gather().await?;
        spec.images = self.label(images).await?;
        let mut newer = 0;
        let unfinished = self.unfinished().filter(|_| continues);
        let begun = unfinished.is_some();
        let reviewed: HashSet<ImageId> = self.reviews.labels().into_iter().map(|(image, _)| image).collect();
        match unfinished.and_then(|old| continued(spec, old, &reviewed)) {
            Some(images) => {
                let (round, count) = (spec.round, images.len());
                info!(
                    coft.job = round.0,
                    images = count,
                    "an interrupted round is continued: round {round} goes on with its {count} images"
                );
                let old: HashSet<&ImageId> = images.iter().map(|image| &image.id).collect();
                newer = spec.images.iter().take_while(|image| !old.contains(&image.id)).count() as u64;
                spec.images = images;
            }
            None => {
                if begun {
                    let round = spec.round;
                    info!(
                        coft.job = round.0,
                        "round {round} begins anew: the work that is there was begun with other images, labels or settings"
                    );
                }
                spec.images.truncate(usize::try_from(self.ingest.most_images()).unwrap_or(usize::MAX));
                spec.images.sort_unstable_by(|a, b| a.id.cmp(&b.id));
            }
        }
        Ok(all - newer)
    }

    /// Pixels of at most `most` images of the service, evenly spread over all of them.
    pub async fn sample(&self, most: usize) -> Result<Vec<PathBuf>, CatalogError> {
        let pool = self.catalog.pool(self.ingest.canonical_px(), &self.sources).await?.kept;
        let step = pool.len().div_ceil(most).max(1);
        let paths: Vec<PathBuf> = pool.iter().step_by(step).map(|id| self.ingest.canonical_path(id)).collect();
        let kept = move || paths.into_iter().filter(|path| path.is_file()).collect();
        Ok(tokio::task::spawn_blocking(kept).await.expect("looking for files neither panics nor is aborted"))
    }

    /// The images whose pixels are kept, the latest first, and the number of all images that were ever taken in. Lost
    /// pixels are recorded, so that the next scan takes their files in again.
    async fn gather(&self) -> Result<(Vec<PoolImage>, u64), Outcome> {
        let px = self.ingest.canonical_px();
        let pool = self.catalog.pool(px, &self.sources).await.map_err(|error| catalog_failed(&error))?;
        let ingest = self.ingest.clone();
        let sorted = tokio::task::spawn_blocking(move || {
            let located =
                pool.kept.into_iter().map(|id| PoolImage { path: ingest.canonical_path(&id), id, label: None });
            located.partition::<Vec<_>, _>(|image| image.path.is_file())
        });
        let (kept, lost) = sorted.await.expect("looking for files neither panics nor is aborted");
        if !lost.is_empty() {
            let count = lost.len();
            warn!(
                images = count,
                "cached pixels of {count} images are lost; they stay out until they are taken in again"
            );
            let lost: Vec<ImageId> = lost.into_iter().map(|image| image.id).collect();
            self.catalog.pixels_lost(lost).await.map_err(|error| catalog_failed(&error))?;
        }
        if (kept.len() as u64) < self.round.minimum_images {
            let message =
                format!("the configured sources have only {} images whose pixels are kept in {px} px", kept.len());
            let hint = "wait until the sources were looked through again, or put more images there; images of directories that are \
                        no source any more take no part";
            return Err(failed(FailureKind::BadImages, message, hint));
        }
        Ok((kept, pool.all))
    }

    /// Pixels of at most `most` images that rounds take and that a file of a configured source holds, in an order that
    /// the seed draws: images that nobody has labelled or been asked about, nor any near-duplicate of them.
    pub async fn unlabelled(
        &self,
        seed: u64,
        most: usize,
        near_duplicates: &NearDuplicates,
    ) -> Result<Vec<(ImageId, PathBuf)>, String> {
        let pool = self.catalog.pool(self.ingest.canonical_px(), &self.sources).await;
        let mut kept = pool.map_err(|error| error.to_string())?.kept;
        kept.truncate(usize::try_from(self.ingest.most_images()).unwrap_or(usize::MAX));
        let located = kept.into_iter().map(|id| PoolImage { path: self.ingest.canonical_path(&id), id, label: None });
        let images = self.label(located.collect()).await.map_err(told)?;
        let asked = self.reviews.labels();
        let labelled = images.iter().filter(|image| image.label.is_some()).map(|image| &image.id);
        let known = asked.iter().map(|(image, _)| image).chain(labelled);
        let known: HashSet<ImageId> = known.map(|image| near_duplicates.standing_for(image).clone()).collect();
        let unknown = images.into_iter().filter(|image| !known.contains(near_duplicates.standing_for(&image.id)));
        let unknown: Vec<(ImageId, PathBuf)> = unknown.map(|image| (image.id, image.path)).collect();
        let ids = unknown.iter().map(|(id, _)| id.clone()).collect();
        let files = self.catalog.files(ids).await.map_err(|error| error.to_string())?;
        let is_there = |files: &[ObservedFile]| files.iter().any(|file| self.sources.contains(&file.source));
        let there = unknown.into_iter().zip(files).filter_map(|(image, files)| is_there(&files).then_some(image));
        let mut drawn = review::drawn(seed, there.collect(), |(id, _)| id);
        drawn.truncate(most);
        Ok(drawn)
    }

    /// Removes cached pixels that cannot be decoded: the next round goes on without them, and the next scan takes in
    /// those images again whose files still exist.
    pub(super) async fn remove_damaged(&self, images: Vec<PoolImage>) {
        let find = move || images.into_iter().filter(|image| is_damaged(&image.path)).collect::<Vec<_>>();
        let damaged = match tokio::task::spawn_blocking(find).await {
            Ok(damaged) => damaged,
            Err(error) => return warn!("the round's cached pixels cannot be checked: {error}"),
        };
        let Some(first) = damaged.first() else { return };
        let (count, first) = (damaged.len(), shown_path(&first.path));
        warn!(
            images = count,
            %first,
            "cached pixels of {count} images were damaged and are removed; they stay out until they are taken in again; the first: \
             {first}"
        );
        let ids: Vec<ImageId> = damaged.iter().map(|image| image.id.clone()).collect();
        // Remove the pixels first, and record it then: an image that is taken in again keeps the pixels that it finds.
        if let Err(error) = self.ingest.discard(ids.clone()).await {
            warn!("{error}");
        }
        if let Err(error) = self.catalog.pixels_lost(ids).await {
            warn!("{error}");
        }
    }
}

/// The images of the unfinished round `old`, if `new` would do the same work except for images that arrived since, and
/// for labels that a person gave since to `reviewed` images: to answer a question must not cost hours of work. The next
/// round learns from these.
fn continued(new: &RoundSpec, old: RoundSpec, reviewed: &HashSet<ImageId>) -> Option<Vec<PoolImage>> {
    let same = RoundSpec { images: new.images.clone(), ..old.clone() } == new.work();
    let known: HashMap<&ImageId, &PoolImage> = new.images.iter().map(|image| (&image.id, image)).collect();
    let is_known = |image: &PoolImage| {
        let found = known.get(&image.id).filter(|found| found.path == image.path);
        found.is_some_and(|found| found.label == image.label || image.label.is_none() && reviewed.contains(&image.id))
    };
    (same && !old.images.is_empty() && old.images.iter().all(is_known)).then_some(old.images)
}

/// Whether cached pixels are missing, unreadable or no image. A temporary error, such as too many open files, is no
/// damage.
fn is_damaged(path: &Path) -> bool {
    match fs::read(path) {
        Ok(bytes) => coft_vision::decode(&bytes).is_err(),
        Err(error) => error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::EIO),
    }
}
