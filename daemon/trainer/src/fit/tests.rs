use super::*;
use crate::fixture::{self, Bench};
use crate::phase2::Clean;
use crate::progress::Stop;
use coft_core::spec::{Method, RoundSpec};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const STEPS: u32 = 6;

/// An objective with the loss (w·x̄ − 1)², where x̄ is the mean pixel of an image. Tests can make it fail.
struct Toy {
    weight: Tensor,
    /// Largest micro-batch that fits into the simulated memory.
    room: usize,
    /// Number of attempts whose loss is not a number.
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

    fn losses(&mut self, batch: &Batch, micro_batch: Range<usize>) -> Vec<(&'static str, Tensor)> {
        if micro_batch.len() > self.room {
            fixture::exhaust_memory();
        }
        let pixels = batch.views[0].narrow(0, micro_batch.start as i64, micro_batch.len() as i64);
        let means = pixels.mean_dim([1i64, 2, 3].as_slice(), false, Kind::Float);
        let poison = if self.attempt <= self.poisoned { f64::NAN } else { 1.0 };
        let loss = (means * &self.weight - 1.0).square().sum(Kind::Float) * poison;
        vec![("toy", loss / batch.positions.len() as f64)]
    }
}

fn toy(room: usize, poisoned: u32) -> (Result<f64, RoundError>, u32, Vec<String>) {
    let bench = Bench::new(1);
    let (pool, mut ctx) = (bench.pool(), bench.train_context());
    let images = pool.everything();
    let sgd = settings::Sgd { batch: 8, ..bench.settings.phase2.sgd.clone() };
    let plan =
        Plan { stage: Stage::Phase2Model1, sampler: sampler(&images), sgd: &sgd, steps: STEPS, kind: Kind::Float };
    let attempts = Cell::new(0);
    let done = fit(&plan, &pool, &mut ctx.borrow(), || Toy::new(room, poisoned, &attempts));
    (done.map(|toy| toy.weight.double_value(&[0])), attempts.get(), ctx.warnings())
}

fn sampler(images: &[usize]) -> BatchSampler<'_> {
    BatchSampler { images, batch: 8, crop_scale: 0.8, flip: true, views: 1, seed: 1, name: "test".into() }
}

#[test]
fn a_batch_that_memory_does_not_hold_is_computed_in_micro_batches() {
    let (whole, _, silent) = toy(8, 0);
    let (split, _, warnings) = toy(3, 0);
    assert!(silent.is_empty());
    assert!(warnings.last().unwrap().contains("in 4 parts"), "{warnings:?}");
    let (whole, split) = (whole.unwrap(), split.unwrap());
    assert!((whole - split).abs() < 1e-6, "{whole} {split}");
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
    assert!(matches!(failed, Err(RoundError::NonFinite { stage: Stage::Phase2Model1, step: 0 })));
}

/// A training that is cancelled after some steps.
struct Interrupted<O> {
    inner: O,
    step: u32,
    left: u32,
    /// Largest micro-batch that fits into the simulated memory.
    room: usize,
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
    fn lr_multiplier(&self, name: &str) -> f64 {
        self.inner.lr_multiplier(name)
    }
    fn begin(&mut self, micro_batches: usize) -> Vec<Tensor> {
        self.inner.begin(micro_batches)
    }
    fn again(&self, index: usize) -> Tensor {
        self.inner.again(index)
    }
    fn losses(&mut self, batch: &Batch, micro_batch: Range<usize>) -> Vec<(&'static str, Tensor)> {
        if micro_batch.len() > self.room {
            fixture::exhaust_memory();
        }
        self.step = batch.step;
        self.inner.losses(batch, micro_batch)
    }
    fn stepped(&mut self) {
        self.inner.stepped();
        self.left -= 1;
        self.cancel.store(self.left == 0 && self.step + 1 < STEPS, Ordering::Relaxed);
    }
}

