//! One training: batches, gradients, steps, and what can go wrong on the way.
//!
//! Every phase states its loss and its parameters as an [`Objective`]; here is what they share. A training that is cut off
//! continues where it was last saved and ends with the same bits on the CPU: batch k and every draw of step k are functions
//! of the seed and of k. A loss that is not finite starts the training over once at a tenth of the learning rate. A batch
//! that memory does not hold is computed in halves, whose gradients add up to the same step.

use crate::checkpoint::Checkpoint;
use crate::clip::autocast::{self, autocast};
use crate::failure::Failure;
use crate::journal::Journal;
use crate::memory::Estimate;
use crate::pool::{Batch, Pool, Visits};
use crate::progress::Reporter;
use crate::sgd::Sgd;
use coft_core::event::{Stage, Training};
use coft_core::settings::{self, MixedPrecision};
use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use tch::{Kind, Tensor};

/// The learning rate of a second attempt, over that of the first. [choice]
const CAUTION: f64 = 0.1;

/// What a phase trains.
pub trait Objective {
    /// What gradients move, by name.
    fn parameters(&self) -> Vec<(String, Tensor)>;

    /// The learning rate of a parameter over that of the plan.
    fn pace(&self, _name: &str) -> f64 {
        1.0
    }

    /// What changes besides and has to be saved with them, by name; always the same names.
    fn state(&self) -> Vec<(String, Tensor)> {
        Vec::new()
    }

    /// Takes back what [`Objective::state`] gave.
    fn restore(&mut self, _state: BTreeMap<String, Tensor>) {}

    /// Terms of the loss over `part` of the batch, by name, each already weighted and divided by what the whole batch asks
    /// for, so that the parts of a batch add up. A term without any image is left out.
    fn losses(&mut self, batch: &Batch, part: Range<usize>) -> Vec<(&'static str, Tensor)>;

    /// Called once after each step.
    fn stepped(&mut self) {}
}

/// A training to do.
#[derive(Debug)]
pub struct Plan<'a> {
    pub stage: Stage,
    pub visits: Visits<'a>,
    pub sgd: &'a settings::Sgd,
    pub steps: u32,
    /// What matrix products are computed in.
    pub kind: Kind,
}

/// Who hears of a training and who remembers it.
#[derive(Debug)]
pub struct Desk<'a> {
    pub reporter: &'a mut Reporter,
    pub journal: &'a mut Journal,
    /// What a training may need; absent where nothing is known of the device's memory.
    pub memory: Option<(Estimate, u64)>,
    pub mixed_precision: MixedPrecision,
}

impl Desk<'_> {
    /// What the matrix products of a training of `checkpoint` are computed in.
    pub fn kind(&self, checkpoint: &Checkpoint) -> Kind {
        autocast::kind(self.mixed_precision, checkpoint.device, checkpoint.config.vision_config.hidden_size)
    }
}

/// Trains what `make` makes; `make` must give the same each time.
pub fn fit<O: Objective>(plan: &Plan, pool: &Pool, desk: &mut Desk, make: impl Fn() -> O) -> Result<O, Failure> {
    let name = &plan.visits.name;
    let saved = desk.journal.progress(name);
    let attempts = saved.as_ref().map_or(0, |saved| saved.attempt)..2;
    let mut saved = saved;
    let mut outcome = None;
    for attempt in attempts {
        let mut objective = make();
        match run(plan, pool, desk, &mut objective, attempt, saved.take()) {
            Ok(()) => return Ok(objective),
            Err(failure @ Failure::NonFinite { .. }) => {
                if attempt == 0 {
                    desk.reporter.warn(format!("{failure}; it starts over at a tenth of the learning rate"))?;
                }
                outcome = Some(failure);
            }
            Err(failure) => return Err(failure),
        }
    }
    Err(outcome.unwrap_or(Failure::NonFinite { stage: plan.stage, step: 0 }))
}

/// A training as it was last saved.
#[derive(Debug)]
pub struct Saved {
    /// 0, or 1 after a loss that was not finite.
    pub attempt: u32,
    /// Steps done.
    pub step: u32,
    pub tensors: BTreeMap<String, Tensor>,
}

const PARAMETER: &str = "parameter/";
const MOMENT: &str = "moment/";
const STATE: &str = "state/";

