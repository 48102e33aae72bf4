//! `coft-trainer-dev bench` runs one phase of a round on given images and measures its speed and its memory.
//!
//! It calls the functions of the phases themselves, which read the images as in a round; it has no other logic. Each
//! phase has a process of its own, so that the process's peak memory belongs to that phase. `batches` writes what
//! another program needs to do the same work: the prompts, and the batches of both training phases as the pool makes
//! them.

use crate::checkpoint::Checkpoint;
use crate::clip::tensors::to_safetensors;
use crate::clip::text::padded;
use crate::cuda;
use crate::error::RoundError;
use crate::fit::TrainContext;
use crate::journal::Journal;
use crate::phase1::{self, Labels, PromptTuning, Seeds};
use crate::phase2::{Clean, FineTuning};
use crate::pool::{BatchSampler, Pool};
use crate::progress::Reporter;
use crate::prompts::ClassTokens;
use crate::round::use_threads;
use anyhow::{Context, ensure};
use coft_core::candidate::ModelIndex;
use coft_core::settings::{self, MixedPrecision, Settings};
use coft_core::spec::{self, Template};
use coft_models::Model;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};
use serde::Deserialize;
use serde_json::json;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// What is measured, as JSON.
    spec: PathBuf,
    #[arg(long, value_enum)]
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Phase {
    /// Writes the batches and the prompts for a peer; nothing is measured.
    Batches,
    ZeroShot,
    Phase1,
    Phase2,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BenchSpec {
    model: PathBuf,
    classes: Vec<String>,
    template: String,
    /// `batch` · `steps` images, so that each is visited once.
    images: Vec<PathBuf>,
    /// Images per step.
    batch: u32,
    /// Steps that are timed.
    steps: u32,
    /// Steps before the timed ones.
    warm_up: u32,
    threads: usize,
    device: spec::Device,
    mixed_precision: MixedPrecision,
    /// Directory that the batches are written to.
    batches: PathBuf,
}

const SEED: u64 = 0;

pub fn run(args: &Args) -> anyhow::Result<()> {
    let spec = fs::read(&args.spec).with_context(|| format!("reading {}", args.spec.display()))?;
    let spec: BenchSpec = serde_json::from_slice(&spec).with_context(|| format!("reading {}", args.spec.display()))?;
    ensure!(
        spec.images.len() == (spec.batch * spec.steps) as usize && spec.warm_up <= spec.steps,
        "{} images for {} steps of {}, {} of them to warm up",
        spec.images.len(),
        spec.steps,
        spec.batch,
        spec.warm_up
    );
    // Batches for the other program are written from CPU memory.
    let device = if args.phase == Phase::Batches { Device::Cpu } else { cuda::device(spec.device)? };
    use_threads(spec.threads, device);
    let checkpoint = Checkpoint::load(&spec.model, device)?;
    let paths: Vec<&Path> = spec.images.iter().map(PathBuf::as_path).collect();
    let pool = Pool::load(&paths, &checkpoint.preprocess, device)?;
    let template = Template { line: 1, text: spec.template.clone() };
    let text = phase1::text_features(&checkpoint, &[template], &spec.classes)?;
    let bench = Bench { spec: &spec, checkpoint: &checkpoint, pool: &pool, text: &text };
    if args.phase == Phase::Batches {
        return bench.write_batches();
    }
    let silent = File::options().write(true).open("/dev/null").context("opening /dev/null")?;
    let mut reporter = Reporter::new(silent, Default::default());
    let warm_up: Vec<usize> = (0..(spec.batch * spec.warm_up) as usize).collect();
    // The results of the warm-up must not be in the journal of the measured run.
    let dir = tempfile::tempdir()?;
    let mixed_precision = spec.mixed_precision;
    let mut phase = |name: &str, images: &[usize]| {
        let mut journal = Journal::at(&dir.path().join(name), b"bench".into(), &[], device);
        let mut ctx = TrainContext { reporter: &mut reporter, journal: &mut journal, memory: None, mixed_precision };
        bench.phase(args.phase, images, &mut ctx)
    };
    phase("warm-up", &warm_up)?;
    let resident = status_bytes("VmRSS")?;
    let (seconds, cpu_seconds) = phase("measured", &pool.everything())?;
    let measured = json!({
        "images_per_second": pool.len() as f64 / seconds,
        "images_per_cpu_second": pool.len() as f64 / cpu_seconds,
        // libtorch does not return GPU memory that it has allocated: the amount in use at the end is the peak.
        "peak_memory_bytes": match device {
            Device::Cpu => status_bytes("VmHWM")?,
            _ => cuda::memory().map(|memory| memory.total - memory.free).context("asking for the GPU's memory")?,
        },
        // Growth since the end of the warm-up.
        "growth_bytes": status_bytes("VmRSS")? as i64 - resident as i64,
    });
    println!("{measured}");
    Ok(())
}

/// Prints how long loading took, s, and which weight files were loaded.
pub fn load(model: &Path) -> anyhow::Result<()> {
    let files = Model::open(model)?.weights.paths();
    let start = Instant::now();
    Checkpoint::load(model, Device::Cpu)?;
    println!("{}", json!({ "seconds": start.elapsed().as_secs_f64(), "files": files }));
    Ok(())
}

struct Bench<'a> {
    spec: &'a BenchSpec,
    checkpoint: &'a Checkpoint,
    pool: &'a Pool<'a>,
    text: &'a Tensor,
}