/// The trained tensors after all steps. Each run does at most `at_once` steps, and the simulated memory holds at most
/// `room` images.
fn tuned<O: Objective>(
    images: &[usize],
    bench: &Bench,
    (at_once, room): (u32, usize),
    objective: impl Fn() -> O,
) -> Vec<Tensor> {
    let (stage, sgd, pool) = (Stage::Phase2Model1, &bench.settings.phase1.sgd, bench.pool());
    let plan =
        Plan { stage, sampler: BatchSampler { views: 2, ..sampler(images) }, sgd, steps: STEPS, kind: Kind::Float };
    for _ in 0..=STEPS {
        let mut ctx = bench.train_context();
        if at_once > 1 {
            ctx.save_every_step(); // with one step per run, the cancelled run saves it anyway
        }
        let cancel = ctx.cancel();
        let make = || Interrupted { inner: objective(), step: 0, left: at_once, room, cancel: cancel.clone() };
        match fit(&plan, &pool, &mut ctx.borrow(), make) {
            Ok(done) => return done.parameters().into_iter().map(|(_, t)| t).collect(),
            Err(RoundError::Stop(Stop::Cancelled)) => {}
            Err(failure) => panic!("{failure}"),
        }
    }
    panic!("it never ends");
}

/// Compares the result of [`tuned`] in one run with the results of runs that were cut off.
fn ends_with_the_same_bits(weights: impl Fn(u32) -> Vec<Tensor>) {
    let whole = weights(100);
    for at_once in [1, 4] {
        let same = whole.iter().zip(weights(at_once)).all(|(a, b)| a.equal(&b));
        assert!(same, "{at_once} steps at once");
    }
}

#[test]
fn an_interrupted_fine_tuning_with_contrast_ends_with_the_same_bits() {
    ends_with_the_same_bits(|at_once| {
        let bench = Bench::new(2);
        let (pool, text, zero_shot) = (bench.pool(), bench.text(), bench.zero_shot());
        let task = bench.fine_tuning(&pool, &text, zero_shot.embedding_norm, true);
        let kept: Vec<bool> = (0..pool.len()).map(|i| i % 3 > 0).collect();
        let clean = Clean { kept: &kept, labels: &zero_shot.labels.classes };
        tuned(&task.visited(&clean), &bench, (at_once, 8), || task.objective(&clean, "test"))
    });
}

fn tuned_prompts(at_once: u32, room: usize) -> Vec<Tensor> {
    let bench = Bench::new(2);
    let (pool, zero_shot, settings) = (bench.pool(), bench.zero_shot(), &bench.settings.phase1);
    let tokens = fixture::class_tokens(&bench.checkpoint, settings);
    let task = fixture::prompt_tuning(&bench.checkpoint, &pool, &tokens, settings);
    tuned(&pool.everything(), &bench, (at_once, room), || task.objective(&zero_shot.labels, "test"))
}

#[test]
fn an_interrupted_prompt_tuning_ends_with_the_same_bits() {
    ends_with_the_same_bits(|at_once| tuned_prompts(at_once, 8));
}

#[test]
fn a_prompt_tuning_in_micro_batches_ends_with_the_same_bits_and_near_one_that_is_whole() {
    ends_with_the_same_bits(|at_once| tuned_prompts(at_once, 3));
    for (whole, split) in tuned_prompts(100, 8).iter().zip(tuned_prompts(100, 3)) {
        let difference = (whole - split).norm().double_value(&[]) / whole.norm().double_value(&[]);
        assert!(difference > 0.0 && difference < 1e-5, "{difference}");
    }
}

#[test]
fn text_features_in_segments_teach_the_prompts_the_same() {
    let bench = Bench::new(1);
    let (pool, zero_shot, settings) = (bench.pool(), bench.zero_shot(), &bench.settings.phase1);
    let tokens = fixture::class_tokens(&bench.checkpoint, settings);
    let task = fixture::prompt_tuning(&bench.checkpoint, &pool, &tokens, settings);
    let mut tuning = task.objective(&zero_shot.labels, "test");
    let parameters = tuning.parameters();
    let positions = pool.everything();
    let batch = Batch { step: 0, views: vec![pool.batch(&positions)], positions };
    let (_, whole) = gradients(&mut tuning, &parameters, &batch, 1, Kind::Float);
    for (micro_batches, segments) in [(1, 0), (2, 2), (4, 4), (64, 20)] {
        assert_eq!(tuning.begin(micro_batches).len(), segments);
        let (_, split) = gradients(&mut tuning, &parameters, &batch, micro_batches, Kind::Float);
        for ((name, _), (whole, split)) in parameters.iter().zip(whole.iter().zip(&split)) {
            let difference = (whole - split).norm().double_value(&[]) / whole.norm().double_value(&[]);
            assert!(difference < 1e-5, "{name}: {difference}");
        }
    }
}

