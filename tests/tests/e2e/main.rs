//! The service as its users meet it: real coftd, trainer, bus and coftctl, on small pools of drawn pictures.

mod answers;
mod bad_files;
mod bad_settings;
mod doctor;
mod exporter;
mod full_disk;
mod import;
mod interruptions;
mod liveness;
mod mqtt;
mod pipeline;
mod polkit;
mod real_images;
mod reload;
mod results;
mod review;
mod several;
mod shipped;
mod starting;
mod trainer_unit;
mod whole_path;

use coft_harness::daemon::Site;
use coft_harness::programs::Programs;
use coft_harness::world::{self, Camera, PARTS};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A round of some seconds: enough to go through every stage, not to learn much.
const QUICK: &str = r#"
[schedule]
automatic = false

[training]
# So little is learnt that the rule would keep zero-shot.
deploy = "average-half"
[training.phase1]
seeds-per-class = 2
[training.phase1.sgd]
learning-rate = 0.03
epochs = 1
batch = 16
minimum-steps = 4
[training.phase2.sgd]
learning-rate = 5e-4
epochs = 1
batch = 16
minimum-steps = 4
"#;

/// A round of hours, for tests that end it.
fn slow() -> String {
    QUICK.replace("minimum-steps = 4", "minimum-steps = 400000")
}

/// What takes longer hangs. The trainer gives way to everything else on the machine, so a round of seconds takes many
/// minutes on a busy machine with an old processor.
const LIMIT: Duration = Duration::from_secs(30 * 60);

fn site(config: &str) -> Site {
    Site::new(Programs::of_this_test().unwrap(), config).unwrap()
}

/// A started site whose zero-shot generation serves, with `per_part` pictures of each part catalogued.
fn serving(config: &str, per_part: usize) -> Site {
    let mut site = site(config);
    site.start().unwrap();
    fill(&site, per_part);
    first_generation(&site);
    site
}

fn first_generation(site: &Site) {
    site.wait("a first generation", LIMIT, |status| status["active_generation"].is_u64()).unwrap();
}

/// Puts pictures into the watched directory and waits until all are catalogued.
fn fill(site: &Site, per_part: usize) {
    for (number, picture) in pictures(site, per_part).iter().enumerate() {
        fs::copy(picture, site.watched().join(format!("{number:04}.jpg"))).unwrap();
    }
    let images = per_part * PARTS.len();
    site.wait("every picture catalogued", LIMIT, |status| status["images"] == images).unwrap();
}

/// Camera pictures outside the watched directory.
fn pictures(site: &Site, per_part: usize) -> Vec<PathBuf> {
    let dir = site.dir().join("pictures");
    world::write_set(&dir, &Camera::NIGHT_SHIFT, &[("adapt", per_part)], 5).unwrap();
    let mut files: Vec<PathBuf> = PARTS
        .iter()
        .flat_map(|part| fs::read_dir(dir.join("adapt").join(part.replace(' ', "_"))).unwrap())
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    files
}

/// What the service waits for, once it says so.
fn waits_for(site: &Site) -> String {
    let since = std::time::Instant::now();
    loop {
        if let Ok(status) = site.status() {
            let problem = text(&status["setup_problem"]);
            if !problem.is_empty() && !problem.contains("is starting") && !problem.contains("being looked for") {
                return problem.to_owned();
            }
        }
        assert!(since.elapsed() < LIMIT, "nothing is waited for:\n{}", site.log());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Runs a round to its end, however it ends, and tells of it.
fn round(site: &Site) -> Value {
    let number = site.json(&["round", "start"]).unwrap()["round"].as_u64().unwrap();
    ended(site, number)
}

fn ended(site: &Site, round: u64) -> Value {
    let number = round.to_string();
    site.wait("the round's end", LIMIT, |status| status["round"] != round).unwrap();
    site.json(&["round", "show", &number]).unwrap()
}

/// The best label of a picture and the generation that gave it.
fn classify(site: &Site, picture: &Path) -> (String, u64) {
    let answer = site.json(&["classify", picture.to_str().unwrap()]).unwrap();
    (answer["labels"][0]["label"].as_str().unwrap().to_owned(), answer["generation"].as_u64().unwrap())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