fn run(
    plan: &Plan,
    pool: &Pool,
    desk: &mut Desk,
    objective: &mut impl Objective,
    attempt: u32,
    saved: Option<Saved>,
) -> Result<(), Failure> {
    let Plan { stage, ref visits, sgd: settings, steps, kind } = *plan;
    let parameters = objective.parameters();
    let paced = parameters.iter().map(|(name, t)| (t.shallow_clone(), objective.pace(name)));
    let mut sgd = Sgd::new(paced.collect(), settings, steps);
    if attempt > 0 {
        sgd.slow_down(CAUTION);
    }
    let mut first = 0;
    let whole = |saved: &Saved| {
        let fits = |key: String, t: &Tensor| saved.tensors.get(&key).is_some_and(|found| found.size() == t.size());
        let both = |name: &str, t: &Tensor| fits(format!("{PARAMETER}{name}"), t) && fits(format!("{MOMENT}{name}"), t);
        saved.step <= steps && parameters.iter().all(|(name, t)| both(name, t))
    };
    if let Some(mut saved) = saved.filter(whole) {
        first = saved.step;
        let moments = parameters.iter().map(|(name, parameter)| {
            let mut take = |kind: &str| saved.tensors.remove(&format!("{kind}{name}")).expect("whole() saw it");
            let value = take(PARAMETER);
            tch::no_grad(|| parameter.shallow_clone().copy_(&value)); // a value, not a step of any graph
            take(MOMENT)
        });
        sgd.resume(moments.collect());
        let state = saved.tensors.into_iter();
        objective.restore(state.filter_map(|(name, t)| Some((name.strip_prefix(STATE)?.to_owned(), t))).collect());
        desk.reporter.advance(u64::from(first) * visits.size() as u64, None)?;
    }
    let mut parts = match desk.memory {
        Some((estimate, available)) => estimate.parts(visits.size(), available)?,
        None => 1,
    };
    pool.train(visits, first..steps, |batch| {
        let (losses, gradients) = loop {
            match catch_unwind(AssertUnwindSafe(|| gradients(objective, &parameters, &batch, parts, kind))) {
                Ok(found) => break found,
                Err(panic) if no_memory(&*panic) && parts < batch.positions.len() => {
                    parts *= 2;
                    desk.reporter.warn(format!(
                        "memory does not hold a batch of {} in stage {}; it is computed in {parts} parts from here on",
                        batch.positions.len(),
                        stage.as_str()
                    ))?;
                }
                Err(panic) => resume_unwind(panic),
            }
        };
        let total: f64 = losses.values().sum();
        if !total.is_finite() {
            return Err(Failure::NonFinite { stage, step: batch.step });
        }
        if !losses.is_empty() {
            sgd.step(batch.step, gradients);
        }
        objective.stepped();
        let step = batch.step + 1;
        if desk.journal.due() && step < steps {
            save(desk.journal, &visits.name, attempt, step, &parameters, &sgd, objective)?;
        }
        let losses = losses.into_iter().map(|(name, value)| (name.to_owned(), value));
        let training = Training {
            epoch: visits.epoch(batch.step) as u32 + 1,
            step,
            steps,
            losses: losses.chain([("total".to_owned(), total)]).collect(),
        };
        Ok(desk.reporter.advance(batch.positions.len() as u64, Some(training))?)
    })
}

/// The terms of a batch's loss and its gradients, added up part by part. Gradients live for the step alone, not through the
/// next batch.
fn gradients(
    objective: &mut impl Objective,
    parameters: &[(String, Tensor)],
    batch: &Batch,
    parts: usize,
    kind: Kind,
) -> (BTreeMap<&'static str, f64>, Vec<Tensor>) {
    let mut sums = BTreeMap::new();
    let mut gradients: Vec<Tensor> = Vec::new();
    let parameters: Vec<&Tensor> = parameters.iter().map(|(_, parameter)| parameter).collect();
    let size = batch.positions.len().div_ceil(parts);
    for start in (0..batch.positions.len()).step_by(size) {
        let part = start..(start + size).min(batch.positions.len());
        let terms = autocast(kind, || objective.losses(batch, part));
        let Some(loss) = terms.iter().map(|(_, term)| term.shallow_clone()).reduce(|a, b| a + b) else { continue };
        let of_part = Tensor::run_backward(&[loss], &parameters, false, false);
        gradients = match gradients.is_empty() {
            true => of_part,
            false => gradients.into_iter().zip(of_part).map(|(sum, part)| added(sum, part)).collect(),
        };
        for (name, term) in terms {
            *sums.entry(name).or_default() += term.double_value(&[]);
        }
    }
    (sums, gradients)
}