#[test]
fn a_warning_is_given_once_and_outlives_an_interruption() {
    let bench = Bench::new(1);
    let mut ctx = bench.train_context();
    for message in ["memory is short", "the camera is dark", "memory is short"] {
        ctx.borrow().warn(message.to_owned()).unwrap();
    }
    assert_eq!(ctx.warnings(), ["memory is short", "the camera is dark"]);
    assert_eq!(bench.train_context().borrow().journal.warnings(), ctx.warnings());
}

#[test]
fn what_a_broken_journal_holds_is_computed_again() {
    let bench = Bench::new(1);
    let open = |spec: &RoundSpec, model: &str| {
        let mut journal = Journal::open(spec, &[model.to_owned()], tch::Device::Cpu);
        journal.establish().unwrap();
        journal
    };
    let spec = bench.spec(Method::Coft);
    let mut journal = open(&spec, "model");
    journal.keep_result("a", vec![("x".to_owned(), Tensor::from_slice(&[1.0f32]))]).unwrap();
    assert!(journal.result("a").is_some());
    let kept = spec.journal_dir.join("a.result");
    std::fs::write(&kept, "short").unwrap();
    assert!(open(&spec, "model").result("a").is_none() && kept.exists());
    open(&spec, "another model");
    assert!(!kept.exists(), "another model's");
    std::fs::write(&kept, "short").unwrap();
    open(&RoundSpec { seed: 2, ..spec }, "another model");
    assert!(!kept.exists(), "another spec's");
}

fn steps_done(step: u32) -> Saved {
    Saved { attempt: 0, step, tensors: BTreeMap::new() }
}

/// A disk that was full for six seconds ended a round that had run for hours, and its journal was lost with it.
#[test]
fn a_journal_that_cannot_be_saved_is_a_warning_and_is_saved_later() {
    let bench = Bench::new(1);
    let mut ctx = bench.train_context();
    let dir = bench.spec(Method::Coft).journal_dir;
    ctx.borrow().keep_progress("a", &steps_done(1)).unwrap();
    // Directories have the names of the files, so each saving fails as on a full disk.
    let [progress, result, good] = ["a.progress", "a.result", "good"].map(|name| dir.join(name));
    std::fs::rename(&progress, &good).unwrap();
    [&progress, &result].into_iter().for_each(|blocked| std::fs::create_dir(blocked).unwrap());
    ctx.borrow().keep_progress("a", &steps_done(2)).unwrap();
    ctx.borrow().keep_result("a", vec![("x".to_owned(), Tensor::from_slice(&[1.0f32]))]).unwrap();
    std::fs::remove_dir(&progress).unwrap();
    std::fs::rename(&good, &progress).unwrap();
    assert_eq!(ctx.journal().progress("a").unwrap().step, 1, "the last good one");
    assert!(ctx.journal().result("a").is_none());
    let warnings = ctx.warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("cannot be saved"), "{warnings:?}");

    std::fs::remove_dir(&result).unwrap();
    ctx.borrow().keep_progress("b", &steps_done(3)).unwrap();
    let mut again = bench.train_context();
    assert!(again.journal().result("a").is_some() && again.journal().progress("a").is_none());
    assert_eq!(again.journal().progress("b").unwrap().step, 3);
}

#[test]
fn a_journal_that_cannot_be_made_is_made_later() {
    let bench = Bench::new(1);
    let (mut ctx, dir) = (bench.train_context(), bench.spec(Method::Coft).journal_dir);
    std::fs::write(&dir, "in its place").unwrap();
    ctx.borrow().keep_progress("a", &steps_done(1)).unwrap();
    assert!(ctx.journal().progress("a").is_none() && ctx.warnings().len() == 1);
    std::fs::remove_file(&dir).unwrap();
    ctx.borrow().keep_progress("a", &steps_done(2)).unwrap();
    assert_eq!(bench.train_context().journal().progress("a").unwrap().step, 2);
}
