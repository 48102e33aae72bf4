//! One training: batches, gradients, steps, and the recovery from failures.
//!
//! Every phase states its loss and its parameters as an [`Objective`]; this module has what all phases share. A
//! training that is cut off continues from where it was last saved: batch k and every random draw of step k are
//! functions of the seed and of k. On the same processor, with the same libtorch and number of threads, it ends with
//! the same bits ([`crate::arithmetic`]). A loss that is not finite starts the training again, once, at a tenth of the
//! learning rate. A batch that does not fit into memory is computed in micro-batches, whose gradients add up to those
//! of the batch.

use crate::checkpoint::Checkpoint;
use crate::clip::autocast::{self, autocast};
use crate::error::RoundError;
use crate::journal::{Journal, Saved};
use crate::memory::Estimate;
use crate::pool::{Batch, BatchSampler, Pool};
use crate::progress::Reporter;
use crate::sgd::Sgd;
use coft_core::event::{Stage, Training};
use coft_core::settings::{self, MixedPrecision};
use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use tch::{Kind, Tensor};

/// Learning rate of a second attempt, divided by that of the first. [choice]
const CAUTION: f64 = 0.1;

/// What a phase trains, and its loss.
pub trait Objective {
    /// The parameters that are trained, by name.
    fn parameters(&self) -> Vec<(String, Tensor)>;

    /// The learning rate of a parameter, divided by that of the plan.
    fn lr_multiplier(&self, _name: &str) -> f64 {
        1.0
    }

    /// Tensors that change besides the parameters and have to be saved with them, by name; always the same names.
    fn state(&self) -> Vec<(String, Tensor)> {
        Vec::new()
    }

    /// Restores what [`Objective::state`] returned.
    fn restore(&mut self, _state: BTreeMap<String, Tensor>) {}

    /// The largest number of micro-batches that a batch of so many images can be computed in.
    fn max_micro_batches(&self, images: usize) -> usize {
        images
    }

    /// Called before the micro-batches of a batch are computed. It computes the tensors that all micro-batches need,
    /// once and without a graph, in about as many segments. The losses then use the tensors that it returns. It returns
    /// none where the batch is computed as a whole.
    fn begin(&mut self, _micro_batches: usize) -> Vec<Tensor> {
        Vec::new()
    }

    /// Computes the segment at `index` of [`Objective::begin`] again, with its graph. This is called after the gradient
    /// of the segment's tensor is known.
    fn again(&self, _index: usize) -> Tensor {
        unreachable!("asked for where begin gave something")
    }

    /// Terms of the loss over the rows `micro_batch` of the batch, by name. Each term is weighted, and divided by the
    /// number of images that it has in the whole batch, so that the terms of the micro-batches add up. A term without
    /// any image is left out.
    fn losses(&mut self, batch: &Batch, micro_batch: Range<usize>) -> Vec<(&'static str, Tensor)>;

    /// Called once after each step.
    fn stepped(&mut self) {}
}

/// A training to run.
#[derive(Debug)]
pub struct Plan<'a> {
    pub stage: Stage,
    pub sampler: BatchSampler<'a>,
    pub sgd: &'a settings::Sgd,
    pub steps: u32,
    /// The element type of matrix products.
    pub kind: Kind,
}

/// What every training and every prediction of a round shares: the reporter, the journal, and the memory that it may
/// use.
#[derive(Debug)]
pub struct TrainContext<'a> {
    pub reporter: &'a mut Reporter,
    pub journal: &'a mut Journal,
    /// What a training may need, and the free memory, both in bytes; `None` where the free memory of the device is
    /// unknown.
    pub memory: Option<(Estimate, u64)>,
    pub mixed_precision: MixedPrecision,
}

impl TrainContext<'_> {
    /// The element type of the matrix products when `checkpoint` is trained.
    pub fn kind(&self, checkpoint: &Checkpoint) -> Kind {
        autocast::kind(self.mixed_precision, checkpoint.device, checkpoint.config.vision_config.hidden_size)
    }

    /// Reports a warning once, even if the round is cut off and continues later.
    pub fn warn(&mut self, message: String) -> Result<(), RoundError> {
        let kept = self.journal.keep_warning(&message);
        self.reporter.warn(message)?;
        self.saved(kept)
    }

    /// Saves the result of a stage, so that a round that is cut off need not compute it again.
    pub fn keep_result(&mut self, name: &str, tensors: Vec<(String, Tensor)>) -> Result<(), RoundError> {
        let kept = self.journal.keep_result(name, tensors);
        self.saved(kept)
    }

    /// Saves a training or a prediction that is not finished.
    pub fn keep_progress(&mut self, name: &str, saved: &Saved) -> Result<(), RoundError> {
        let kept = self.journal.keep_progress(name, saved);
        self.saved(kept)
    }

    /// Turns a failure to write the journal into a warning: the round goes on and saves again later.
    pub fn saved(&mut self, kept: Result<(), RoundError>) -> Result<(), RoundError> {
        match kept {
            Err(RoundError::Write { cause, .. }) => Ok(self.reporter.warn(format!(
                "what the round has done cannot be saved ({cause}); the round goes on and saves again later; if it is cut off before \
                 that, it repeats what it did since the last saving"
            ))?),
            other => other,
        }
    }
}

