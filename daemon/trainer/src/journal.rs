//! The saved work of a round on disk: the results of finished stages, and the training that is not finished.
//!
//! Each is one safetensors file. It is written under a new name, synced and renamed, so that a stop at any instant
//! leaves either the old or the new file. The directory belongs to one spec, the models that were read for it (weights
//! and preprocessing) and this version of the program. A journal that belongs to others is deleted. A file that cannot
//! be read is ignored, and its content is computed again.
//!
//! A saving that fails (for example on a full disk) leaves the old file. The round goes on; a result that could not be
//! saved waits in memory and is written before the next saving. A run with another processor, libtorch or number of
//! threads continues the work, and the round reports that: the result is as good, but its last bits differ
//! ([`crate::arithmetic`]).

use crate::arithmetic::Arithmetic;
use crate::clip::tensors::{from_safetensors, write_safetensors};
use crate::error::RoundError;
use coft_core::spec::{JOURNAL_SPEC, RoundSpec};
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tch::{Device, Tensor};

/// Time between two savings of unfinished work. 30 s [choice]: at most a minute of work is lost, however long a step
/// takes.
pub const SAVE_INTERVAL: Duration = Duration::from_secs(30);

/// File that names this program and the models, one per line.
const ORIGIN: &str = "origin";

/// File with the warnings, a JSON array.
const WARNINGS: &str = "warnings";

/// File with the facts of the arithmetic, one per line.
const ARITHMETIC: &str = "arithmetic";

/// This program and its version.
pub const PRODUCER: &str = concat!("coft-trainer ", env!("CARGO_PKG_VERSION"));

#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    device: Device,
    /// The work that the directory belongs to; `origin` is this program with the models.
    work: Vec<u8>,
    origin: String,
    /// Whether the directory belongs to this work. If not, nothing is read from it, and it is replaced before a saving.
    ours: bool,
    saved: Instant,
    save_interval: Duration,
    /// Results that could not be saved yet, the oldest first.
    waiting: VecDeque<Kept>,
}

/// A training, or a prediction for the pool, as it was last saved.
#[derive(Debug)]
pub struct Saved {
    /// 0, or 1 after a loss that was not finite.
    pub attempt: u32,
    /// Steps that are done; for a prediction, chunks.
    pub step: u32,
    pub tensors: BTreeMap<String, Tensor>,
}

#[derive(Debug)]
struct Kept {
    name: String,
    tensors: Vec<(String, Tensor)>,
}

impl Journal {
    /// The journal of `spec`. `models` are the models that were read from the spec's directories.
    pub fn open(spec: &RoundSpec, models: &[String], device: Device) -> Self {
        let work = serde_json::to_vec(&spec.work()).expect("a spec is plain data");
        Self::at(&spec.journal_dir, work, models, device)
    }

    /// The journal of `work` in `dir`. The directory is made at the first saving if it does not exist.
    pub fn at(dir: &Path, work: Vec<u8>, models: &[String], device: Device) -> Self {
        let origin = [&[PRODUCER.to_owned()], models].concat().join("\n");
        let mut journal = Self {
            dir: dir.to_owned(),
            device,
            work,
            origin,
            ours: false,
            saved: Instant::now(),
            save_interval: SAVE_INTERVAL,
            waiting: VecDeque::new(),
        };
        journal.ours = journal.is_ours();
        journal
    }

    fn is_ours(&self) -> bool {
        let holds = |name: &str, bytes: &[u8]| fs::read(self.dir.join(name)).ok().as_deref() == Some(bytes);
        holds(JOURNAL_SPEC, &self.work) && holds(ORIGIN, self.origin.as_bytes())
    }

    /// Makes the directory, replacing one that belongs to other work. Does nothing if it belongs to this work already.
    pub fn establish(&mut self) -> Result<(), RoundError> {
        if self.ours {
            return Ok(());
        }
        let begin = |new: &Path| {
            coft_fs::write_synced(&new.join(ORIGIN), self.origin.as_bytes())?;
            coft_fs::write_synced(&new.join(JOURNAL_SPEC), &self.work)
        };
        coft_fs::replace_dir(&self.dir, begin).map_err(RoundError::write(&self.dir))?;
        self.ours = true;
        Ok(())
    }

    /// Saves the facts of the arithmetic. Returns how they differ from those of the run that saved before.
    pub fn note(&mut self, arithmetic: &Arithmetic) -> Result<Option<String>, RoundError> {
        let path = self.dir.join(ARITHMETIC);
        let before = if self.ours { fs::read_to_string(&path).ok() } else { None };
        let changed = before.as_deref().and_then(|before| arithmetic.changed_since(before));
        if before.is_none() || changed.is_some() {
            let text = arithmetic.to_string();
            self.replace(&path, |fresh| fs::write(fresh, &text))?;
        }
        Ok(changed)
    }

