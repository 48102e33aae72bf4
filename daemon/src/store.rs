//! Model generations on disk: staged, verified, synced, swapped, pruned.
//!
//! `generations/N` holds generation N. It is read-only, except for the record of when the generation was active.
//! `active` is a symbolic link to one of the generations; one rename replaces it. Every change is write-new, sync,
//! rename, sync directory, so that a stop at any instant leaves either the old active generation or the new one,
//! complete. This module does not know sessions, the catalogue, or rounds under way.

mod generation;

pub use generation::{Generation, Record, Staged};

use coft_core::ids::{GenerationId, JobId};
use coft_core::manifest::FORMAT;
use coft_core::retention;
use coft_core::shown::{shown_io, shown_path};
use generation::{RECORD, pretty, read_generation, verified};
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use thiserror::Error;

#[derive(Debug, Error)]
pub enum StoreError {
    #[error("{}: {}", shown_path(path), shown_io(cause))]
    Io { path: PathBuf, cause: io::Error },
    #[error("{}: {cause}", shown_path(path))]
    Json { path: PathBuf, cause: serde_json::Error },
    #[error("{}: layout version {found}; this version of coft reads {FORMAT}", shown_path(path))]
    Format { path: PathBuf, found: u32 },
    #[error("{}: does not have the digest that the manifest names; the file is damaged", shown_path(path))]
    Digest { path: PathBuf },
    #[error("{}: not a plain file name", shown_path(path))]
    Name { path: PathBuf },
    #[error("there is no generation {id}")]
    Unknown { id: GenerationId },
}

impl StoreError {
    pub fn is_disk_full(&self) -> bool {
        matches!(self, StoreError::Io { cause, .. } if cause.kind() == io::ErrorKind::StorageFull)
    }
}

#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    generations: BTreeMap<GenerationId, Generation>,
    active: Option<GenerationId>,
    warnings: Vec<String>,
    #[cfg(test)]
    stop_after: std::cell::Cell<Option<usize>>,
}

const GENERATIONS: &str = "generations";
const ACTIVE: &str = "active";
const NEW_ACTIVE: &str = "active.new";
const SCRATCH: &str = "rounds";
const STAGED: &str = "staged";
const NEW_RECORD: &str = "record";