/// Trains the objective that `make` returns. `make` must return an equal one each time.
pub fn fit<O: Objective>(
    plan: &Plan,
    pool: &Pool,
    ctx: &mut TrainContext,
    make: impl Fn() -> O,
) -> Result<O, RoundError> {
    let name = &plan.sampler.name;
    let saved = ctx.journal.progress(name);
    let attempts = saved.as_ref().map_or(0, |saved| saved.attempt)..2;
    let mut saved = saved;
    let mut outcome = None;
    for attempt in attempts {
        let mut objective = make();
        match run(plan, pool, ctx, &mut objective, attempt, saved.take()) {
            Ok(()) => return Ok(objective),
            Err(failure @ RoundError::NonFinite { .. }) => {
                if attempt == 0 {
                    ctx.warn(format!("{failure}; it starts over at a tenth of the learning rate"))?;
                }
                outcome = Some(failure);
            }
            Err(failure) => return Err(failure),
        }
    }
    Err(outcome.unwrap_or(RoundError::NonFinite { stage: plan.stage, step: 0 }))
}

const PARAMETER: &str = "parameter/";
const MOMENT: &str = "moment/";
const STATE: &str = "state/";

fn run(
    plan: &Plan,
    pool: &Pool,
    ctx: &mut TrainContext,
    objective: &mut impl Objective,
    attempt: u32,
    saved: Option<Saved>,
) -> Result<(), RoundError> {
    let Plan { stage, ref sampler, sgd: settings, steps, kind } = *plan;
    let parameters = objective.parameters();
    let parameters_with_lr = parameters.iter().map(|(name, t)| (t.shallow_clone(), objective.lr_multiplier(name)));
    let mut sgd = Sgd::new(parameters_with_lr.collect(), settings, steps);
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
            tch::no_grad(|| parameter.shallow_clone().copy_(&value)); // sets a value, not part of any graph
            take(MOMENT)
        });
        sgd.resume(&moments.collect::<Vec<_>>());
        let state = saved.tensors.into_iter();
        objective.restore(state.filter_map(|(name, t)| Some((name.strip_prefix(STATE)?.to_owned(), t))).collect());
        ctx.reporter.resume(u64::from(first) * sampler.size() as u64)?;
    }
    let mut micro_batches = match ctx.memory {
        Some((estimate, available)) => estimate.of(stage).micro_batches(sampler.size(), available)?,
        None => 1,
    };
    // Steps whose losses are not read yet. On a GPU, reading a loss waits for all computations that were started
    // before.
    let mut unread: Vec<Step> = Vec::new();
    pool.train(sampler, first..steps, |batch| {
        let (terms, gradients) = loop {
            match catch_unwind(AssertUnwindSafe(|| gradients(objective, &parameters, &batch, micro_batches, kind))) {
                Ok(found) => break found,
                Err(panic)
                    if no_memory(&*panic) && micro_batches < objective.max_micro_batches(batch.positions.len()) =>
                {
                    micro_batches *= 2;
                    ctx.warn(format!(
                        "memory does not hold a batch of {} in stage {}; it is computed in {micro_batches} parts from \
                         here on",
                        batch.positions.len(),
                        stage.as_str()
                    ))?;
                }
                Err(panic) => resume_unwind(panic),
            }
        };
        if !terms.is_empty() {
            sgd.step(batch.step, gradients);
        }
        objective.stepped();
        let step = batch.step + 1;
        let save_now = ctx.journal.due() && step < steps;
        unread.push(Step { number: batch.step, images: batch.positions.len(), terms });
        let told = match save_now || ctx.reporter.is_due() {
            true => read(&mut unread, plan)?,
            false => (0, None),
        };
        if save_now {
            ctx.keep_progress(&sampler.name, &underway((attempt, step), &parameters, &sgd, objective))?;
        }
        let stop = ctx.reporter.advance(told.0, told.1);
        if stop.is_err() && !save_now && step < steps {
            read(&mut unread, plan)?; // nothing is saved after a loss that is not finite
            ctx.keep_progress(&sampler.name, &underway((attempt, step), &parameters, &sgd, objective))?;
        }
        Ok::<(), RoundError>(stop?)
    })?;
    let (images, last) = read(&mut unread, plan)?;
    Ok(ctx.reporter.advance(images, last)?)
}

