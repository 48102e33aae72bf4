//! The user's own labels, from a list or from reviews: of a round's images, and of pictures that a generation has
//! answered.

use super::{TrainingRunner, catalog_failed, failed, told};
use crate::catalog::CatalogError;
use crate::control::LabelCount;
use crate::round::Outcome;
use crate::user_labels::{self, Labels, UserLabelsError};
use coft_core::event::FailureKind;
use coft_core::ids::{ClassId, GenerationId, ImageId};
use coft_core::shown::shown_path;
use coft_core::spec::PoolImage;
use humantime_serde::re::humantime::format_duration;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::warn;

/// Maximum number of the latest pictures whose answers are counted. 10000 [choice].
const COUNTED: u64 = 10_000;

/// How the images in the files of a label list are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looking {
    /// By the files' content.
    IntoFiles,
    /// By what the catalogue knows about files with these paths.
    IntoCatalog,
}

/// Timeout for reading a label list, and looking up its files, while a client waits. 10 s [choice].
const LISTING: Duration = Duration::from_secs(10);

impl TrainingRunner {
    /// Counts what a generation has answered about the latest pictures of the sources, and how often it was right where
    /// the user has labelled the picture. The most frequent label comes first.
    pub async fn count_answers(&self, generation: GenerationId) -> Result<Vec<LabelCount>, CatalogError> {
        let answers = self.catalog.labels_by(generation, self.sources.clone(), COUNTED).await?;
        let known = self.own_labels().await;
        let mut counts: BTreeMap<String, LabelCount> = BTreeMap::new();
        for (image, label) in answers {
            let truth = known.get(&image).map(|class| &self.base.classes[class.0 as usize]);
            let empty = || LabelCount { label: label.clone(), pictures: 0, labelled: 0, right: 0 };
            let count = counts.entry(label.clone()).or_insert_with(empty);
            count.pictures += 1;
            count.labelled += u64::from(truth.is_some());
            count.right += u64::from(truth == Some(&label));
        }
        let mut counts: Vec<LabelCount> = counts.into_values().collect();
        counts.sort_by_key(|count| std::cmp::Reverse(count.pictures));
        Ok(counts)
    }

    /// Adds the user's own labels to the images: those of the list, otherwise those from reviews.
    pub(super) async fn label(&self, mut images: Vec<PoolImage>) -> Result<Vec<PoolImage>, Outcome> {
        let given = self.given(Looking::IntoFiles).await?;
        // Lines that name an image of the pool are removed from this set.
        let mut lines: BTreeSet<u64> = given.values().map(|(_, line)| *line).collect();
        let reviewed = self.reviewed();
        for image in &mut images {
            let listed = given.get(&image.id).map(|(class, line)| {
                lines.remove(line);
                *class
            });
            image.label = listed.or_else(|| reviewed.get(&image.id).copied());
        }
        if !lines.is_empty() {
            let count = lines.len();
            warn!(images = count, "{count} labelled images are in no source, or were let go; they take no part");
        }
        Ok(images)
    }

    /// The user's own labels by image, as far as they are known without a look into the pictures' files: those of the
    /// list whose files a source has or had, and those from reviews. If the list cannot be read, that is logged.
    async fn own_labels(&self) -> HashMap<ImageId, ClassId> {
        let given = match timeout(LISTING, self.given(Looking::IntoCatalog)).await {
            Ok(given) => given.map_err(told),
            Err(_) => Err(format!("the label list was not read within {}", format_duration(LISTING))),
        };
        let given = given.unwrap_or_else(|problem| {
            warn!(problem, "the user's own labels of the list are not counted: {problem}");
            Labels::new()
        });
        let mut labels = self.reviewed();
        labels.extend(given.into_iter().map(|(image, (class, _))| (image, class)));
        labels
    }

    /// The labels from reviews whose classes exist.
    fn reviewed(&self) -> HashMap<ImageId, ClassId> {
        let position = |class: &str| self.base.classes.iter().position(|known| known == class);
        let labels = self.reviews.labels().into_iter();
        labels.filter_map(|(image, class)| Some((image, ClassId(position(&class?)? as u32)))).collect()
    }

    /// The labels of the user's list, if there is one.
    async fn given(&self, looking: Looking) -> Result<Labels, Outcome> {
        let Some(path) = self.given_labels.clone() else { return Ok(Labels::new()) };
        let late = |_| {
            failed(
                FailureKind::BadImages,
                "the label list, or a file that it names, was not read within round.deadline",
                "look whether the file systems of the list and of its files answer",
            )
        };
        let turn = match looking {
            Looking::IntoFiles => None,
            // However often clients ask, at most one thread waits for a file system that does not answer.
            Looking::IntoCatalog => Some(Arc::clone(&self.listing).acquire_owned().await.expect("nobody closes it")),
        };
        let ingest = self.ingest.clone();
        let base = Arc::clone(&self.base);
        let (reply, answer) = oneshot::channel();
        let read = move || {
            let _turn = turn;
            let read = match looking {
                Looking::IntoFiles => user_labels::List::read,
                Looking::IntoCatalog => user_labels::List::read_alone,
            };
            let list = read(&path, &base.classes, ingest.sources(), &|| !reply.is_closed());
            // Nobody waits for a late result.
            let _ = reply.send(list);
        };
        // The files may lie on a file system that does not answer; then the thread stays behind.
        let started = thread::Builder::new().name("labels".into()).spawn(read);
        let bad = |error: UserLabelsError| {
            failed(
                FailureKind::BadImages,
                error.to_string(),
                "correct the list; it is read again when the next round starts",
            )
        };
        started.map_err(|error| failed(FailureKind::Internal, error.to_string(), "start the round again"))?;
        let read = timeout(self.round.deadline, answer).await.map_err(late)?;
        let mut list = read.expect("reading a list does not panic").map_err(bad)?;
        // A folder may rotate: a file that the catalogue has seen there keeps its label.
        for line in list.lost() {
            let images = self.catalog.images_at(&line.path, line.source.as_deref()).await;
            let images = images.map_err(|error| catalog_failed(&error))?;
            if !images.is_empty() {
                line.images = Ok(images);
            }
        }
        if looking == Looking::IntoCatalog {
            list.forget_lost();
        }
        let (given, lost) = list.labels().map_err(bad)?;
        if let Some(user_labels::Line { number, path, images: Err(error), .. }) = lost.first() {
            let (count, path) = (lost.len(), shown_path(path));
            warn!(
                images = count,
                line = number,
                %path,
                "the label list names {count} files that cannot be read and were never taken in; they are left out; \
                 the first, on line {number}: {path}: {error}"
            );
        }
        Ok(given)
    }
}