impl Store {
    /// Opens the store below `root`, and creates it if it does not exist.
    ///
    /// Candidates that were staged but never promoted are removed. If the active generation is damaged, the newest
    /// intact one that was not refused replaces it, and [`Store::warnings`] says so.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let mut store = Self {
            root: root.to_owned(),
            generations: BTreeMap::new(),
            active: None,
            warnings: Vec::new(),
            #[cfg(test)]
            stop_after: std::cell::Cell::new(None),
        };
        let dir = store.generations_dir();
        fs::create_dir_all(&dir).map_err(at(&dir))?;
        for entry in fs::read_dir(&dir).map_err(at(&dir))? {
            let path = entry.map_err(at(&dir))?.path();
            let Some(id) = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse().ok()) else {
                // A candidate that was staged but never promoted. A failure is only a warning, because the store can
                // serve even from a disk that cannot be written.
                if let Err(error) = remove_tree(&path) {
                    store.warnings.push(format!("what was staged cannot be removed: {error}"));
                }
                continue;
            };
            match read_generation(GenerationId(id), &path) {
                Ok(generation) => {
                    store.generations.insert(generation.id, generation);
                }
                Err(error) => store.warnings.push(format!("generation {id} cannot be used: {error}")),
            }
        }
        store.adopt_active()?;
        Ok(store)
    }

    /// Problems found at opening, for the log.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    pub fn active(&self) -> Option<&Generation> {
        self.active.and_then(|id| self.generations.get(&id))
    }

    /// The active generation, if this job, which was interrupted, made or activated it. Only the change of `active`
    /// is a promotion; the generation's directory exists a moment earlier.
    pub fn promoted_by(&self, job: JobId) -> Option<GenerationId> {
        let by = |active: &&Generation| active.job() == job || active.record.activated_by == Some(job);
        self.active().filter(by).map(|active| active.id)
    }

    /// The highest number of a job that a generation names, 0 if there is none. The next job's number follows it if the
    /// catalogue is lost.
    pub fn last_job(&self) -> JobId {
        let jobs = self.generations().flat_map(|kept| [Some(kept.job()), kept.record.activated_by]);
        jobs.flatten().max().unwrap_or(JobId(0))
    }

    pub fn generation(&self, id: GenerationId) -> Result<&Generation, StoreError> {
        self.generations.get(&id).ok_or(StoreError::Unknown { id })
    }

    /// All generations, oldest first.
    pub fn generations(&self) -> impl Iterator<Item = &Generation> {
        self.generations.values()
    }

    /// The directory that holds the directories of jobs; on the same file system as the generations.
    pub fn scratch(&self) -> PathBuf {
        self.root.join(SCRATCH)
    }

    /// Removes files of jobs from earlier runs of the service.
    pub fn clean_scratch(&self) -> Result<(), StoreError> {
        let scratch = self.scratch();
        remove_tree(&scratch)?;
        fs::create_dir_all(&scratch).map_err(at(&scratch))
    }

    /// Verifies a candidate directory, digest by digest, and moves it into the store.
    pub fn stage(&self, candidate: &Path) -> Result<Staged, StoreError> {
        let (manifest, report) = verified(candidate)?;
        let id = GenerationId(self.latest_on_disk()? + 1);
        let dir = self.generations_dir().join(format!("{id}.{STAGED}"));
        // May be left from a promotion that a full disk interrupted.
        remove_tree(&dir)?;
        self.step()?;
        fs::rename(candidate, &dir).map_err(at(candidate))?;
        self.step()?;
        sync_dir(&self.generations_dir())?;
        Ok(Staged { id, dir, manifest, report })
    }

    /// Makes a staged candidate the active generation.
    pub fn activate(
        &mut self,
        staged: Staged,
        parity_max_abs_diff: f64,
        imported_by: Option<JobId>,
    ) -> Result<Generation, StoreError> {
        let record = Record { replaces: self.active, ..Record::new(parity_max_abs_diff, imported_by) };
        let generation = self.take_in(staged, record)?;
        self.point_active(generation.id)?;
        self.generations.insert(generation.id, generation.clone());
        Ok(generation)
    }

    /// Keeps a staged candidate that was refused. It becomes a generation that serves only if somebody activates it.
    pub fn keep_refused(
        &mut self,
        staged: Staged,
        parity_max_abs_diff: f64,
        imported_by: Option<JobId>,
        reason: String,
    ) -> Result<GenerationId, StoreError> {
        let record = Record { refused: Some(reason), ..Record::new(parity_max_abs_diff, imported_by) };
        let generation = self.take_in(staged, record)?;
        let id = generation.id;
        self.generations.insert(id, generation);
        Ok(id)
    }

    /// Writes the record of a staged candidate and moves the candidate to the generations.
    fn take_in(&self, staged: Staged, record: Record) -> Result<Generation, StoreError> {
        let Staged { id, dir: staged_dir, manifest, report } = staged;
        self.step()?;
        write_synced(&staged_dir.join(RECORD), &pretty(&record))?;
        for entry in fs::read_dir(&staged_dir).map_err(at(&staged_dir))? {
            let path = entry.map_err(at(&staged_dir))?.path();
            fs::set_permissions(&path, Permissions::from_mode(0o400)).map_err(at(&path))?;
        }
        self.step()?;
        sync_dir(&staged_dir)?;
        let dir = self.generation_dir(id);
        self.step()?;
        fs::rename(&staged_dir, &dir).map_err(at(&staged_dir))?;
        fs::set_permissions(&dir, Permissions::from_mode(0o500)).map_err(at(&dir))?;
        self.step()?;
        sync_dir(&self.generations_dir())?;
        Ok(Generation { id, dir, manifest, report, record })
    }

    /// Activates a generation that is already in the store; a refused one does not count as refused any more.
    pub fn activate_again(&mut self, id: GenerationId, job: JobId) -> Result<Generation, StoreError> {
        let mut generation = self.generation(id)?.clone();
        generation.record.replaces = self.active;
        generation.record.activated_by = Some(job);
        generation.record.refused = None;
        // If an interruption follows, this record names its predecessor although it never became active. That is
        // harmless, because the field is read only from the active generation.
        self.rewrite_record(&generation)?;
        self.generations.insert(id, generation.clone());
        self.point_active(id)?;
        Ok(generation)
    }

    /// Removes a staged candidate that was neither promoted nor is to be kept.
    pub fn discard(&self, staged: Staged) -> Result<(), StoreError> {
        remove_tree(&staged.dir)
    }

    /// Deletes all generations except the active one, the one it replaced, the one that is `wanted` next, the `newest`
    /// latest of those promoted, and the `refused` latest of those refused. Returns the deleted ones.
    pub fn prune(
        &mut self,
        newest: usize,
        refused: usize,
        wanted: Option<GenerationId>,
    ) -> Result<Vec<GenerationId>, StoreError> {
        let previous = self.active().and_then(|active| active.record.replaces);
        let (turned_away, promoted): (Vec<&Generation>, Vec<&Generation>) =
            self.generations().partition(|generation| generation.record.refused.is_some());
        let beyond = |generations: &[&Generation], newest| {
            let all: Vec<GenerationId> = generations.iter().map(|generation| generation.id).collect();
            retention::expired(&all, self.active, previous, newest)
        };
        let mut expired = [beyond(&promoted, newest), beyond(&turned_away, refused)].concat();
        expired.retain(|id| Some(*id) != wanted);
        expired.sort_unstable();
        for id in &expired {
            // Renamed first, so that a half-deleted generation is not taken for a generation.
            let gone = self.generations_dir().join(format!("{id}.expired"));
            let dir = self.generation_dir(*id);
            fs::rename(&dir, &gone).map_err(at(&dir))?;
            self.generations.remove(id);
            remove_tree(&gone)?;
        }
        Ok(expired)
    }

    fn generations_dir(&self) -> PathBuf {
        self.root.join(GENERATIONS)
    }

    fn generation_dir(&self, id: GenerationId) -> PathBuf {
        self.generations_dir().join(id.to_string())
    }

    /// The highest number in use. Damaged generations count too, because a number is never used twice.
    fn latest_on_disk(&self) -> Result<u64, StoreError> {
        let dir = self.generations_dir();
        let entries = fs::read_dir(&dir).map_err(at(&dir))?.collect::<Result<Vec<_>, _>>().map_err(at(&dir))?;
        Ok(entries.iter().filter_map(|e| e.file_name().to_str()?.parse().ok()).max().unwrap_or(0))
    }

    fn adopt_active(&mut self) -> Result<(), StoreError> {
        let link = self.root.join(ACTIVE);
        let named = match fs::read_link(&link) {
            Ok(target) => target.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse().ok()).map(GenerationId),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()), // nothing was ever promoted
            Err(cause) => return Err(StoreError::Io { path: link, cause }),
        };
        let intact = |store: &Self, id: &GenerationId| {
            store.generations.get(id).is_some_and(|generation| verified(&generation.dir).is_ok())
        };
        if let Some(id) = named.filter(|id| intact(self, id)) {
            self.active = Some(id);
            return Ok(());
        }
        // A generation that the rules refused serves only if somebody activates it.
        let promoted = self.generations.values().rev().filter(|generation| generation.record.refused.is_none());
        let fallback = promoted.map(|generation| generation.id).find(|id| intact(self, id));
        let named = named.map_or("unknown".to_owned(), |id| id.to_string());
        match fallback {
            Some(id) => {
                self.warnings.push(format!("active generation {named} is damaged; generation {id} serves instead"));
                self.point_active(id).or_else(|error| {
                    self.warnings.push(format!("the change cannot be written down: {error}"));
                    self.active = Some(id);
                    Ok(())
                })
            }
            None => {
                self.warnings.push(format!("active generation {named} is damaged, and no other is intact"));
                Ok(())
            }
        }
    }

    fn rewrite_record(&self, generation: &Generation) -> Result<(), StoreError> {
        let new = self.generations_dir().join(format!("{}.{NEW_RECORD}", generation.id));
        // May be left from an activation that a full disk interrupted.
        remove_tree(&new)?;
        self.step()?;
        write_synced(&new, &pretty(&generation.record))?;
        fs::set_permissions(&new, Permissions::from_mode(0o400)).map_err(at(&new))?;
        let dir = &generation.dir;
        fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(at(dir))?;
        self.step()?;
        let replaced = fs::rename(&new, dir.join(RECORD)).map_err(at(&new));
        fs::set_permissions(dir, Permissions::from_mode(0o500)).map_err(at(dir))?;
        replaced?;
        self.step()?;
        sync_dir(dir)
    }

    fn point_active(&mut self, id: GenerationId) -> Result<(), StoreError> {
        let (new, link) = (self.root.join(NEW_ACTIVE), self.root.join(ACTIVE));
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&new)(error)),
            _ => {}
        }
        self.step()?;
        symlink(Path::new(GENERATIONS).join(id.to_string()), &new).map_err(at(&new))?;
        self.step()?;
        fs::rename(&new, &link).map_err(at(&link))?;
        self.active = Some(id);
        self.step()?;
        sync_dir(&self.root)
    }

    /// A point where tests simulate an interruption.
    fn step(&self) -> Result<(), StoreError> {
        #[cfg(test)]
        if let Some(left) = self.stop_after.get() {
            if left == 0 {
                return Err(StoreError::Io { path: "plug".into(), cause: io::Error::other("pulled") });
            }
            self.stop_after.set(Some(left - 1));
        }
        Ok(())
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    coft_fs::write_synced(path, bytes).map_err(at(path))
}

fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    coft_fs::sync_dir(dir).map_err(at(dir))
}

/// Removes a directory with everything in it, read-only or not. It is no error if it does not exist.
pub fn remove_tree(path: &Path) -> Result<(), StoreError> {
    coft_fs::remove_tree(path).map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |cause| StoreError::Io { path, cause }
}

#[cfg(test)]
mod tests;
