//! What the tests of several modules share: the embedded model, and pictures of the parts that it knows.

use crate::checkpoint::Checkpoint;
use crate::fit::TrainContext;
use crate::journal::Journal;
use crate::phase1::{PromptTuning, ZeroShot, text_features, zero_shot};
use crate::phase2::FineTuning;
use crate::pool::Pool;
use crate::progress::Reporter;
use crate::prompts::ClassTokens;
use coft_core::candidate::ModelIndex;
use coft_core::ids::{ImageId, JobId};
use coft_core::settings::{MixedPrecision, Phase1, Settings};
use coft_core::spec::{Method, PROTOCOL, PoolImage, RoundSpec, Template};
use coft_harness::world::{Camera, EVAL_TEMPLATE, PARTS, write_set};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

pub const TEMPLATE: &str = EVAL_TEMPLATE;

pub fn model_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/demo-model")
}

pub fn checkpoint() -> Checkpoint {
    Checkpoint::load(&model_dir(), Device::Cpu).unwrap()
}

pub fn classes() -> Vec<String> {
    PARTS.iter().map(ToString::to_string).collect()
}

/// `per_part` camera pictures of each part, below `dir`.
pub fn images(dir: &Path, per_part: usize) -> Vec<PoolImage> {
    write_set(dir, &Camera::NIGHT_SHIFT, &[("adapt", per_part)], 5).unwrap();
    let folders = PARTS.iter().map(|part| dir.join("adapt").join(part.replace(' ', "_")));
    let mut paths: Vec<PathBuf> =
        folders.flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let id = |number| ImageId(format!("{number:064x}"));
    paths.into_iter().enumerate().map(|(number, path)| PoolImage { id: id(number), path, label: None }).collect()
}

/// The device for rounds in tests: the CPU, or CUDA if `COFT_TEST_DEVICE` is `cuda`. For CUDA, `LD_PRELOAD` has to name
/// libtorch_cuda.so: tests share a process, and the first test may use the CPU (see `cuda::device`).
pub fn device() -> coft_core::spec::Device {
    match std::env::var("COFT_TEST_DEVICE").as_deref() {
        Ok("cuda") => coft_core::spec::Device::Cuda,
        _ => coft_core::spec::Device::Cpu,
    }
}

/// Fails like libtorch when memory is exhausted.
pub fn exhaust_memory() {
    let _ = Tensor::empty([1 << 60], (Kind::Uint8, Device::Cpu));
}

/// The classes as tokens for the prompts.
pub fn class_tokens(checkpoint: &Checkpoint, settings: &Phase1) -> ClassTokens {
    ClassTokens::new(checkpoint, TEMPLATE, &classes(), settings).unwrap()
}

/// The prompt tuning of model 1 in its first iteration, without mirroring.
pub fn prompt_tuning<'a>(
    checkpoint: &'a Checkpoint,
    pool: &'a Pool<'a>,
    tokens: &'a ClassTokens,
    settings: &'a Phase1,
) -> PromptTuning<'a> {
    PromptTuning {
        checkpoint,
        pool,
        tokens,
        settings,
        shares: None,
        flip: false,
        seed: 1,
        model: ModelIndex::First,
        iteration: 1,
    }
}

/// A reporter whose events nobody reads.
pub fn reporter() -> Reporter {
    Reporter::new(File::options().write(true).open("/dev/null").unwrap(), Default::default())
}

/// The embedded model and a few pictures, with helpers that make the arguments of the phases.
pub struct Bench {
    dir: TempDir,
    pub checkpoint: Checkpoint,
    pub settings: Settings,
    pub images: Vec<PoolImage>,
}

/// Owns what a [`TrainContext`] borrows, for a test.
pub struct OwnedTrainContext {
    reporter: Reporter,
    journal: Journal,
    cancel: Arc<AtomicBool>,
}

impl OwnedTrainContext {
    /// The flag that cancels the round.
    pub fn cancel(&self) -> Arc<AtomicBool> {
        self.cancel.clone()
    }

    pub fn warnings(&self) -> Vec<String> {
        self.reporter.warnings()
    }

    pub fn save_every_step(&mut self) {
        self.journal.save_every(Duration::ZERO);
    }

    pub fn journal(&mut self) -> &mut Journal {
        &mut self.journal
    }

    pub fn borrow(&mut self) -> TrainContext<'_> {
        TrainContext {
            reporter: &mut self.reporter,
            journal: &mut self.journal,
            memory: None,
            mixed_precision: MixedPrecision::Off,
        }
    }
}

impl Bench {
    pub fn new(per_part: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let images = images(dir.path(), per_part);
        let mut settings = Settings::default();
        for sgd in [&mut settings.phase1.sgd, &mut settings.phase2.sgd] {
            (sgd.epochs, sgd.batch, sgd.minimum_steps) = (1, 8, 3);
        }
        Self { dir, checkpoint: checkpoint(), settings, images }
    }

    pub fn spec(&self, method: Method) -> RoundSpec {
        RoundSpec {
            protocol: PROTOCOL,
            round: JobId(1),
            method,
            model_dir: model_dir(),
            student_dir: None,
            image_size: None,
            class_lines: Vec::new(),
            shares: None,
            classes: classes(),
            template: TEMPLATE.into(),
            templates: Vec::new(),
            images: self.images.clone(),
            seed: 1,
            device: device(),
            precision: Default::default(),
            threads: 0,
            settings: self.settings.clone(),
            candidate_dir: self.dir.path().join("candidate"),
            journal_dir: self.dir.path().join("journal"),
            diagnostics: None,
        }
    }

    pub fn pool(&self) -> Pool<'_> {
        let paths: Vec<&Path> = self.images.iter().map(|image| image.path.as_path()).collect();
        Pool::load(&paths, &self.checkpoint.preprocess, Device::Cpu).unwrap()
    }

    pub fn text(&self) -> Tensor {
        text_features(&self.checkpoint, &[Template { line: 1, text: TEMPLATE.into() }], &classes()).unwrap()
    }

    pub fn zero_shot(&self) -> ZeroShot {
        zero_shot("model", &self.checkpoint, &self.text(), &self.pool(), &mut self.train_context().borrow()).unwrap()
    }

    pub fn fine_tuning<'a>(
        &'a self,
        pool: &'a Pool<'a>,
        text: &'a Tensor,
        embedding_norm: f64,
        contrast: bool,
    ) -> FineTuning<'a> {
        let (checkpoint, settings) = (&self.checkpoint, &self.settings.phase2);
        FineTuning {
            checkpoint,
            pool,
            text,
            embedding_norm,
            settings,
            flip: true,
            contrast,
            seed: 1,
            model: ModelIndex::First,
        }
    }

    pub fn train_context(&self) -> OwnedTrainContext {
        let cancel = Arc::new(AtomicBool::new(false));
        let nowhere = File::options().write(true).open("/dev/null").unwrap();
        let journal = Journal::open(&self.spec(Method::Coft), &[], Device::Cpu);
        OwnedTrainContext { reporter: Reporter::new(nowhere, cancel.clone()), journal, cancel }
    }
}