/// A step that was made. Its losses are still on the device.
struct Step {
    number: u32,
    images: usize,
    /// The terms of all micro-batches.
    terms: Vec<(&'static str, Tensor)>,
}

/// Reads the losses of `steps`. Returns the number of images in them and the report of the last step; an error where a
/// loss is not finite.
fn read(steps: &mut Vec<Step>, plan: &Plan) -> Result<(u64, Option<Training>), RoundError> {
    let mut told = (0, None);
    for Step { number, images, terms } in steps.drain(..) {
        let mut losses = BTreeMap::new();
        for (name, term) in terms {
            *losses.entry(name.to_owned()).or_default() += term.double_value(&[]);
        }
        let total: f64 = losses.values().sum();
        if !total.is_finite() {
            return Err(RoundError::NonFinite { stage: plan.stage, step: number });
        }
        losses.insert("total".to_owned(), total);
        let epoch = plan.sampler.epoch(number) as u32 + 1;
        let training = Training { epoch, step: number + 1, steps: plan.steps, losses };
        told = (told.0 + images as u64, Some(training));
    }
    Ok(told)
}

/// The terms of the loss of a batch and its gradients, added up over the micro-batches. The gradients are freed after
/// the step, before the next batch.
fn gradients(
    objective: &mut impl Objective,
    parameters: &[(String, Tensor)],
    batch: &Batch,
    micro_batches: usize,
    kind: Kind,
) -> (Vec<(&'static str, Tensor)>, Vec<Tensor>) {
    let mut all_terms = Vec::new();
    let mut gradients: Vec<Tensor> = Vec::new();
    let parameters: Vec<&Tensor> = parameters.iter().map(|(_, parameter)| parameter).collect();
    let segments = autocast(kind, || objective.begin(micro_batches));
    let leaves: Vec<&Tensor> = parameters.iter().copied().chain(&segments).collect();
    let size = batch.positions.len().div_ceil(micro_batches);
    for start in (0..batch.positions.len()).step_by(size) {
        let micro_batch = start..(start + size).min(batch.positions.len());
        let terms = autocast(kind, || objective.losses(batch, micro_batch));
        let Some(loss) = terms.iter().map(|(_, term)| term.shallow_clone()).reduce(|a, b| a + b) else { continue };
        // Detached: only the values are read, and the graph can be freed.
        all_terms.extend(terms.iter().map(|(name, term)| (*name, term.detach())));
        add(&mut gradients, Tensor::run_backward(&[loss], &leaves, false, false));
    }
    let of_segments = gradients.split_off(parameters.len().min(gradients.len()));
    for (index, gradient) in of_segments.into_iter().enumerate().filter(|(_, gradient)| gradient.defined()) {
        // By the chain rule, the gradient of this product is that of the loss.
        let product = autocast(kind, || (objective.again(index) * gradient).sum(Kind::Float));
        add(&mut gradients, Tensor::run_backward(&[product], &parameters, false, false));
    }
    (all_terms, gradients)
}

/// Adds the gradients of a micro-batch to the sums.
fn add(sums: &mut Vec<Tensor>, more: Vec<Tensor>) {
    *sums = match sums.is_empty() {
        true => more,
        false => std::mem::take(sums).into_iter().zip(more).map(|(sum, more)| added(sum, more)).collect(),
    };
}

fn added(sum: Tensor, more: Tensor) -> Tensor {
    match (sum.defined(), more.defined()) {
        (true, true) => sum + more,
        (true, false) => sum,
        (false, _) => more,
    }
}

/// Whether the message of a panic of tch says that an allocation failed.
pub fn no_memory(panic: &(dyn Any + Send)) -> bool {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.is_some_and(crate::error::is_out_of_memory)
}

/// What the journal saves of a training.
fn underway(
    (attempt, step): (u32, u32),
    parameters: &[(String, Tensor)],
    sgd: &Sgd,
    objective: &impl Objective,
) -> Saved {
    let moments = parameters.iter().zip(sgd.moments());
    let state = objective.state().into_iter().map(|(name, t)| (format!("{STATE}{name}"), t));
    let tensors = parameters
        .iter()
        .map(|(name, t)| (format!("{PARAMETER}{name}"), t.shallow_clone()))
        .chain(moments.map(|((name, _), t)| (format!("{MOMENT}{name}"), t.shallow_clone())))
        .chain(state)
        .collect();
    Saved { attempt, step, tensors }
}

#[cfg(test)]
mod tests;
