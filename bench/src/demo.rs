//! `cargo xtask demo`: the main use of coft on the embedded model, with the steps of a user.

use crate::built;
use crate::interruption::Interruption;
use anyhow::{Context, ensure};
use coft_harness::daemon::Site;
use coft_harness::world::{self, Camera, PARTS};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub struct Args {
    /// Prints one JSON object as the last line.
    #[arg(long)]
    json: bool,
    /// Seeds the pictures and the round.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Number of unlabelled pictures of each part.
const POOL: usize = 80;
/// Number of labelled pictures of each part; they are only for measuring, never for training.
const TEST: usize = 80;
/// Number of pictures of each part that come after the round.
const LATER: usize = 1;
/// The method's defaults, except for larger steps in Phase II, because the demo model has a hundredth of the size of a
/// real CLIP.
const CONFIG: &str = "
[schedule]
automatic = false

[training.phase2.sgd]
learning-rate = 3e-3
";

pub fn run(args: &Args) -> anyhow::Result<()> {
    let interruption = Interruption::watch()?;
    let mut site = Site::new(built::programs()?, CONFIG)?;
    let done = show(args, &mut site, &interruption);
    // If a step was interrupted, report the interruption and not the step's own error.
    interruption.check()?;
    if done.is_err() {
        eprintln!("\nthe log of coftd:\n{}", site.log());
    }
    done
}

fn show(args: &Args, site: &mut Site, interruption: &Interruption) -> anyhow::Result<()> {
    let step = |what: &str| {
        eprintln!("\n== {what}");
        interruption.check()
    };
    let images = POOL * PARTS.len();
    step(&format!(
        "photographing {} parts: {images} pictures for the pool, {} for testing",
        PARTS.len(),
        TEST * PARTS.len()
    ))?;
    let set = site.dir().join("set");
    world::write_set(&set, &Camera::NIGHT_SHIFT, &[("adapt", POOL), ("test", TEST), ("later", LATER)], args.seed)?;

    step("starting coftd on a private bus, with the embedded model; its first round exports the zero-shot classifier")?;
    site.start()?;
    let served = |status: &Value| status["active_generation"].is_u64() || interruption.seen();
    site.wait("a first generation", Duration::from_secs(120), served)?;

    step(&format!("dropping {images} unlabelled pictures into {}", site.watched().display()))?;
    let dropped = Instant::now();
    for (number, picture) in files(&set.join("adapt"))?.iter().enumerate() {
        // Without the folder, the path of a picture does not show its class.
        fs::copy(picture, site.watched().join(format!("{number:05}.jpg")))?;
    }
    let catalogued = |status: &Value| status["images"] == images as u64 || interruption.seen();
    let status = site.wait("every picture catalogued", Duration::from_secs(120), catalogued)?;
    let taken_in = images as f64 / dropped.elapsed().as_secs_f64();
    ensure!(status["quarantined"] == 0, "pictures were refused: {status}");
    let answered = |status: &Value| status["sources"][0]["unanswered"] == 0 || interruption.seen();
    site.wait("every picture answered", Duration::from_secs(120), answered)?;
    eprintln!("each was answered as it came; the latest of them (coftctl results --limit 5):");
    print(site, &["results", "--limit", "5"])?;

    step("classifying the test folder over D-Bus: zero-shot")?;
    let test = set.join("test");
    let before = classify(site, &test)?;

    step("one round of CoFT")?;
    let began = Instant::now();
    let seed = args.seed.to_string();
    // Its progress is printed on this terminal.
    let mut round =
        site.ctl_command(&["round", "start", "--wait", "--seed", &seed]).stdout(std::io::stderr()).spawn()?;
    let status = interruption.wait(&mut round)?;
    let round_seconds = began.elapsed().as_secs_f64();
    ensure!(status.success(), "the round did not end with a new generation ({status})");

    step("classifying the test folder again: adapted")?;
    let after = classify(site, &test)?;
    let generations = site.json(&["generation", "list"])?;
    let list = generations.as_array().or_else(|| generations["generations"].as_array());
    let active = list
        .and_then(|list| list.iter().find(|generation| generation["active"] == true))
        .context("no generation is active")?;
    ensure!(
        active["generation"] == after.generation,
        "answers name generation {}, {active} is active",
        after.generation
    );
    step("the new model answers the pictures again: what the round has changed (coftctl generation diff --limit 3)")?;
    let again = |status: &Value| status["unanswered_again"] == 0 || interruption.seen();
    site.wait("every picture answered again", Duration::from_secs(120), again)?;
    let diff = site.json(&["generation", "diff"])?;
    ensure!(diff["compared"] == images as u64, "not every picture was answered by both models: {diff}");
    print(site, &["generation", "diff", "--limit", "3"])?;

    let later = files(&set.join("later"))?;
    step(&format!("{} more pictures come, one by one (coftctl results --limit {0})", later.len()))?;
    for (number, picture) in later.iter().enumerate() {
        fs::copy(picture, site.watched().join(format!("later-{number}.jpg")))?;
    }
    let all = (images + later.len()) as u64;
    let came = |status: &Value| status["images"] == all && answered(status) || interruption.seen();
    site.wait("every picture answered", Duration::from_secs(120), came)?;
    print(site, &["results", "--limit", &later.len().to_string()])?;

    let parity = active["parity_max_abs_diff"].as_f64().context("the generation has no parity")?;
    let stopped = site.stop()?;
    ensure!(stopped.success(), "coftd ended with {stopped}");

    let row = |name: &str, value: String| eprintln!("  {name:32} {value}");
    eprintln!();
    row("accuracy before (zero-shot)", format!("{:6.2} %", before.accuracy));
    row(
        "accuracy after one round",
        format!("{:6.2} %  ({:+.2} points)", after.accuracy, after.accuracy - before.accuracy),
    );
    row("answered otherwise since", format!("{:6}    of {images} pictures", diff["changed"]));
    row("unlabelled pictures", format!("{images:6}    (taken in at {taken_in:.0}/s)"));
    row("classified over D-Bus", format!("{:6.0} pictures/s", after.images_per_second));
    row("round time", format!("{round_seconds:6.1} s"));
    row("ONNX Runtime against torch", format!("{parity:.1e} at most, in probability"));
    row("generation", format!("{:6}", after.generation));
    if args.json {
        let result = json!({
            "zero_shot_accuracy": before.accuracy,
            "adapted_accuracy": after.accuracy,
            "images": images,
            "answered_otherwise": diff["changed"],
            "round_seconds": round_seconds,
            "parity_max_abs_diff": parity,
            "generation": after.generation,
            "images_per_second": after.images_per_second,
        });
        println!("{result}");
    }
    Ok(())
}

/// Prints the output of coftctl.
fn print(site: &Site, words: &[&str]) -> anyhow::Result<()> {
    let output = site.ctl(words)?;
    ensure!(output.status.success(), "coftctl {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
    eprint!("{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

struct Classified {
    /// In percent.
    accuracy: f64,
    images_per_second: f64,
    generation: u64,
}

/// Classifies every picture below `dir`, whose folders have the names of the parts, and counts the right answers.
fn classify(site: &Site, dir: &Path) -> anyhow::Result<Classified> {
    let pictures = files(dir)?;
    let paths: Vec<&str> =
        pictures.iter().map(|path| path.to_str().context("a path is text")).collect::<Result<_, _>>()?;
    let began = Instant::now();
    let output = site.ctl(&[&["--json", "classify"], &paths[..]].concat())?;
    let seconds = began.elapsed().as_secs_f64();
    ensure!(output.status.success(), "coftctl classify: {}", String::from_utf8_lossy(&output.stderr));
    let (mut right, mut answers, mut generation) = (0, 0, None);
    for line in output.stdout.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let answer: Value = serde_json::from_slice(line)?;
        let file = Path::new(answer["file"].as_str().context("an answer names its file")?);
        let truth = file.parent().and_then(Path::file_name).context("a picture lies in its part's folder")?;
        let label = answer["labels"][0]["label"].as_str().with_context(|| format!("no label in {answer}"))?;
        right += usize::from(truth == label.replace(' ', "_").as_str());
        answers += 1;
        let named = answer["generation"].as_u64().context("an answer names its generation")?;
        ensure!(generation.is_none_or(|g| g == named), "two generations answered");
        generation = Some(named);
    }
    ensure!(answers == pictures.len(), "{} pictures, {answers} answers", pictures.len());
    Ok(Classified {
        accuracy: (10_000.0 * right as f64 / answers as f64).round() / 100.0,
        images_per_second: answers as f64 / seconds,
        generation: generation.context("there are pictures")?,
    })
}

/// The files two levels below `dir`, sorted.
fn files(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for folder in fs::read_dir(dir)? {
        for file in fs::read_dir(folder?.path())? {
            files.push(file?.path());
        }
    }
    files.sort();
    Ok(files)
}
