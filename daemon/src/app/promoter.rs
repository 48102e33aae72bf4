//! What happens to a candidate: it is staged, replayed through ONNX Runtime, judged, and only then promoted.
//!
//! Everything here waits for the disk or the processor and belongs on a blocking thread.

mod candidate;
mod comparison;
mod failures;

pub use candidate::{Promotion, PromotionOutcome, RefusedCandidate};
pub use comparison::{Compared, Contender};
pub use failures::{stopped, unexplained};

use crate::control::GenerationStatus;
use crate::model::Base;
use crate::serve::{Controller, LoadError, Ready, ServingStatus, UnderWay};
use crate::store::{Generation, Staged, Store, remove_tree};
use candidate::{Candidate, foreign};
use coft_core::event::Failure;
use coft_core::ids::{GenerationId, JobId};
use coft_core::manifest::Manifest;
use coft_core::promotion::{self, Reason, Verdict};
use coft_core::retention;
use coft_core::shares::Shares;
use coft_core::spec::Method;
use comparison::side_by_side;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Promotes generations: holds the store, and the classifier in which generations serve.
#[derive(Clone)]
pub struct Promoter {
    store: Arc<Mutex<Store>>,
    controller: Arc<Controller>,
}

impl Promoter {
    pub fn new(store: Store, controller: Controller) -> Self {
        Self { store: Arc::new(Mutex::new(store)), controller: Arc::new(controller) }
    }

    /// Directory that holds a directory for each job.
    pub fn scratch(&self) -> PathBuf {
        self.store().scratch()
    }

    /// Whether the active generation knows these classes, comes from this model and reads images of the right size. A
    /// zero-shot generation, which is made in seconds, must also expect the classes in these shares.
    pub fn is_current(&self, base: &Base) -> bool {
        let cheap = |manifest: &Manifest| manifest.method == Method::ZeroShot;
        self.store().active().is_some_and(|Generation { manifest, .. }| {
            foreign(manifest, base).is_none() && (!cheap(manifest) || manifest.shares == base.shares)
        })
    }

    /// The latest generation that has learnt from images and was made for these classes, this model and these shares,
    /// before others were configured; it could serve again.
    pub fn fitting(&self, base: &Base) -> Option<GenerationId> {
        let store = self.store();
        let fits = |kept: &&Generation| {
            let has_learnt = kept.manifest.method != Method::ZeroShot;
            let same_shares = kept.manifest.shares == base.shares;
            has_learnt && kept.record.refused.is_none() && foreign(&kept.manifest, base).is_none() && same_shares
        };
        store.generations().filter(fits).map(|kept| kept.id).last()
    }

    /// The shares of the classes that a generation expects, if it is there and was made with some.
    pub fn expects(&self, generation: GenerationId) -> Option<Shares> {
        self.store().generation(generation).ok().and_then(|kept| kept.manifest.shares.clone())
    }

    /// The order in which a generation has the classes of `base`, if one of this model has all of them, no others, and
    /// another order: the order alone is no reason to make another generation.
    pub fn order_of(&self, base: &Base) -> Option<Vec<String>> {
        let alike = |classes: &[String]| classes.iter().collect::<BTreeSet<_>>() == base.classes.iter().collect();
        let store = self.store();
        let fits = |kept: &&Generation| kept.manifest.base_model == base.digest && alike(&kept.manifest.classes);
        let latest = || store.generations().filter(fits).last();
        store
            .active()
            .filter(fits)
            .or_else(latest)
            .map(|kept| kept.manifest.classes.clone())
            .filter(|classes| *classes != base.classes)
    }

    /// The generation that an interrupted job has promoted, if any.
    pub fn promoted_by(&self, job: JobId) -> Option<GenerationId> {
        self.store().promoted_by(job)
    }

    /// Sets the answer to requests while the first generation waits for something; none if only the first job is
    /// missing.
    pub fn waiting(&self, why: Option<String>) {
        self.controller.waiting(why);
    }

    /// Sets the user's thresholds, by the names of classes: from now on answers say which class these decide for.
    pub fn decide_by(&self, thresholds: BTreeMap<String, f64>) {
        self.controller.decide_by(thresholds);
    }

