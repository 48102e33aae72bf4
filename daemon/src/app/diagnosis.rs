//! Checks what the service needs around it, from inside the service: with its user, its unit's sandbox and its devices.
//!
//! One table of checks: each is a function from what is known of the service to lines for people. `coftctl doctor`
//! shows these lines beside what can be checked from outside.

mod gpu;
mod programs;
mod watches;

use crate::config::check::{self, Fault, Severity};
use crate::config::{Config, ConfigError, ConfigFile, Key, Loaded};
use crate::control::{Check, Level, Snapshot};
use crate::{state_dir, watch};
use bytesize::ByteSize;
use coft_core::shown::shown_path;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What is known of the service.
pub struct Surroundings {
    pub file: ConfigFile,
    /// The configuration in force.
    pub loaded: Loaded,
    pub classifiers: Vec<Known>,
}

/// What is known of a classifier.
pub struct Known {
    pub config: Config,
    pub snapshot: Snapshot,
    /// Disk space that a round needs, B.
    pub reserve: u64,
}

impl Surroundings {
    /// Checks each classifier. If there are several, the classifier's name goes before the names of its checks.
    fn of_each(&self, look: impl Fn(&Known) -> Vec<Check>) -> Vec<Check> {
        let alone = self.classifiers.len() == 1;
        let named = |known: &Known| {
            let name = |check: &Check| match alone {
                true => check.name.clone(),
                false => format!("{}: {}", known.config.classifier.name, check.name),
            };
            look(known).into_iter().map(|check| Check { name: name(&check), ..check }).collect::<Vec<_>>()
        };
        self.classifiers.iter().flat_map(named).collect()
    }
}

/// How long one check may take; less than the 25 s that clients wait. 20 s [choice]: a GPU is set up in seconds.
const LIMIT: Duration = Duration::from_secs(20);

type Look = fn(&Surroundings) -> Vec<Check>;

/// The checks. The names are for checks that do not end in time.
const CHECKS: [(&str, Look); 10] = [
    ("configuration", configuration),
    ("serving", serving),
    ("ONNX Runtime", programs::onnx_runtime),
    ("providers", programs::providers),
    ("trainer", programs::trainer),
    ("GPU", gpu::look),
    ("state directory", state),
    ("disk", disk),
    ("inotify", watches::look),
    ("sources", sources),
];

/// Runs all checks at once; a check that hangs is named, and holds up the result no longer than the limit for all.
pub async fn look(surroundings: Arc<Surroundings>) -> Vec<Check> {
    let looks = CHECKS.map(|(name, look)| {
        let surroundings = Arc::clone(&surroundings);
        (name, tokio::task::spawn_blocking(move || look(&surroundings)))
    });
    let end = tokio::time::Instant::now() + LIMIT;
    let mut checks = Vec::new();
    for (name, task) in looks {
        match tokio::time::timeout_at(end, task).await {
            Ok(Ok(found)) => checks.extend(found),
            Ok(Err(failed)) => checks.push(error(name, format!("the check failed: {failed}"), "report this")),
            Err(_) => {
                let found = format!("no answer within {} s", LIMIT.as_secs());
                checks.push(warning(name, found, "see whether a disk or a device hangs: journalctl -k"));
            }
        }
    }
    checks
}

fn ok(name: impl Into<String>, found: impl Into<String>) -> Check {
    Check { name: name.into(), level: Level::Ok, found: found.into(), advice: String::new() }
}

