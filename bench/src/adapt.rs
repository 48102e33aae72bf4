//! `cargo xtask bench adapt`: one round of the trainer on a labelled set. The trainer gets only the images, not the
//! labels. It writes its answers, and this program compares them with the labels.

use super::answers::{measure, reviewed};
use super::labelled_set::{Labelled, LabelledSet};
use super::shift::Shift;
use super::trouble::{NO_CLASS, Trouble};
use crate::built;
use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use coft_core::event::{Event, Failure};
use coft_core::ids::{ClassId, ImageId, JobId};
use coft_core::manifest::{MANIFEST, Manifest, REPORT};
use coft_core::promotion::{self, Verdict};
use coft_core::report::Report;
use coft_core::settings::Settings;
use coft_core::shares::Shares;
use coft_core::spec::{Device, Diagnostics, PROTOCOL, PoolImage, RoundSpec, Template};
use coft_core::templates;
use coft_harness::programs::ends_with_us;
use command_fds::{CommandFdExt, FdMapping};
use indicatif::{ProgressBar, ProgressStyle};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[derive(clap::Args)]
pub struct Args {
    /// CLIP directory in Hugging Face layout.
    #[arg(long)]
    model: PathBuf,
    /// CLIP that Phase II trains in place of --model, which labels and filters (distillation).
    #[arg(long)]
    student: Option<PathBuf>,
    /// Labelled set: a directory or a .tar.gz.
    #[arg(long)]
    data: PathBuf,
    /// Keeps these class folders only.
    #[arg(long, value_delimiter = ',')]
    classes: Vec<String>,
    #[arg(long, default_value = "coft", value_parser = ["zero-shot", "coft", "coft-plus", "upl", "self-training", "oracle"])]
    method: String,
    /// What the camera does to every picture, of both splits.
    #[arg(long, value_enum, default_value = "clean")]
    shift: Shift,
    /// What is wrong with the pool.
    #[arg(long, value_enum, default_value = "none")]
    pool: Trouble,
    /// Tells the trainer how often each class comes: as it does in the pool, or that with every share doubled or
    /// halved.
    #[arg(long, value_enum, default_value = "unknown")]
    shares: Told,
    /// Labelled set that outliers come from: those of --pool outliers, and, of its test split, images to tell from the set's own.
    #[arg(long)]
    outliers: Option<PathBuf>,
    /// Takes this many images of each test split, drawn by the seed 0.
    #[arg(long)]
    test_limit: Option<usize>,
    /// Leaves the trainer's answers, with the labels, here.
    #[arg(long)]
    answers: Option<PathBuf>,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Runs this many seeds from --seed on, and tells mean and standard deviation of their figures.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Takes this many images of the pool, drawn by the seed.
    #[arg(long)]
    limit: Option<usize>,
    /// Gives the trainer the labels of this many images of each class, as a user's own.
    #[arg(long, default_value_t = 0)]
    given: usize,
    /// Template file, prompts whose text features are averaged.
    #[arg(long)]
    templates: Option<PathBuf>,
    /// Overrides a setting by its path, as phase2.sgd.learning-rate=0.001.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    #[arg(long, default_value = "cpu", value_parser = ["cpu", "cuda"])]
    device: String,
    /// What the candidate computes in.
    #[arg(long, default_value = "fp32", value_parser = ["fp32", "fp16", "int8"])]
    precision: String,
    /// Leaves the candidate directory here.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Prints one JSON object as the last line, accuracies in percent.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Told {
    Unknown,
    True,
    /// Wrong by a factor of two: each share doubled or halved, drawn by the seed.
    Rough,
}

