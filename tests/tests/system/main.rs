//! The packages as people meet them: installed by apt in a bare Debian, which is booted with systemd, D-Bus and polkit.
//! Where no system can be booted, every story is skipped, and the reason is told.

mod administration;
mod bridges;
mod clock;
mod fresh;
mod serving_alone;
mod trouble;
mod versions;

use coft_harness::system::{self, System};
use coft_harness::world::{self, Camera, PARTS};
use libtest_mimic::{Arguments, Trial};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Output;

const CONFIG: &str = "/etc/coft/coft.toml";
const STATE: &str = "/var/lib/coft";
const WATCHED: &str = "/srv/coft/in";
/// Where the pictures are that a user has.
const PICTURES: &str = "/home/ann/pictures";
/// A group that a rule of polkit names.
const OPERATORS: &str = "operators";

/// Names and functions.
macro_rules! stories {
    ($($story:path,)*) => { [$((stringify!($story), $story as fn())),*] };
}

fn main() {
    let arguments = Arguments::from_args();
    let missing = if arguments.list { None } else { system::missing() };
    if let Some(reason) = &missing {
        eprintln!("skipped: {reason}");
    }
    // The longest come first: as many run at a time as there are processors.
    let stories = stories![
        versions::upgrades_keep_the_state_and_a_purge_the_pictures,
        trouble::the_service_survives_what_kills_and_stops_it,
        fresh::two_packages_are_all_that_a_bare_debian_needs,
        trouble::disks_that_are_full_closed_or_late_are_told_and_mended,
        clock::a_clock_that_is_wrong_by_fifty_years_and_set_right_stops_nothing,
        trouble::a_model_on_a_disk_that_comes_late_is_waited_for,
        bridges::bridges_answer_prometheus_and_a_broker_and_leave_nothing_behind,
        administration::an_administrator_sees_and_changes_what_the_service_does,
        serving_alone::without_the_trainer_the_service_serves_and_imports,
        fresh::manuals_units_and_policies_are_found,
    ];
    let stories = stories.map(|(name, tell)| {
        let trial = Trial::test(name, move || {
            tell();
            Ok(())
        });
        trial.with_ignored_flag(missing.is_some())
    });
    libtest_mimic::run(&arguments, stories.into()).exit();
}

/// A bare system that runs, with ann, who is nobody special, olga, an operator, and a camera.
fn bare() -> System {
    let mut system = System::copied().unwrap();
    system.boot().unwrap();
    system.root(&["groupadd", OPERATORS]).unwrap();
    for user in ["ann", "olga", "camera"] {
        system.root(&["useradd", "--create-home", user]).unwrap();
    }
    system.root(&["usermod", "--append", "--groups", OPERATORS, "olga"]).unwrap();
    let pictures = system.path(PICTURES);
    let drawn = tempfile::TempDir::new().unwrap();
    world::write_set(drawn.path(), &Camera::NIGHT_SHIFT, &[("adapt", 3)], 5).unwrap();
    fs::create_dir(&pictures).unwrap();
    let mut number = 0;
    for part in PARTS {
        for file in fs::read_dir(drawn.path().join("adapt").join(part.replace(' ', "_"))).unwrap() {
            fs::copy(file.unwrap().path(), pictures.join(format!("{number:04}.jpg"))).unwrap();
            number += 1;
        }
    }
    system
}

/// How many pictures [`bare`] has drawn.
fn pictures() -> usize {
    3 * PARTS.len()
}