    /// The highest number of a job that a generation names; 0 if there is none.
    pub fn last_job(&self) -> JobId {
        self.store().last_job()
    }

    /// The classes of the active generation, if there is one.
    pub fn active_classes(&self) -> Option<Vec<String>> {
        self.store().active().map(|active| active.manifest.classes.clone())
    }

    /// Makes requests answer that the active generation is being loaded, if there is one.
    pub fn announce_loading(&self) {
        self.store().active().iter().for_each(|active| self.controller.loading(active.id));
    }

    /// Makes requests answer that loading the active generation has failed.
    pub fn loading_failed(&self, cause: String) {
        self.store().active().iter().for_each(|active| self.controller.cannot_load(active.id, cause.clone()));
    }

    /// Tries again to make the active generation serve. Checks its files first, which may have changed since the store
    /// checked them.
    pub fn serve_again(&self) {
        let Some(generation) = self.store().active().cloned() else { return };
        match generation.verify() {
            Ok(()) => self.serve_active(),
            Err(error) => self.controller.cannot_load(generation.id, error.to_string()),
        }
    }

    /// Makes the active generation serve, if there is one; if it cannot be loaded, requests get the reason.
    pub fn serve_active(&self) {
        let Some(Generation { id, dir, manifest, .. }) = self.store().active().cloned() else { return };
        let loaded = self.controller.load(&dir, id).and_then(|ready| {
            let found = ready.parity.max_abs_diff;
            match promotion::agrees(manifest.precision, found) {
                true => Ok(ready),
                false => Err(LoadError::NoProvider(format!("the probabilities differ from torch's by {found:.1e}"))),
            }
        });
        match loaded {
            Ok(ready) => {
                let store = self.store();
                // A job may have promoted another generation meanwhile, which serves.
                if store.active().is_some_and(|active| active.id == id) {
                    self.controller.swap(ready);
                }
            }
            Err(error) => self.controller.cannot_load(id, error.to_string()),
        }
    }

    /// Takes a candidate into the store, replays its probe and judges it. If this is stopped, nothing of the candidate
    /// stays.
    pub fn judge(&self, candidate: &Path, stop: &CancellationToken) -> Result<PromotionOutcome, Failure> {
        let staged = self.store().stage(candidate)?;
        let job = staged.manifest.round;
        self.decide(staged, None, stop, |staged| {
            let ready = self.controller.load(&staged.dir, staged.id)?;
            let parity = ready.parity.max_abs_diff;
            info!(
                coft.job = job.0,
                parity_max_abs_diff = parity,
                "candidate of job {job} replayed: its probabilities differ from torch's by {parity:.1e} at most"
            );
            let shares = &staged.manifest.shares;
            let verdict = promotion::judge(
                staged.manifest.method,
                staged.manifest.precision,
                parity,
                shares.as_ref(),
                &staged.report,
            );
            // The candidate is zero-shot's model with the shares that the user tells now. What serves expects others.
            let others = self.store().active().is_some_and(|active| active.manifest.shares != *shares);
            Ok(match verdict {
                Verdict::Keep(Reason::NothingBetter) if others => (Verdict::Promote, Some(ready)),
                verdict => (verdict, Some(ready)),
            })
        })
    }

    /// The same for a generation that another service made, which is judged by its answers on images of this service.
    pub fn judge_import(
        &self,
        candidate: &Path,
        job: JobId,
        base: &Base,
        images: &[PathBuf],
        stop: &CancellationToken,
    ) -> Result<PromotionOutcome, Failure> {
        let staged = self.store().stage(candidate)?;
        self.decide(staged, Some(job), stop, |staged| {
            if let Some(what) = foreign(&staged.manifest, base) {
                return Ok((Verdict::Keep(Reason::Foreign { what }), None));
            }
            let ready = self.controller.load(&staged.dir, staged.id)?;
            let parity = ready.parity.max_abs_diff;
            // A generation of other classes or another model is no measure.
            let measure = self.store().active().is_some_and(|active| foreign(&active.manifest, base).is_none());
            let images = if measure { images } else { &[] };
            let [active, found] =
                side_by_side(images, stop, |image| self.controller.answer(image), |image| ready.answer(image))?;
            let images = active.len() / base.classes.len().max(1);
            info!(
                coft.job = job.0,
                parity_max_abs_diff = parity,
                images,
                "import {job} replayed: its probabilities differ from torch's by {parity:.1e} at most; compared with \
                 the active generation on {images} images"
            );
            Ok((
                promotion::judge_import(
                    staged.manifest.precision,
                    parity,
                    &base.classes,
                    &found,
                    &active,
                    base.shares.as_ref(),
                ),
                Some(ready),
            ))
        })
    }