impl Told {
    fn of(self, labels: &[usize], classes: &[String], seed: u64) -> anyhow::Result<Option<Shares>> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // A class without an image counts as one with a single image, since no share may be 0.
        let weigh = |(class, name): (usize, &String)| {
            let count = labels.iter().filter(|&&label| label == class).count().max(1) as f64;
            let factor = if rng.random_bool(0.5) { 2.0 } else { 0.5 };
            (name.clone(), if self == Told::Rough { factor * count } else { count })
        };
        let weights: Vec<(String, f64)> = classes.iter().enumerate().map(weigh).collect();
        let all: f64 = weights.iter().map(|(_, weight)| weight).sum();
        let named = weights.into_iter().map(|(name, weight)| (name, weight / all)).collect();
        Ok(if self == Told::Unknown { None } else { Some(Shares::new(&named, classes)?) })
    }
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(args.seeds >= 1, "--seeds is a number of runs, 1 or more");
    // The trainer itself refuses upl.
    ensure!(
        args.student.is_none() || !["zero-shot", "oracle"].contains(&args.method.as_str()),
        "with --method {} no label comes from --model, and --student learns nothing from it; give the student as --model",
        args.method
    );
    let trainer = built::programs()?.coft_trainer();
    let mut runs = Vec::new();
    for seed in args.seed..args.seed + args.seeds {
        // With several seeds, each has its own directory.
        let of_seed = |dir: &Option<PathBuf>| {
            dir.as_ref().map(|dir| if args.seeds > 1 { dir.join(seed.to_string()) } else { dir.clone() })
        };
        let run = one(args, seed, [of_seed(&args.answers), of_seed(&args.out)], &trainer)?;
        if args.seeds > 1 {
            eprintln!("{run}"); // a later seed may fail
        }
        runs.push(run);
    }
    let result = match &runs[..] {
        [one] => one.clone(),
        runs => {
            let accuracies: Vec<&Value> = runs.iter().map(|run| &run["accuracy"]).collect();
            json!({ "runs": runs, "accuracy": spread(&accuracies), "figures": spread(&runs.iter().collect::<Vec<_>>()) })
        }
    };
    if args.json {
        println!("{result}");
    } else {
        println!("{result:#}");
    }
    Ok(())
}

/// Mean and standard deviation (n − 1) of every number that all of `runs` have, except for their inputs.
fn spread(runs: &[&Value]) -> Value {
    let names = runs[0].as_object().into_iter().flat_map(|figures| figures.keys());
    names
        .filter(|name| !["seed", "images"].contains(&name.as_str()))
        .filter_map(|name| {
            let values: Vec<f64> = runs.iter().map(|run| run[name].as_f64()).collect::<Option<_>>()?;
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let square = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64;
            Some((name.clone(), json!({ "mean": mean, "deviation": square.sqrt() })))
        })
        .collect()
}

/// Runs one seed. Writes its answers and its candidate where the arguments ask for them.
fn one(args: &Args, seed: u64, [answers, out]: [Option<PathBuf>; 2], trainer: &Path) -> anyhow::Result<Value> {
    let mut set = LabelledSet::read(&args.data, &args.classes)?;
    let others = args.outliers.as_ref().map(|path| LabelledSet::read(path, &[])).transpose()?;
    args.pool.make(&mut set, others.as_ref(), seed)?;
    set.adapt.truncate(args.limit.unwrap_or(usize::MAX));
    if let Some(limit) = args.test_limit {
        draw(&mut set.test, limit);
    }
    if let Some(others) = &others {
        let mut strange = others.test.clone();
        draw(&mut strange, args.test_limit.unwrap_or(usize::MAX));
        set.test.extend(strange.into_iter().map(|image| Labelled { label: NO_CLASS, ..image }));
    }
    let scratch = tempfile::tempdir()?;
    for (split, images) in [("adapt", &mut set.adapt), ("test", &mut set.test)] {
        photograph(args.shift, images, &scratch.path().join(split))?;
    }
    let (spec, labels) = spec(args, seed, &set, scratch.path())?;
    train(trainer, &spec, scratch.path())?;

    let report: Report = read_json(&spec.candidate_dir.join(REPORT))?;
    let manifest: Manifest = read_json(&spec.candidate_dir.join(MANIFEST))?;
    let mut result = measure(scratch.path(), &labels, &set.test, set.classes.len(), manifest.none_of_these)?;
    result["set"] = json!(set.name);
    result["method"] = json!(args.method);
    result["student"] = json!(args.student);
    result["shift"] = json!(args.shift.name());
    let name = |value: Option<clap::builder::PossibleValue>| json!(value.map(|value| value.get_name().to_owned()));
    result["pool"] = name(args.pool.to_possible_value());
    result["told-shares"] = name(args.shares.to_possible_value());
    result["given"] = json!(args.given);
    result["settings"] = json!(args.settings);
    result["images"] = json!(labels.len());
    result["seed"] = json!(seed);
    if let Some(adaptation) = &report.adaptation {
        result["agreement"] = json!(adaptation.agreement);
        result["near-duplicates"] = json!(adaptation.near_duplicates);
        result["deployed"] = json!(adaptation.deployed);
        result["signs"] = json!(adaptation.candidates);
        result["evenness"] = json!(promotion::evenness(report.classes.iter().map(|class| class.zero_shot)));
        result["verdict"] = json!(format!("{:?}", judged(&manifest, &report)));
        result["review"] = reviewed(scratch.path(), &labels, manifest.shares.as_ref())?;
    }
    result["seconds"] = json!(report.seconds);
    result["peak_memory_bytes"] = json!(report.peak_memory_bytes);
    if let Some(answers) = answers {
        fs::create_dir_all(&answers)?;
        for file in ["pool.safetensors", "test.safetensors"] {
            fs::copy(scratch.path().join(file), answers.join(file))?;
        }
        let truth: Vec<usize> = set.test.iter().map(|image| image.label).collect();
        let text = json!({ "pool": labels, "test": truth, "result": result }).to_string();
        fs::write(answers.join("labels.json"), text)?;
    }
    if let Some(out) = out {
        keep(&spec.candidate_dir, &out)?;
    }
    Ok(result)
}