/// Installs by apt, without a network.
fn install(system: &System, packages: &[&Path]) {
    let mut words = vec!["apt-get".to_owned(), "install".into(), "--yes".into(), "--allow-downgrades".into()];
    for package in packages {
        let name = package.file_name().unwrap().to_str().unwrap();
        let to = format!("/var/tmp/{name}");
        if !system.path(&to).exists() && fs::hard_link(package, system.path(&to)).is_err() {
            fs::copy(package, system.path(&to)).unwrap();
        }
        words.push(to);
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    system.root(&words).unwrap();
}

fn install_both(system: &System) {
    let packages = ["coft", "coft-trainer"].map(|name| system::package(name).unwrap());
    install(system, &packages.each_ref().map(|path| path.as_path()));
}

/// A system with both packages, whose first generation serves.
fn serving() -> System {
    let mut system = bare();
    install_both(&system);
    first_generation(&mut system);
    system
}

fn first_generation(system: &mut System) {
    let is_complete = |status: &Value| status["active_generation"].is_u64() && status["setup_problem"].is_null();
    system.wait("a first generation, and nothing to wait for", |system| is_complete(&status(system))).unwrap();
}

fn ctl(system: &System, user: &str, words: &[&str]) -> Output {
    system.run(user, &[&["coftctl"], words].concat()).unwrap()
}

/// Exit code, and what was said on standard error.
fn told(system: &System, user: &str, words: &[&str]) -> (Option<i32>, String) {
    let output = ctl(system, user, words);
    (output.status.code(), system::text(&output.stderr))
}

/// What root is answered; null where the service does not answer.
fn json(system: &System, words: &[&str]) -> Value {
    let output = ctl(system, "root", &[&["--json"], words].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

fn status(system: &System) -> Value {
    json(system, &["status"])
}

/// Starts a round, as soon as one can start; its number.
fn start_round(system: &mut System) -> u64 {
    let mut started = None;
    let start = |system: &System| json(system, &["round", "start"])["round"].as_u64();
    system
        .wait("a round starts", |system| {
            started = start(system);
            started.is_some()
        })
        .unwrap();
    started.expect("it was waited for")
}

fn round(system: &System, number: u64) -> Value {
    json(system, &["round", "show", &number.to_string()])
}

/// The best label of a picture and the generation that gave it, as an unprivileged user is answered; none where the
/// service does not answer.
fn label(system: &System) -> Option<(String, u64)> {
    let output = ctl(system, "ann", &["--json", "classify", &format!("{PICTURES}/0000.jpg")]);
    let answer: Value = serde_json::from_slice(&output.stdout).ok()?;
    Some((answer["labels"][0]["label"].as_str()?.to_owned(), answer["generation"].as_u64()?))
}

/// The camera uploads every picture into the watched directory, and each is taken in.
fn upload(system: &mut System) {
    put_pictures(system);
    system.wait("every picture catalogued", |system| status(system)["images"] == pictures()).unwrap();
}

/// What the camera uploads can be read by the members of one group alone.
fn put_pictures(system: &System) {
    system.root(&["usermod", "--append", "--groups", "coft-upload", "camera"]).unwrap();
    system.root(&["chmod", "-R", "a+rX", "/home/ann"]).unwrap();
    let output = system.run("camera", &["sh", "-c", &format!("umask 027; cp {PICTURES}/* {WATCHED}/")]).unwrap();
    assert!(output.status.success(), "{}", system::text(&output.stderr));
}

/// The camera uploads a picture that nobody has seen yet, under this name.
fn put_new_picture(system: &System, name: &str, seed: u64) {
    let drawn = tempfile::TempDir::new().unwrap();
    world::write_set(drawn.path(), &Camera::NIGHT_SHIFT, &[("new", 1)], seed).unwrap();
    let part = drawn.path().join("new").join(PARTS[0].replace(' ', "_"));
    let file = fs::read_dir(part).unwrap().next().unwrap().unwrap().path();
    fs::copy(file, system.path("/var/tmp").join(name)).unwrap();
    let output = system.run("camera", &["cp", &format!("/var/tmp/{name}"), WATCHED]).unwrap();
    assert!(output.status.success(), "{}", system::text(&output.stderr));
}

/// The shipped configuration with rounds of a few steps, or of very many.
fn configure(system: &System, steps: u32) {
    fs::write(system.path(CONFIG), system::shipped_with_steps(steps)).unwrap();
}

const FEW: u32 = 4;
const VERY_MANY: u32 = 400_000;

fn restart(system: &mut System) {
    system.root(&["systemctl", "restart", "coftd"]).unwrap();
    first_generation(system);
}

/// What systemd says of the service.
fn unit(system: &System, property: &str) -> String {
    system.root(&["systemctl", "show", "--value", &format!("--property={property}"), "coftd"]).unwrap()
}

/// The number of a process of that name, in the system; none where there is none.
fn process(system: &System, name: &str) -> Option<u32> {
    let find = format!("grep -lx {name} /proc/[0-9]*/comm");
    let found = system.run("root", &["sh", "-c", &find]).unwrap();
    system::text(&found.stdout).split('/').nth(2)?.parse().ok()
}

/// Every file below a directory with its content.
fn content(dir: &Path) -> std::collections::BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut all = std::collections::BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match fs::symlink_metadata(&path).unwrap().is_dir() {
            true => all.extend(content(&path)),
            false => drop(all.insert(path.clone(), fs::read(&path).unwrap_or_default())),
        }
    }
    all
}