fn added(sum: Tensor, part: Tensor) -> Tensor {
    match (sum.defined(), part.defined()) {
        (true, true) => sum + part,
        (true, false) => sum,
        (false, _) => part,
    }
}

/// Whether a panic of tch tells of an allocation that failed.
fn no_memory(panic: &(dyn Any + Send)) -> bool {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.is_some_and(crate::failure::is_out_of_memory)
}

fn save(
    journal: &mut Journal,
    name: &str,
    attempt: u32,
    step: u32,
    parameters: &[(String, Tensor)],
    sgd: &Sgd,
    objective: &impl Objective,
) -> Result<(), Failure> {
    let moments = parameters.iter().zip(sgd.moments());
    let state = objective.state().into_iter().map(|(name, t)| (format!("{STATE}{name}"), t));
    let tensors = parameters
        .iter()
        .map(|(name, t)| (format!("{PARAMETER}{name}"), t.shallow_clone()))
        .chain(moments.map(|((name, _), t)| (format!("{MOMENT}{name}"), t.shallow_clone())))
        .chain(state)
        .collect();
    journal.keep_progress(name, &Saved { attempt, step, tensors })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Bench;
    use crate::phase2::{Clean, FineTuning};
    use crate::progress::Stop;
    use std::cell::Cell;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    const STEPS: u32 = 6;

    /// (w·x̄ − 1)² over the mean pixel of each image; something goes wrong where a test says so.
    struct Toy {
        weight: Tensor,
        /// Largest part that "memory" holds.
        room: usize,
        /// Attempts whose loss is not a number.
        poisoned: u32,
        attempt: u32,
    }

    impl Toy {
        fn new(room: usize, poisoned: u32, attempts: &Cell<u32>) -> Self {
            attempts.set(attempts.get() + 1);
            let weight = Tensor::from_slice(&[0.5f32]).set_requires_grad(true);
            Self { weight, room, poisoned, attempt: attempts.get() }
        }
    }

    impl Objective for Toy {
        fn parameters(&self) -> Vec<(String, Tensor)> {
            vec![("weight".to_owned(), self.weight.shallow_clone())]
        }

        fn losses(&mut self, batch: &Batch, part: Range<usize>) -> Vec<(&'static str, Tensor)> {
            assert!(part.len() <= self.room, "DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes");
            let pixels = batch.views[0].narrow(0, part.start as i64, part.len() as i64);
            let means = pixels.mean_dim([1i64, 2, 3].as_slice(), false, Kind::Float);
            let poison = if self.attempt <= self.poisoned { f64::NAN } else { 1.0 };
            let loss = (means * &self.weight - 1.0).square().sum(Kind::Float) * poison;
            vec![("toy", loss / batch.positions.len() as f64)]
        }
    }

    fn toy(room: usize, poisoned: u32) -> (Result<f64, Failure>, u32, Vec<String>) {
        let bench = Bench::new(1);
        let (pool, mut desk) = (bench.pool(), bench.desk());
        let images = pool.everything();
        let sgd = settings::Sgd { batch: 8, ..bench.settings.phase2.sgd.clone() };
        let plan =
            Plan { stage: Stage::Phase2Model1, visits: visits(&images), sgd: &sgd, steps: STEPS, kind: Kind::Float };
        let attempts = Cell::new(0);
        let done = fit(&plan, &pool, &mut desk.borrow(), || Toy::new(room, poisoned, &attempts));
        (done.map(|toy| toy.weight.double_value(&[0])), attempts.get(), desk.warnings())
    }

    fn visits(images: &[usize]) -> Visits<'_> {
        Visits { images, batch: 8, crop_scale: 0.8, flip: true, views: 1, seed: 1, name: "test".into() }
    }

    #[test]
    fn a_batch_that_memory_does_not_hold_is_computed_in_parts() {
        let (whole, _, silent) = toy(8, 0);
        let (parts, _, warnings) = toy(3, 0);
        assert!(silent.is_empty());
        assert!(warnings.last().unwrap().contains("in 4 parts"), "{warnings:?}");
        let (whole, parts) = (whole.unwrap(), parts.unwrap());
        assert!((whole - parts).abs() < 1e-6, "{whole} {parts}");
        assert!(std::panic::catch_unwind(|| toy(0, 0)).is_err(), "one image at a time is the end of it");
    }

    #[test]
    fn a_loss_that_is_not_finite_starts_over_once() {
        let (done, attempts, warnings) = toy(8, 1);
        assert_eq!((attempts, warnings.len()), (2, 1), "{warnings:?}");
        let (quick, ..) = toy(8, 0);
        let (slow, quick) = (done.unwrap() - 0.5, quick.unwrap() - 0.5);
        assert!(slow.abs() < 0.3 * quick.abs(), "a tenth of the learning rate: {slow} {quick}");
        let (failed, attempts, _) = toy(8, 2);
        assert_eq!(attempts, 2);
        assert!(matches!(failed, Err(Failure::NonFinite { stage: Stage::Phase2Model1, step: 0 })));
    }

    /// A fine-tuning with momentum contrast that is cancelled after some steps.
    struct Interrupted<O> {
        inner: O,
        step: u32,
        left: u32,
        cancel: Arc<AtomicBool>,
    }

    impl<O: Objective> Objective for Interrupted<O> {
        fn parameters(&self) -> Vec<(String, Tensor)> {
            self.inner.parameters()
        }
        fn state(&self) -> Vec<(String, Tensor)> {
            self.inner.state()
        }
        fn restore(&mut self, state: BTreeMap<String, Tensor>) {
            self.inner.restore(state);
        }
        fn pace(&self, name: &str) -> f64 {
            self.inner.pace(name) * if name == "head.weight" { 2.0 } else { 1.0 }
        }
        fn losses(&mut self, batch: &Batch, part: Range<usize>) -> Vec<(&'static str, Tensor)> {
            self.step = batch.step;
            self.inner.losses(batch, part)
        }
        fn stepped(&mut self) {
            self.inner.stepped();
            self.left -= 1;
            self.cancel.store(self.left == 0 && self.step + 1 < STEPS, Ordering::Relaxed);
        }
    }

    /// The weights after all steps, of which no more than `at_once` are done in a run.
    fn tuned(task: &FineTuning, clean: &Clean, bench: &Bench, at_once: u32) -> Vec<Tensor> {
        let images = task.visited(clean);
        let visits = Visits { views: 2, ..visits(&images) };
        let (stage, sgd) = (Stage::Phase2Model1, &task.settings.sgd);
        let plan = Plan { stage, visits, sgd, steps: STEPS, kind: Kind::Float };
        for _ in 0..=STEPS {
            let mut desk = bench.desk();
            desk.save_every_step();
            let cancel = desk.cancel();
            let make = || {
                let inner = task.objective(clean, "test");
                Interrupted { inner, step: 0, left: at_once, cancel: cancel.clone() }
            };
            match fit(&plan, task.pool, &mut desk.borrow(), make) {
                Ok(done) => return done.parameters().into_iter().map(|(_, t)| t).collect(),
                Err(Failure::Stop(Stop::Cancelled)) => {}
                Err(failure) => panic!("{failure}"),
            }
        }
        panic!("it never ends");
    }

    #[test]
    fn an_interrupted_training_ends_with_the_same_bits() {
        let weights = |at_once| {
            let bench = Bench::new(2);
            let (pool, text, zero_shot) = (bench.pool(), bench.text(), bench.zero_shot());
            let task = bench.fine_tuning(&pool, &text, zero_shot.embedding_norm, true);
            let kept: Vec<bool> = (0..pool.len()).map(|i| i % 3 > 0).collect();
            tuned(&task, &Clean { kept: &kept, labels: &zero_shot.labels.classes }, &bench, at_once)
        };
        let whole = weights(100);
        for at_once in [1, 4] {
            let same = whole.iter().zip(weights(at_once)).all(|(a, b)| a.equal(&b));
            assert!(same, "{at_once} steps at once");
        }
    }

    #[test]
    fn what_a_broken_journal_holds_is_computed_again() {
        let bench = Bench::new(1);
        let mut journal = Journal::open(&bench.spec(coft_core::spec::Method::Coft), tch::Device::Cpu).unwrap();
        journal.keep_result("a", &[("x".to_owned(), Tensor::from_slice(&[1.0f32]))]).unwrap();
        assert!(journal.result("a").is_some());
        let dir = bench.spec(coft_core::spec::Method::Coft).journal_dir;
        std::fs::write(dir.join("a.result"), "short").unwrap();
        assert!(journal.result("a").is_none());
        let other = coft_core::spec::RoundSpec { seed: 2, ..bench.spec(coft_core::spec::Method::Coft) };
        Journal::open(&other, tch::Device::Cpu).unwrap();
        assert!(!dir.join("a.result").exists(), "another spec's");
    }
}