/// The verdict of the daemon, if the probe had passed.
fn judged(manifest: &Manifest, report: &Report) -> Verdict {
    promotion::judge(manifest.method, manifest.precision, 0.0, manifest.shares.as_ref(), report)
}

fn draw(images: &mut Vec<Labelled>, limit: usize) {
    images.shuffle(&mut ChaCha8Rng::seed_from_u64(0));
    images.truncate(limit);
}

/// Writes the camera's versions of `images` into `dir`, and puts them in place of the originals.
fn photograph(shift: Shift, images: &mut [Labelled], dir: &Path) -> anyhow::Result<()> {
    fs::create_dir(dir)?;
    let changed = images.par_iter_mut().enumerate().filter(|(_, image)| shift != Shift::Clean || image.copy > 0);
    changed.try_for_each(|(number, image)| {
        let seen = dir.join(format!("{number}.png"));
        shift.photograph(&image.path, image.copy, &seen)?;
        image.path = seen;
        Ok(())
    })
}

/// The spec of the round, and the label of each image in its pool.
fn spec(args: &Args, seed: u64, set: &LabelledSet, scratch: &Path) -> anyhow::Result<(RoundSpec, Vec<usize>)> {
    let mut seen = HashSet::new();
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    let mut given = vec![0; set.classes.len()];
    for image in &set.adapt {
        let bytes = fs::read(&image.path).with_context(|| format!("reading {}", image.path.display()))?;
        let id = ImageId(format!("{:x}", Sha256::digest(&bytes)));
        // As in the daemon, two copies of a file are one image.
        if seen.insert(id.clone()) {
            let known = image.label != NO_CLASS && (args.method == "oracle" || given[image.label] < args.given);
            let label = known.then(|| {
                given[image.label] += 1;
                ClassId(image.label as u32)
            });
            images.push(PoolImage { id, path: fs::canonicalize(&image.path)?, label });
            labels.push(image.label);
        }
    }
    let mut settings = serde_json::to_value(Settings::default())?;
    for change in &args.settings {
        let (path, value) = change.split_once('=').with_context(|| format!("{change:?} is not KEY=VALUE"))?;
        let pointer = format!("/{}", path.replace('.', "/"));
        let place = settings.pointer_mut(&pointer).with_context(|| format!("there is no setting {path:?}"))?;
        *place = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
    }
    let shares = args.shares.of(&labels, &set.classes, seed)?;
    let spec = RoundSpec {
        protocol: PROTOCOL,
        round: JobId(1),
        method: serde_json::from_value(json!(args.method)).context("the method")?,
        model_dir: opened(&args.model)?,
        image_size: None,
        classes: set.classes.clone(),
        student_dir: args.student.as_deref().map(opened).transpose()?,
        class_lines: Vec::new(),
        shares,
        template: set.template.clone(),
        templates: args.templates.as_deref().map(read_templates).transpose()?.unwrap_or_default(),
        images,
        seed,
        device: if args.device == "cuda" { Device::Cuda } else { Device::Cpu },
        precision: serde_json::from_value(json!(args.precision)).context("the precision")?,
        threads: 0,
        settings: serde_json::from_value(settings).context("the settings")?,
        candidate_dir: scratch.join("candidate"),
        journal_dir: scratch.join("journal"),
        diagnostics: Some(Diagnostics {
            dir: scratch.to_owned(),
            score: set.test.iter().map(|image| fs::canonicalize(&image.path)).collect::<Result<_, _>>()?,
        }),
    };
    Ok((spec, labels))
}

