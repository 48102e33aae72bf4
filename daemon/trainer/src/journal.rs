//! What a round has done so far, on disk: results of the stages that are over and the training under way.
//!
//! One safetensors file each, written new, synced and renamed, so that a stop at any instant leaves the file before or the
//! file after. The directory belongs to one spec, the models that were read for it (weights and preprocessing) and this
//! version of the program; what others left there is thrown away, and so is what cannot be read: it is computed again.

use crate::clip::tensors::{from_safetensors, write_safetensors};
use crate::export::candidate::{sync_dir, write_synced};
use crate::failure::Failure;
use crate::fit::Saved;
use coft_core::spec::{JOURNAL_SPEC, RoundSpec};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tch::{Device, Tensor};

/// Time between two savings of what is under way. 30 s [choice]: at most a minute is lost, whatever a step takes.
pub const PACE: Duration = Duration::from_secs(30);

/// File that names this program and the models, one a line.
const ORIGIN: &str = "origin";

/// File of the warnings, a JSON array.
const WARNINGS: &str = "warnings";

/// This program and its version.
pub const PRODUCER: &str = concat!("coft-trainer ", env!("CARGO_PKG_VERSION"));

#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    device: Device,
    saved: Instant,
    pace: Duration,
}

impl Journal {
    /// The journal of `spec`, whose directories held these `models`.
    pub fn open(spec: &RoundSpec, models: &[String], device: Device) -> Result<Self, Failure> {
        let work = serde_json::to_vec(&spec.work()).expect("a spec is plain data");
        Self::at(&spec.journal_dir, &work, models, device)
    }

    /// The journal of `work` in `dir`, which is made if it is not there.
    pub fn at(dir: &Path, work: &[u8], models: &[String], device: Device) -> Result<Self, Failure> {
        let (stamp, origin) = (dir.join(JOURNAL_SPEC), dir.join(ORIGIN));
        let by = [&[PRODUCER.to_owned()], models].concat().join("\n");
        let holds = |path: &Path, bytes: &[u8]| fs::read(path).ok().as_deref() == Some(bytes);
        if !holds(&stamp, work) || !holds(&origin, by.as_bytes()) {
            match fs::remove_dir_all(dir) {
                Err(cause) if cause.kind() != ErrorKind::NotFound => return Err(Failure::write(dir)(cause)),
                _ => {}
            }
            fs::create_dir(dir).map_err(Failure::write(dir))?;
            write_synced(&origin, by.as_bytes())?;
            write_synced(&stamp, work)?;
            sync_dir(dir)?;
        }
        Ok(Self { dir: dir.to_owned(), device, saved: Instant::now(), pace: PACE })
    }

    /// Another time between two savings than [`PACE`].
    pub fn save_every(&mut self, pace: Duration) {
        self.pace = pace;
    }

    /// Tensors that were kept under `name`, if they are there and whole.
    pub fn result(&self, name: &str) -> Option<BTreeMap<String, Tensor>> {
        self.read(&self.path(name, "result"))
    }

    /// Keeps the result of a stage and forgets the training that led to it.
    pub fn keep_result(&mut self, name: &str, tensors: &[(String, Tensor)]) -> Result<(), Failure> {
        self.write(&self.path(name, "result"), tensors)?;
        self.forget(name)
    }

    /// The training or the pass called `name`, if it was under way.
    pub fn progress(&self, name: &str) -> Option<Saved> {
        let number = |tensors: &mut BTreeMap<String, Tensor>, key: &str| {
            tensors.remove(key).and_then(|t| u32::try_from(t.int64_value(&[])).ok())
        };
        let mut tensors = self.read(&self.path(name, "progress"))?;
        let (attempt, step) = (number(&mut tensors, "attempt")?, number(&mut tensors, "step")?);
        Some(Saved { attempt, step, tensors })
    }

    /// Whether what is under way should be saved.
    pub fn due(&self) -> bool {
        self.saved.elapsed() >= self.pace
    }

    pub fn keep_progress(&mut self, name: &str, saved: &Saved) -> Result<(), Failure> {
        let numbers = [("attempt", saved.attempt), ("step", saved.step)];
        let mut tensors: Vec<(String, Tensor)> =
            numbers.map(|(key, n)| (key.to_owned(), Tensor::from(i64::from(n)))).into();
        tensors.extend(saved.tensors.iter().map(|(key, t)| (key.clone(), t.shallow_clone())));
        self.write(&self.path(name, "progress"), &tensors)?;
        self.saved = Instant::now();
        Ok(())
    }

    /// What this and earlier runs of the work warned of.
    pub fn warnings(&self) -> Vec<String> {
        let read = || serde_json::from_slice(&fs::read(self.dir.join(WARNINGS)).ok()?).ok();
        read().unwrap_or_default()
    }

    /// Keeps a warning for the runs to come.
    pub fn keep_warning(&self, message: &str) -> Result<(), Failure> {
        let mut all = self.warnings();
        if all.iter().any(|kept| kept == message) {
            return Ok(());
        }
        all.push(message.to_owned());
        let bytes = serde_json::to_vec(&all).expect("strings are plain data");
        self.replace(&self.dir.join(WARNINGS), |fresh| fs::write(fresh, &bytes))
    }

    fn forget(&self, name: &str) -> Result<(), Failure> {
        let path = self.path(name, "progress");
        match fs::remove_file(&path) {
            Err(cause) if cause.kind() != ErrorKind::NotFound => Err(Failure::write(&path)(cause)),
            _ => Ok(()),
        }
    }

    fn path(&self, name: &str, kind: &str) -> PathBuf {
        self.dir.join(format!("{}.{kind}", name.replace([' ', ','], "-")))
    }

    fn read(&self, path: &Path) -> Option<BTreeMap<String, Tensor>> {
        from_safetensors(&fs::read(path).ok()?, self.device)
    }

    fn write(&self, path: &Path, tensors: &[(String, Tensor)]) -> Result<(), Failure> {
        let named: Vec<(&str, Tensor)> = tensors.iter().map(|(name, t)| (name.as_str(), t.shallow_clone())).collect();
        self.replace(path, |fresh| write_safetensors(fresh, &named))
    }

    /// Puts what `write` writes in the place of the file at `path`, whole or not at all.
    fn replace(&self, path: &Path, write: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<(), Failure> {
        let fresh = path.with_extension("new");
        let _ = fs::remove_file(&fresh); // of a run that was cut off
        let synced = write(&fresh).and_then(|()| File::open(&fresh)?.sync_all());
        synced.map_err(Failure::write(&fresh))?;
        fs::rename(&fresh, path).map_err(Failure::write(path))?;
        sync_dir(&self.dir)
    }
}