    /// Sets the time between two savings, instead of [`SAVE_INTERVAL`].
    pub fn save_every(&mut self, save_interval: Duration) {
        self.save_interval = save_interval;
    }

    /// Tensors that were saved under `name`, if the file exists and is intact.
    pub fn result(&self, name: &str) -> Option<BTreeMap<String, Tensor>> {
        self.read(&self.path(name, "result"))
    }

    /// Saves the result of a stage and deletes the training that led to it. A result that cannot be written now is
    /// written before the next saving.
    pub fn keep_result(&mut self, name: &str, tensors: Vec<(String, Tensor)>) -> Result<(), RoundError> {
        self.waiting.push_back(Kept { name: name.to_owned(), tensors });
        self.keep_waiting()
    }

    fn keep_waiting(&mut self) -> Result<(), RoundError> {
        while let Some(kept) = self.waiting.pop_front() {
            let (result, progress) = (self.path(&kept.name, "result"), self.path(&kept.name, "progress"));
            if let Err(failure) = self.replace(&result, |fresh| write_safetensors(fresh, &named(&kept.tensors))) {
                self.waiting.push_front(kept);
                return Err(failure);
            }
            match fs::remove_file(&progress) {
                Err(cause) if cause.kind() != ErrorKind::NotFound => return Err(RoundError::write(&progress)(cause)),
                _ => {}
            }
        }
        Ok(())
    }

    /// The saved training or prediction called `name`, if it was not finished.
    pub fn progress(&self, name: &str) -> Option<Saved> {
        let number = |tensors: &mut BTreeMap<String, Tensor>, key: &str| {
            tensors.remove(key).and_then(|t| u32::try_from(t.int64_value(&[])).ok())
        };
        let mut tensors = self.read(&self.path(name, "progress"))?;
        let (attempt, step) = (number(&mut tensors, "attempt")?, number(&mut tensors, "step")?);
        Some(Saved { attempt, step, tensors })
    }

    /// Whether unfinished work should be saved now.
    pub fn due(&self) -> bool {
        self.saved.elapsed() >= self.save_interval
    }

    pub fn keep_progress(&mut self, name: &str, saved: &Saved) -> Result<(), RoundError> {
        // Set even if this saving fails: then the next one is tried after the usual time, not after each step.
        self.saved = Instant::now();
        self.keep_waiting()?;
        let numbers = [("attempt", saved.attempt), ("step", saved.step)];
        let mut tensors: Vec<(String, Tensor)> =
            numbers.map(|(key, n)| (key.to_owned(), Tensor::from(i64::from(n)))).into();
        tensors.extend(saved.tensors.iter().map(|(key, t)| (key.clone(), t.shallow_clone())));
        self.replace(&self.path(name, "progress"), |fresh| write_safetensors(fresh, &named(&tensors)))
    }

    /// The warnings of this and earlier runs of the work.
    pub fn warnings(&self) -> Vec<String> {
        let read = || serde_json::from_slice(&fs::read(self.dir.join(WARNINGS)).ok()?).ok();
        if self.ours { read().unwrap_or_default() } else { Vec::new() }
    }

    /// Saves a warning for later runs.
    pub fn keep_warning(&mut self, message: &str) -> Result<(), RoundError> {
        let mut all = self.warnings();
        if all.iter().any(|kept| kept == message) {
            return Ok(());
        }
        all.push(message.to_owned());
        let bytes = serde_json::to_vec(&all).expect("strings are plain data");
        self.replace(&self.dir.join(WARNINGS), |fresh| fs::write(fresh, &bytes))
    }

    fn path(&self, name: &str, kind: &str) -> PathBuf {
        self.dir.join(format!("{}.{kind}", name.replace([' ', ','], "-")))
    }

    fn read(&self, path: &Path) -> Option<BTreeMap<String, Tensor>> {
        if !self.ours {
            return None;
        }
        from_safetensors(&fs::read(path).ok()?, self.device)
    }

    /// Replaces the file at `path` by what `write` writes, completely or not at all. A file that is half written is
    /// removed, so that on a full disk its space is free for others.
    fn replace(&mut self, path: &Path, write: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<(), RoundError> {
        self.establish()?;
        // Temporary files of a run that was cut off take space.
        let cleared = coft_fs::remove_unfinished(&self.dir);
        let replaced = cleared.and_then(|()| coft_fs::replace_with(path, write)).map_err(RoundError::write(path));
        if replaced.is_err() {
            self.ours = self.is_ours(); // someone may have removed the directory
        }
        replaced
    }
}

fn named(tensors: &[(String, Tensor)]) -> Vec<(&str, Tensor)> {
    tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.shallow_clone())).collect()
}