/// The absolute path of a model.
fn opened(model: &Path) -> anyhow::Result<PathBuf> {
    fs::canonicalize(model).with_context(|| format!("opening {}", model.display()))
}

fn train(trainer: &Path, spec: &RoundSpec, scratch: &Path) -> anyhow::Result<()> {
    const EVENTS_FD: i32 = 3;
    let path = scratch.join("spec.json");
    fs::write(&path, serde_json::to_vec(spec)?)?;
    let (reader, writer) = std::io::pipe()?;
    let mut command = Command::new(trainer);
    command.arg("round").arg(&path).args(["--events-fd", &EVENTS_FD.to_string()]).stdin(Stdio::null());
    ends_with_us(&mut command).fd_mappings(vec![FdMapping { parent_fd: writer.into(), child_fd: EVENTS_FD }])?;
    let mut child = command.spawn().context("starting the trainer")?;
    drop(command); // also drops this process's copy of the pipe's writing end

    let style = ProgressStyle::with_template("{msg:14} [{bar:40}] {percent}%  {prefix}")?;
    let bar = ProgressBar::new(1000).with_style(style);
    let mut failure = None;
    for line in BufReader::new(reader).lines() {
        match serde_json::from_str(&line?)? {
            Event::Progress(progress) => {
                bar.set_position((progress.fraction * 1000.0) as u64);
                bar.set_message(progress.stage.as_str());
                let left = progress.remaining_seconds.map_or(String::new(), |s| format!(", {s:.0} s left"));
                bar.set_prefix(format!("{:.0} images/s{left}", progress.images_per_second));
            }
            Event::Warning { message } => bar.suspend(|| eprintln!("warning: {message}")),
            Event::Failed(Failure { message, hint, .. }) => failure = Some(format!("{message}; {hint}")),
            Event::Started { .. } | Event::Finished => {}
        }
    }
    bar.finish_and_clear();
    let status = child.wait()?;
    match failure {
        Some(failure) => bail!("the round failed: {failure}"),
        None => {
            ensure!(status.success(), "the trainer ended with {status}");
            Ok(())
        }
    }
}

/// Copies the candidate directory to `out`.
fn keep(candidate: &Path, out: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
    for entry in fs::read_dir(candidate)? {
        let path = entry?.path();
        fs::copy(&path, out.join(path.file_name().expect("a file has a name")))?;
    }
    Ok(())
}

fn read_templates(path: &Path) -> anyhow::Result<Vec<Template>> {
    let content = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    templates::parse(&content).with_context(|| format!("reading {}", path.display()))
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    serde_json::from_slice(&fs::read(path)?).with_context(|| format!("reading {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_over_what_all_runs_have() {
        let runs =
            [json!({ "seed": 1, "a": 1.0, "b": 2, "c": "x" }), json!({ "seed": 2, "a": 3.0, "b": null, "c": "x" })];
        let spread = spread(&runs.iter().collect::<Vec<_>>());
        assert_eq!(spread, json!({ "a": { "mean": 2.0, "deviation": 2f64.sqrt() } }));
    }
}
