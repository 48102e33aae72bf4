//! What becomes of a candidate: staged, replayed through ONNX Runtime, judged, and only then promoted.
//!
//! Everything here waits for the disk or the processor and belongs on a blocking thread.

use crate::control::GenerationStatus;
use crate::model::Base;
use crate::serve::{Controller, LoadError, Ready, Running};
use crate::store::{Generation, Staged, Store, StoreError};
use coft_core::event::FailureKind;
use coft_core::ids::{GenerationId, RoundId};
use coft_core::promotion::{self, Verdict};
use coft_vision::Preprocess;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use tracing::{info, warn};

/// Generations that are kept beside the active one and the one before it. 5 [choice].
const KEPT: usize = 5;

/// Those who decide: the store, and the classifier that generations serve in.
#[derive(Clone)]
pub struct Court {
    store: Arc<Mutex<Store>>,
    controller: Arc<Controller>,
}

#[derive(Debug)]
pub enum Judgement {
    Promote(Box<Promotion>),
    /// Why the active generation stays.
    Keep(String),
}

#[derive(Debug)]
pub struct Promotion {
    staged: Staged,
    ready: Ready,
}

/// Why there is no verdict, or why it could not be carried out.
#[derive(Debug)]
pub struct Trouble {
    pub kind: FailureKind,
    pub message: String,
    pub hint: String,
}

impl Court {
    pub fn new(store: Store, controller: Controller) -> Self {
        Self { store: Arc::new(Mutex::new(store)), controller: Arc::new(controller) }
    }

    /// Where rounds keep their own directories.
    pub fn scratch(&self) -> PathBuf {
        self.store().scratch()
    }

    /// Whether the active generation knows these classes, comes from this model and reads images of its size.
    pub fn is_current(&self, base: &Base) -> bool {
        self.store().active().is_some_and(|generation| {
            let manifest = &generation.manifest;
            let preprocess = Preprocess::from_json(&manifest.preprocessing);
            manifest.classes == base.classes
                && manifest.base_model == base.digest
                && preprocess.is_ok_and(|preprocess| preprocess == base.preprocess)
        })
    }

    /// What a round that did not live to its end has promoted, if anything.
    pub fn promoted_by(&self, round: RoundId) -> Option<GenerationId> {
        self.store().promoted_by(round)
    }

    /// Lets the active generation answer; none where there is none yet.
    pub fn serve_active(&self) -> Result<Option<GenerationId>, Trouble> {
        let Some(Generation { id, dir, .. }) = self.store().active().cloned() else { return Ok(None) };
        let ready = self.controller.load(&dir, id)?;
        self.controller.swap(ready);
        Ok(Some(id))
    }

    /// Takes a candidate into the store, replays its probe and judges it.
    pub fn judge(&self, candidate: &Path) -> Result<Judgement, Trouble> {
        let staged = self.store().stage(candidate)?;
        let ready = match self.controller.load(&staged.dir, staged.id) {
            Ok(ready) => ready,
            Err(error) => {
                self.store().discard(staged)?;
                return Err(error.into());
            }
        };
        let parity = ready.parity.max_abs_diff;
        info!(coft.round = staged.manifest.round.0, parity_max_abs_diff = parity, "candidate replayed");
        match promotion::judge(staged.manifest.method, parity, &staged.report) {
            Verdict::Promote => Ok(Judgement::Promote(Box::new(Promotion { staged, ready }))),
            Verdict::Keep(reason) => {
                self.store().discard(staged)?;
                Ok(Judgement::Keep(reason.to_string()))
            }
        }
    }

    /// Makes the candidate the active generation, on disk first and then in the classifier.
    pub fn promote(&self, promotion: Promotion) -> Result<GenerationId, Trouble> {
        let Promotion { staged, ready } = promotion;
        let generation = self.store().activate(staged, ready.parity.max_abs_diff)?;
        self.controller.swap(ready);
        match self.store().prune(KEPT) {
            Ok(expired) if expired.is_empty() => {}
            Ok(expired) => info!(generations = expired.len(), "old generations removed"),
            Err(error) => warn!(problem = %error, "old generations cannot be removed"),
        }
        Ok(generation.id)
    }

    /// Removes a candidate that was judged and is not wanted any more.
    pub fn drop_candidate(&self, promotion: Promotion) -> Result<(), Trouble> {
        Ok(self.store().discard(promotion.staged)?)
    }

    /// Removes what a round left behind.
    pub fn clear_up(&self) -> Result<(), Trouble> {
        Ok(self.store().clean_scratch()?)
    }

    /// Every generation, oldest first, and what the one that serves runs on.
    pub fn generations(&self) -> (Vec<GenerationStatus>, Running) {
        let store = self.store();
        let active = store.active().map(|generation| generation.id);
        let status = |generation: &Generation| GenerationStatus {
            generation: generation.id,
            dir: generation.dir.clone(),
            round: generation.manifest.round,
            method: generation.manifest.method.as_str().into(),
            created: generation.record.created,
            active: Some(generation.id) == active,
            images: generation.manifest.images,
            parity_max_abs_diff: generation.record.parity_max_abs_diff,
            report: serde_json::to_string(&generation.report).expect("a report is plain data"),
        };
        (store.generations().map(status).collect(), self.controller.running())
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().expect("nothing panics while it holds the store")
    }
}

impl Trouble {
    pub fn unexplained() -> Self {
        Self {
            kind: FailureKind::Internal,
            message: "the round ended without a verdict".into(),
            hint: "look into the log".into(),
        }
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        let (kind, hint) = match error.is_disk_full() {
            true => (FailureKind::DiskFull, "free some space; the active generation keeps serving"),
            false => (FailureKind::Internal, "the active generation keeps serving; look at the named file"),
        };
        Self { kind, message: error.to_string(), hint: hint.into() }
    }
}

impl From<LoadError> for Trouble {
    fn from(error: LoadError) -> Self {
        let hint = "the active generation keeps serving; look at the named file or library".into();
        Self { kind: FailureKind::Internal, message: error.to_string(), hint }
    }
}