fn warning(name: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Check {
    Check { name: name.into(), level: Level::Warning, found: found.into(), advice: advice.into() }
}

fn error(name: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Check {
    Check { name: name.into(), level: Level::Error, found: found.into(), advice: advice.into() }
}

/// Whether the configuration file, and the files that it names, are in order and in use.
fn configuration(surroundings: &Surroundings) -> Vec<Check> {
    const NAME: &str = "configuration";
    let Surroundings { file, loaded, .. } = surroundings;
    let path = shown_path(&file.path);
    let new = match file.read() {
        Ok(new) => new,
        Err(fault) => return vec![error(NAME, fault.to_string(), "correct it; to check it: coftctl config check")],
    };
    let mut checks = Vec::new();
    if new.is_same_text(loaded) {
        checks.push(ok(NAME, format!("{path} is in use")));
    } else {
        let found = format!("{path} has changed since the service read it");
        let how = if loaded.changed_to(&new).is_ok() { "reload" } else { "restart" };
        checks.push(warning(NAME, found, format!("sudo systemctl {how} coftd")));
    }
    checks.extend(surroundings.of_each(|known| {
        let mut checks = named(check::named_files(&known.config, false));
        checks.push(model(&known.config, &file.path));
        checks
    }));
    let unusable = |fault: &Arc<ConfigError>| error(NAME, fault.to_string(), "correct it, then: coftctl reload");
    checks.extend(loaded.unusable.iter().map(unusable));
    checks
}

/// What is wrong with the files that settings name; programs, libraries and sources have checks of their own.
fn named(faults: Vec<Fault>) -> Vec<Check> {
    let apart = |key: &Key| match key {
        Key::Setting(key) => ["round.trainer", "serve.library"].contains(&key.as_str()),
        Key::OfSource { .. } => true,
    };
    let faults = faults.into_iter().filter(|fault| !apart(&fault.key));
    let check = |Fault { severity, key, message }| {
        let found = format!("{key}: {message}");
        match severity {
            Severity::Error => error("configuration", found, "correct it; the service tries it again every 5 s"),
            Severity::Warning => warning("configuration", found, "let the service's user read it"),
        }
    };
    faults.map(check).collect()
}

fn model(config: &Config, file: &Path) -> Check {
    let path = shown_path(file);
    match &config.classifier.model {
        Some(model) => ok("model", format!("classifier.model is {}", shown_path(model))),
        None => Check {
            advice: format!(
                "for classes of your own: coftctl model pull OWNER/NAME, then set labels and model in [classifier] of {path}"
            ),
            ..ok("model", "the embedded demo model, which knows machine parts alone")
        },
    }
}

/// Which generation serves, and on which provider.
fn serving(surroundings: &Surroundings) -> Vec<Check> {
    surroundings.of_each(|known| serving_of(&known.snapshot))
}

fn serving_of(snapshot: &Snapshot) -> Vec<Check> {
    const NAME: &str = "serving";
    let mut checks = Vec::new();
    match snapshot.active {
        _ if !snapshot.serving_problem.is_empty() => {
            checks.push(error(NAME, &snapshot.serving_problem, "put that right; loading is tried again every minute"));
        }
        Some(generation) => checks.push(ok(NAME, format!("generation {generation} on {}", snapshot.provider))),
        None => checks.push(warning(NAME, "no generation serves yet", "see what it waits for: coftctl status")),
    }
    if !snapshot.provider_problem.is_empty() {
        checks.push(warning(
            NAME,
            &snapshot.provider_problem,
            "put that right, or name others as providers in [serve]",
        ));
    }
    if !snapshot.setup_problem.is_empty() {
        checks.push(warning("set-up", &snapshot.setup_problem, "put that right; it is tried again by itself"));
    }
    checks
}

/// Whether the service may write to its state directory.
fn state(surroundings: &Surroundings) -> Vec<Check> {
    let dir = &surroundings.loaded.config.state_dir;
    // The advice is part of the message, since it depends on the cause.
    vec![match state_dir::try_writing(dir) {
        Ok(()) => ok("state directory", format!("{} can be written", shown_path(dir))),
        Err(problem) => error("state directory", problem.to_string(), ""),
    }]
}

/// Whether there is disk space for what a round writes.
fn disk(surroundings: &Surroundings) -> Vec<Check> {
    let dir = &surroundings.loaded.config.state_dir;
    // Only one round runs at a time.
    let reserve = surroundings.classifiers.iter().map(|known| known.reserve).max().unwrap_or(0);
    let mut checks = vec![match coft_fs::free_space(dir) {
        Ok(free) => room_for_a_round(&shown_path(dir), free, reserve),
        Err(problem) => warning("disk", format!("the room on its disk is not known: {problem}"), ""),
    }];
    checks.extend(surroundings.of_each(|known| {
        let problem = Some(&known.snapshot.intake_problem).filter(|problem| !problem.is_empty());
        let check = |problem| {
            let found = format!("images cannot be stored: {problem}");
            error("intake", found, "put that right; images are tried again by themselves")
        };
        problem.map(check).into_iter().collect()
    }));
    checks
}

fn room_for_a_round(dir: &str, free: u64, needed: u64) -> Check {
    let [shown_free, shown_needed] = [free, needed].map(ByteSize::b);
    let found = format!("{dir} has {shown_free} free, and a round needs {shown_needed}");
    if free >= needed {
        return ok("disk", found);
    }
    error("disk", found, format!("free {} there: no round starts before", ByteSize::b(needed - free)))
}

/// Whether the watched directories can be seen from inside the unit, and are watched.
fn sources(surroundings: &Surroundings) -> Vec<Check> {
    surroundings.of_each(|known| sources_of(&known.snapshot, &surroundings.file.path))
}

fn sources_of(snapshot: &Snapshot, file: &Path) -> Vec<Check> {
    if snapshot.sources.is_empty() {
        let advice = format!("name one as path in [[source]] of {}", shown_path(file));
        return vec![warning("source", "no directory is watched", advice)];
    }
    let check = |source: &crate::control::SourceStatus| {
        let path = shown_path(&source.path);
        let name = format!("source {path}");
        // While the service starts, nothing is watched yet, so the directory itself is read.
        let unseen = fs::read_dir(&source.path).err().map(|problem| watch::explain(&source.path, &problem));
        match unseen.or_else(|| source.problem.clone()) {
            Some(problem) => error(name, problem, ""),
            None => ok(name, format!("can be read; {} images, {} files refused", source.images, source.quarantined)),
        }
    };
    snapshot.sources.iter().map(check).collect()
}

#[cfg(test)]
mod tests;
