//! `cargo xtask bench trainer`: speed and memory of the trainer's phases, compared with an eager PyTorch script that
//! does the same, `tests/peers/coft_torch.py`: same checkpoint, same images in batches of the same size, same number of
//! threads.
//!
//! Each phase of each side runs in a process of its own, so that the process's peak memory belongs to that phase. The
//! sides take turns, and the median of each figure is reported, so that other load on the machine affects both.

use super::labelled_set::LabelledSet;
use crate::built::{self, data, repository};
use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[derive(clap::Args)]
pub struct Args {
    /// CLIP directory in Hugging Face layout; else mini_clip64 of the test data, and ViT-B/32 with random weights.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Labelled set, a directory or a .tar.gz, of which the images and class names are taken; else cifar10 of the test data.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Images a step; else 64, and 32 for ViT-B/32.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    batch: Option<u32>,
    /// Timed steps; else 20, and 4 for ViT-B/32.
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..))]
    steps: Option<u32>,
    /// Times that every figure is taken.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Threads of each side; one a processor where it is not given.
    #[arg(long)]
    threads: Option<usize>,
    /// What both sides compute matrix products of the towers in while training.
    #[arg(long, default_value = "off", value_parser = ["off", "bf16"])]
    mixed_precision: String,
    /// What both sides compute on. On a GPU the peak is that of its memory, with CUDA's context.
    #[arg(long, default_value = "cpu", value_parser = ["cpu", "cuda"])]
    device: String,
    /// Python with torch and transformers, beside which --model and --data are to be given; else that of the checks.
    #[arg(long, requires_all = ["model", "data"])]
    python: Option<PathBuf>,
    /// Prints one JSON array instead of tables.
    #[arg(long)]
    json: bool,
}

struct Shape {
    name: String,
    model: PathBuf,
    batch: u32,
    steps: u32,
}

const PHASES: [&str; 3] = ["zero-shot", "phase1", "phase2"];

/// Number of steps of each side before the timed ones.
const WARM_UP: u32 = 1;

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct Figures {
    images_per_second: f64,
    /// Based on the processor time of all threads, which other work on the machine affects least.
    images_per_cpu_second: f64,
    peak_memory_bytes: u64,
    /// Resident memory at the end, minus that after the warm-up.
    growth_bytes: i64,
}

#[derive(Debug, Serialize)]
struct Row {
    model: String,
    phase: &'static str,
    batch: u32,
    steps: u32,
    rounds: u32,
    threads: usize,
    ours: Figures,
    peer: Figures,
    /// Our speed divided by the peer's.
    speed_ratio: f64,
    cpu_ratio: f64,
    memory_ratio: f64,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let python = match &args.python {
        Some(python) => python.clone(),
        None => built::variable("COFT_TEST_PYTHON")?.into(),
    };
    let peer = Peer { python, script: repository().join("tests/peers/coft_torch.py") };
    let trainer = built::coft_trainer_dev()?;
    let set = match &args.data {
        Some(data) => LabelledSet::read(data, &[])?,
        None => LabelledSet::read(&data("cifar10.tar.gz")?, &[])?,
    };
    let threads = args.threads.map_or_else(|| std::thread::available_parallelism().map(Into::into), Ok)?;
    let scratch = tempfile::tempdir()?;
    let shape = |name: &str, model, batch, steps| Shape {
        name: name.to_owned(),
        model,
        batch: args.batch.unwrap_or(batch),
        steps: args.steps.unwrap_or(steps),
    };
    let shapes = match &args.model {
        Some(model) => {
            let model = fs::canonicalize(model).with_context(|| format!("opening {}", model.display()))?;
            let name = model.file_name().unwrap_or_default().to_string_lossy().into_owned();
            vec![shape(&name, model, 64, 20)]
        }
        None => {
            let (mini, random) = (data("mini_clip64")?, scratch.path().join("vit-b-32"));
            peer.run(&["random".as_ref(), random.as_os_str(), "--like".as_ref(), mini.as_os_str()])?;
            vec![shape("mini_clip64", mini, 64, 20), shape("ViT-B/32, random", random, 32, 4)]
        }
    };
    let mut rows = Vec::new();
    for shape in &shapes {
        rows.extend(measure(args, shape, &set, threads, &trainer, &peer)?);
    }
    if args.json {
        println!("{}", serde_json::to_string(&rows)?);
    } else {
        print!("{}", table(&rows));
    }
    Ok(())
}