impl Bench<'_> {
    /// Visits each of `images` once. Returns the wall time and the processor time of all threads, s.
    fn phase(&self, phase: Phase, images: &[usize], ctx: &mut TrainContext) -> Result<(f64, f64), RoundError> {
        let Self { spec, checkpoint, pool, text } = *self;
        let labels = self.labels();
        let settings = self.settings();
        let began;
        match phase {
            Phase::Batches => unreachable!("written, not measured"),
            Phase::ZeroShot => {
                began = (Instant::now(), cpu_time());
                phase1::zero_shot("model", checkpoint, text, pool, ctx)?;
            }
            Phase::Phase1 => {
                let tokens = ClassTokens::new(checkpoint, &spec.template, &spec.classes, &settings.phase1)?;
                let classes = spec.classes.len();
                let even = 1.0 / classes as f32;
                let labels = Labels {
                    confidence: vec![even; labels.len()],
                    probabilities: vec![even; labels.len() * classes],
                    classes: labels,
                };
                let tuning = PromptTuning {
                    checkpoint,
                    pool,
                    tokens: &tokens,
                    settings: &settings.phase1,
                    shares: None,
                    flip: true,
                    seed: SEED,
                    model: ModelIndex::First,
                    iteration: 1,
                };
                began = (Instant::now(), cpu_time());
                tuning.tuned(&Seeds { images, labels: &labels }, "bench", ctx)?;
            }
            Phase::Phase2 => {
                let tuning = FineTuning {
                    checkpoint,
                    pool,
                    text,
                    embedding_norm: 10.0,
                    settings: &settings.phase2,
                    flip: true,
                    contrast: false,
                    seed: SEED,
                    model: ModelIndex::First,
                };
                let kept: Vec<bool> = (0..pool.len()).map(|image| images.contains(&image)).collect();
                began = (Instant::now(), cpu_time());
                tuning.tuned(&Clean { kept: &kept, labels: &labels }, "bench", ctx)?;
            }
        }
        if let Device::Cuda(index) = checkpoint.device {
            tch::Cuda::synchronize(index as i64);
        }
        Ok((began.0.elapsed().as_secs_f64(), (cpu_time() - began.1).as_secs_f64()))
    }

    /// Speed does not depend on the labels: give each class in turn.
    fn labels(&self) -> Vec<usize> {
        (0..self.pool.len()).map(|image| image % self.spec.classes.len()).collect()
    }

    /// The default settings, with one epoch of the wanted number of steps.
    fn settings(&self) -> Settings {
        let mut settings = Settings::default();
        for sgd in [&mut settings.phase1.sgd, &mut settings.phase2.sgd] {
            *sgd = settings::Sgd { epochs: 1, batch: self.spec.batch, minimum_steps: 1, ..sgd.clone() };
        }
        settings
    }

    /// `prompts.safetensors`: `ids` [C, window], `ends` [C], `context` [M, W]; `N.safetensors` for each step: `pixels`
    /// [B, 3, S, S], `labels` and `complements` [B].
    fn write_batches(&self) -> anyhow::Result<()> {
        let Self { spec, checkpoint, pool, .. } = *self;
        let write = |name: &str, tensors: &[(&str, Tensor)]| {
            let path = spec.batches.join(format!("{name}.safetensors"));
            fs::write(&path, to_safetensors(tensors)).with_context(|| format!("writing {}", path.display()))
        };
        let settings = self.settings().phase1;
        let tokens = ClassTokens::new(checkpoint, &spec.template, &spec.classes, &settings)?;
        let (ids, ends) = padded(&tokens.ids, Device::Cpu);
        let ids = ids.constant_pad_nd([0, checkpoint.text.window() - ids.size()[1]]);
        let context = tokens.context.shallow_clone();
        write("prompts", &[("ids", ids), ("ends", Tensor::from_slice(&ends)), ("context", context)])?;
        let everything = pool.everything();
        let sampler = BatchSampler {
            images: &everything,
            batch: spec.batch as usize,
            crop_scale: settings.crop_scale,
            flip: true,
            views: 1,
            seed: SEED,
            name: "batches of a peer".to_owned(),
        };
        let labels = self.labels();
        pool.train(&sampler, 0..spec.steps, |batch| {
            let labels: Vec<i64> = batch.positions.iter().map(|&image| labels[image] as i64).collect();
            let labels = Tensor::from_slice(&labels);
            let complements = (&labels + 1).remainder(spec.classes.len() as i64).to_kind(Kind::Int64);
            let pixels = batch.views[0].shallow_clone();
            write(&batch.step.to_string(), &[("pixels", pixels), ("labels", labels), ("complements", complements)])
        })
    }
}

/// Processor time of all threads of this process, in user mode and in the kernel.
fn cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("a process may ask for its own usage");
    let micros = |time: TimeVal| Duration::from_micros(time.num_microseconds() as u64);
    micros(usage.user_time()) + micros(usage.system_time())
}

/// A line of /proc/self/status that states an amount of memory, in bytes.
fn status_bytes(key: &str) -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let kib: u64 = line
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .with_context(|| format!("/proc/self/status has no {key}"))?;
    Ok(kib * 1024)
}