    /// Checks and replays a generation of the store again, so that it can serve again.
    pub fn judge_kept(
        &self,
        id: GenerationId,
        job: JobId,
        base: &Base,
        stop: &CancellationToken,
    ) -> Result<PromotionOutcome, Failure> {
        let generation = self.store().generation(id)?.clone();
        if let Some(what) = foreign(&generation.manifest, base) {
            return Ok(PromotionOutcome::Keep { reason: Reason::Foreign { what }.to_string(), candidate: None });
        }
        generation.verify()?;
        going_on(stop)?;
        let ready = self.controller.load(&generation.dir, id)?;
        let parity = ready.parity.max_abs_diff;
        info!(
            coft.job = job.0,
            coft.generation = id.0,
            parity_max_abs_diff = parity,
            "generation {id} replayed for activation {job}: its probabilities differ from torch's by {parity:.1e} at \
             most"
        );
        Ok(match promotion::judge_again(generation.manifest.precision, parity) {
            Verdict::Promote => {
                PromotionOutcome::Promote(Box::new(Promotion { candidate: Candidate::Kept { id, job }, ready }))
            }
            Verdict::Keep(reason) => PromotionOutcome::Keep { reason: reason.to_string(), candidate: None },
        })
    }

    /// Turns the verdict that `look` returns on a staged candidate into an outcome. The candidate leaves the store
    /// again unless it is to be promoted, or a person may still activate it.
    fn decide(
        &self,
        staged: Staged,
        imported_by: Option<JobId>,
        stop: &CancellationToken,
        look: impl FnOnce(&Staged) -> Result<(Verdict, Option<Ready>), Failure>,
    ) -> Result<PromotionOutcome, Failure> {
        match going_on(stop).and_then(|()| look(&staged)) {
            Ok((Verdict::Promote, Some(ready))) => {
                let candidate = Candidate::Staged { staged: Box::new(staged), imported_by };
                Ok(PromotionOutcome::Promote(Box::new(Promotion { candidate, ready })))
            }
            Ok((Verdict::Keep(reason), Some(ready))) if reason.can_be_overruled() => {
                let (parity_max_abs_diff, undecided) =
                    (ready.parity.max_abs_diff, matches!(reason, Reason::Undecided { .. }));
                let refused = RefusedCandidate { staged, parity_max_abs_diff, imported_by, undecided, review: None };
                let candidate = Some(Box::new(refused));
                Ok(PromotionOutcome::Keep { reason: reason.to_string(), candidate })
            }
            Ok((verdict, _)) => {
                self.store().discard(staged)?;
                match verdict {
                    Verdict::Keep(reason) => Ok(PromotionOutcome::Keep { reason: reason.to_string(), candidate: None }),
                    Verdict::Promote => Err(unexplained()),
                }
            }
            Err(failure) => {
                self.store().discard(staged)?;
                Err(failure)
            }
        }
    }

    /// Makes the candidate the active generation, on disk first and then in the classifier. `wanted` is a generation
    /// that a job is about to activate; it stays in the store.
    pub fn promote(&self, promotion: Promotion, wanted: Option<GenerationId>) -> Result<GenerationId, Failure> {
        let Promotion { candidate, ready } = promotion;
        let generation = match candidate {
            Candidate::Staged { staged, imported_by } => {
                self.store().activate(*staged, ready.parity.max_abs_diff, imported_by)?
            }
            Candidate::Kept { id, job } => self.store().activate_again(id, job)?,
        };
        self.controller.swap(ready.moved_to(&generation.dir));
        self.prune(wanted);
        Ok(generation.id)
    }

