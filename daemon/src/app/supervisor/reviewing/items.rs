//! Finds the files of the pictures that a person is asked about.

use crate::app::blocking;
use crate::app::training::TrainingRunner;
use crate::control::{CommandError, ReviewItem};
use crate::observed_file::{FileFingerprint, ObservedFile};
use crate::review::Question;
use coft_core::review::MOST;
use coft_core::shown::shown_path;
use futures_util::future::join_all;
use humantime_serde::re::humantime::format_duration;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::warn;

/// Checks which files exist, each source for itself: one thread per source at a time, which may wait for a file system
/// that does not answer.
#[derive(Clone, Debug)]
pub struct FileLooks {
    threads: Arc<Mutex<HashMap<PathBuf, Arc<Thread>>>>,
    timeout: Duration,
}

/// The thread of a source.
#[derive(Debug)]
struct Thread {
    turn: Arc<Semaphore>,
    /// When the look began that is under way.
    began: Mutex<Option<Instant>>,
}

impl Thread {
    fn began(&self) -> MutexGuard<'_, Option<Instant>> {
        self.began.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for FileLooks {
    /// With a timeout of 10 s [choice].
    fn default() -> Self {
        Self { threads: Arc::default(), timeout: Duration::from_secs(10) }
    }
}

impl FileLooks {
    fn thread_of(&self, source: &Path) -> Arc<Thread> {
        let new = || Arc::new(Thread { turn: Arc::new(Semaphore::new(1)), began: Mutex::default() });
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(threads.entry(source.to_owned()).or_insert_with(new))
    }

    /// The first `limit` pictures of a source that a file still holds, each with such a file; `files` are in the order
    /// of the pictures. None if the file system does not answer in time; as long as it does not, nobody waits for it
    /// again.
    async fn find(&self, source: &Path, files: Vec<Asked>, limit: usize) -> Option<Vec<Asked>> {
        let thread = self.thread_of(source);
        if thread.began().is_some_and(|began| began.elapsed() >= self.timeout) {
            return None;
        }
        let found = async move {
            let turn = Arc::clone(&thread.turn).acquire_owned().await.expect("nobody closes it");
            blocking(move || {
                *thread.began() = Some(Instant::now());
                let found = first(files, limit);
                *thread.began() = None;
                drop(turn);
                found
            })
            .await
        };
        let found = timeout(self.timeout, found).await.ok();
        if found.is_none() {
            let (source, within) = (shown_path(source), format_duration(self.timeout));
            warn!(%source, "nobody is asked about pictures in {source} while its files are not found within {within}");
        }
        found
    }
}

/// A file that may hold a picture, and the place of the picture among those that are asked about.
struct Asked {
    number: usize,
    file: ObservedFile,
}

/// The first pictures that are asked about and that have a file. Those of a source whose file system does not answer
/// are left out.
///
/// # Errors
/// Nothing was found, and a file system does not answer.
pub(super) async fn items(
    training: TrainingRunner,
    looks: FileLooks,
    limit: usize,
) -> Result<Vec<ReviewItem>, CommandError> {
    let TrainingRunner { reviews, catalog, sources, ingest, .. } = training;
    let limit = limit.min(MOST as usize);
    let questions = reviews.questions();
    let images = questions.iter().map(|question| question.image.clone()).collect();
    let files = catalog.files(images).await.map_err(|error| CommandError::Failed(error.to_string()))?;
    let mut by_source: BTreeMap<PathBuf, Vec<Asked>> = BTreeMap::new();
    for (number, files) in files.into_iter().enumerate() {
        // A source that is not configured any more may have used another part of the same file.
        for file in files.into_iter().filter(|file| sources.contains(&file.source)) {
            by_source.entry(file.source.clone()).or_default().push(Asked { number, file });
        }
    }
    let look = |(source, files): (PathBuf, Vec<Asked>)| {
        let looks = &looks;
        async move { (looks.find(&source, files, limit).await, source) }
    };
    let (mut there, mut late) = (BTreeMap::<usize, ObservedFile>::new(), Vec::new());
    for (found, source) in join_all(by_source.into_iter().map(look)).await {
        match found {
            // Where several sources hold the picture, any of its files will do.
            Some(found) => there.extend(found.into_iter().map(|Asked { number, file }| (number, file))),
            None => late.push(shown_path(&source).into_owned()),
        }
    }
    if there.is_empty() && !late.is_empty() {
        let (late, within) = (late.join(", "), format_duration(looks.timeout));
        return Err(CommandError::Failed(format!(
            "the files of the pictures in {late} were not found within {within}; look whether the file system answers"
        )));
    }
    let item = |(number, ObservedFile { path, source, .. }): (usize, ObservedFile)| {
        let Question { image, present, candidate } = questions[number].clone();
        let crop = ingest.sources().get(&source).and_then(|place| place.region);
        ReviewItem { image, path, crop, present, candidate }
    };
    Ok(there.into_iter().take(limit).map(item).collect())
}

/// The first `limit` pictures of which one of these files still holds the image, each with the first such file.
fn first(files: Vec<Asked>, limit: usize) -> Vec<Asked> {
    let mut found: Vec<Asked> = Vec::new();
    for asked in files {
        if found.len() == limit {
            break;
        }
        let is_new = found.last().is_none_or(|last| last.number != asked.number);
        if is_new && holds_it_still(&asked.file) {
            found.push(asked);
        }
    }
    found
}

/// Whether the file is there, with the content that the catalogue knows: another picture may have been written to it
/// since.
fn holds_it_still(file: &ObservedFile) -> bool {
    let content = |print: &FileFingerprint| (print.bytes, print.modified_ns);
    let found = fs::metadata(&file.path).ok().filter(fs::Metadata::is_file);
    found.is_some_and(|found| content(&FileFingerprint::of(&found)) == content(&file.fingerprint))
}

#[cfg(test)]
mod tests;