fn measure(
    args: &Args,
    shape: &Shape,
    set: &LabelledSet,
    threads: usize,
    trainer: &Path,
    peer: &Peer,
) -> anyhow::Result<Vec<Row>> {
    let count = (shape.batch * shape.steps) as usize;
    ensure!(set.adapt.len() >= count, "{} has {} images; {count} are needed", set.name, set.adapt.len());
    let scratch = tempfile::tempdir()?;
    let images: Vec<PathBuf> =
        set.adapt.iter().take(count).map(|image| fs::canonicalize(&image.path)).collect::<Result<_, _>>()?;
    let job = scratch.path().join("job.json");
    let content = json!({
        "model": shape.model, "classes": set.classes, "template": set.template, "images": images,
        "batch": shape.batch, "steps": shape.steps, "warm_up": WARM_UP, "threads": threads, "batches": scratch.path(),
        "mixed_precision": args.mixed_precision, "device": args.device,
    });
    fs::write(&job, serde_json::to_vec(&content)?)?;
    let ours = |phase: &str| {
        let mut command = Command::new(trainer);
        command.arg("bench").arg(&job).args(["--phase", phase]);
        output(&mut command)
    };
    ours("batches")?;

    let mut rows = Vec::new();
    for phase in PHASES {
        let mut taken = Vec::new();
        for round in 1..=args.rounds {
            eprintln!("{}: {phase}, {round} of {} ...", shape.name, args.rounds);
            let ours: Figures = serde_json::from_slice(&ours(phase)?)?;
            let peer = peer.run(&["bench".as_ref(), job.as_os_str(), "--phase".as_ref(), phase.as_ref()])?;
            taken.push((ours, serde_json::from_slice::<Figures>(&peer)?));
        }
        let ours = median(taken.iter().map(|(ours, _)| *ours));
        let peer = median(taken.iter().map(|(_, peer)| *peer));
        rows.push(Row {
            model: shape.name.clone(),
            phase,
            batch: shape.batch,
            steps: shape.steps,
            rounds: args.rounds,
            threads,
            ours,
            peer,
            speed_ratio: ours.images_per_second / peer.images_per_second,
            cpu_ratio: ours.images_per_cpu_second / peer.images_per_cpu_second,
            memory_ratio: ours.peak_memory_bytes as f64 / peer.peak_memory_bytes as f64,
        });
    }
    Ok(rows)
}

struct Peer {
    python: PathBuf,
    script: PathBuf,
}

impl Peer {
    fn run(&self, args: &[&std::ffi::OsStr]) -> anyhow::Result<Vec<u8>> {
        let mut command = Command::new(&self.python);
        // Nothing may be downloaded or looked up.
        command.arg(&self.script).args(args).env("HF_HUB_OFFLINE", "1").env("PYTHONDONTWRITEBYTECODE", "1");
        output(&mut command)
    }
}

fn output(command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output =
        command.stdin(Stdio::null()).stderr(Stdio::piped()).output().with_context(|| format!("starting {program}"))?;
    if !output.status.success() {
        bail!("{program} ended with {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(output.stdout)
}

/// The median of each figure separately.
fn median(taken: impl Iterator<Item = Figures> + Clone) -> Figures {
    fn middle<T: Copy>(values: impl Iterator<Item = T>, order: fn(&T, &T) -> std::cmp::Ordering) -> T {
        let mut values: Vec<T> = values.collect();
        values.sort_by(order);
        values[values.len() / 2]
    }
    Figures {
        images_per_second: middle(taken.clone().map(|f| f.images_per_second), f64::total_cmp),
        images_per_cpu_second: middle(taken.clone().map(|f| f.images_per_cpu_second), f64::total_cmp),
        peak_memory_bytes: middle(taken.clone().map(|f| f.peak_memory_bytes), u64::cmp),
        growth_bytes: middle(taken.map(|f| f.growth_bytes), i64::cmp),
    }
}

/// The table in Markdown.
fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| model, batch | phase | images/s | PyTorch | ratio | images/CPU s | PyTorch | ratio | peak MB | PyTorch | ratio |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for Row { model, batch, phase, ours, peer, speed_ratio, cpu_ratio, memory_ratio, .. } in rows {
        let megabytes = |figures: &Figures| figures.peak_memory_bytes as f64 / 1e6;
        text += &format!(
            "| {model}, {batch} | {phase} | {:.1} | {:.1} | {speed_ratio:.2} | {:.1} | {:.1} | {cpu_ratio:.2} \
             | {:.0} | {:.0} | {memory_ratio:.2} |\n",
            ours.images_per_second,
            peer.images_per_second,
            ours.images_per_cpu_second,
            peer.images_per_cpu_second,
            megabytes(ours),
            megabytes(peer),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_of_each_figure_for_itself() {
        let figures = |speed, peak| Figures {
            images_per_second: speed,
            images_per_cpu_second: speed,
            peak_memory_bytes: peak,
            growth_bytes: 0,
        };
        let median = median([figures(3.0, 10), figures(1.0, 30), figures(2.0, 20)].into_iter());
        assert_eq!((median.images_per_second, median.peak_memory_bytes), (2.0, 20));
    }
}