    /// Keeps a candidate that was refused for `reason` as a generation, which serves if somebody activates it. `wanted`
    /// is another generation that a job is about to activate; it stays in the store.
    pub fn keep(
        &self,
        refused: RefusedCandidate,
        reason: String,
        wanted: Option<GenerationId>,
    ) -> Result<GenerationId, Failure> {
        let RefusedCandidate { staged, parity_max_abs_diff, imported_by, .. } = refused;
        let kept = self.store().keep_refused(staged, parity_max_abs_diff, imported_by, reason)?;
        self.prune(wanted);
        Ok(kept)
    }

    fn prune(&self, wanted: Option<GenerationId>) {
        match self.store().prune(retention::PROMOTED, retention::REFUSED, wanted) {
            Ok(expired) if expired.is_empty() => {}
            Ok(expired) => {
                let numbers: Vec<String> = expired.iter().map(ToString::to_string).collect();
                info!(generations = expired.len(), "old generations removed: {}", numbers.join(", "));
            }
            Err(error) => warn!(problem = %error, "old generations cannot be removed: {error}"),
        }
    }

    /// Removes a candidate that was judged and is not wanted any more.
    pub fn drop_candidate(&self, outcome: PromotionOutcome) -> Result<(), Failure> {
        let staged = match outcome {
            PromotionOutcome::Promote(promotion) => match promotion.candidate {
                Candidate::Staged { staged, .. } => Some(*staged),
                Candidate::Kept { .. } => None,
            },
            PromotionOutcome::Keep { candidate, .. } => candidate.map(|refused| refused.staged),
        };
        match staged {
            Some(staged) => Ok(self.store().discard(staged)?),
            None => Ok(()),
        }
    }

    /// Removes a job's own directory. If no candidate is being judged, also removes the engines of models that are
    /// gone: a candidate has engines before it is a generation.
    pub fn clear_up(&self, directory: &Path, none_is_judged: bool) -> Result<(), Failure> {
        let store = self.store();
        if none_is_judged
            && let Err(error) = self.controller.keep_engines_of(store.generations().map(|kept| &kept.manifest))
        {
            warn!(problem = %error, "engines of models that are gone cannot be removed: {error}");
        }
        Ok(remove_tree(directory)?)
    }

    /// Every generation, oldest first, and whether the active one serves and on which provider.
    pub fn generations(&self) -> (Vec<GenerationStatus>, ServingStatus) {
        let store = self.store();
        let active = store.active().map(|generation| generation.id);
        let status = |generation: &Generation| GenerationStatus {
            generation: generation.id,
            dir: generation.dir.clone(),
            job: generation.job(),
            method: generation.manifest.method.as_str().into(),
            created: generation.record.created,
            replaces: generation.record.replaces,
            active: Some(generation.id) == active,
            refused: generation.record.refused.clone(),
            images: generation.manifest.images,
            shares: shares_by_class(&generation.manifest),
            parity_max_abs_diff: generation.record.parity_max_abs_diff,
            report: serde_json::to_string(&generation.report).expect("a report is plain data"),
        };
        (store.generations().map(status).collect(), self.controller.running())
    }

    /// What the thread that runs the model works on.
    pub fn under_way(&self) -> Option<UnderWay> {
        self.controller.under_way()
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().expect("nothing panics while it holds the store")
    }
}

fn going_on(stop: &CancellationToken) -> Result<(), Failure> {
    if stop.is_cancelled() { Err(stopped()) } else { Ok(()) }
}

/// The shares that the user had set when a generation was made, with the names of the classes.
fn shares_by_class(manifest: &Manifest) -> Vec<(String, f64)> {
    let shares = manifest.shares.iter().flat_map(|shares| shares.as_slice());
    manifest.classes.iter().cloned().zip(shares.copied()).collect()
}

#[cfg(test)]
pub(super) mod tests;
