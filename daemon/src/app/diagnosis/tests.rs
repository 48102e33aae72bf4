//! Surroundings made by hand, and real directories.

use super::*;
use crate::config::Overrides;
use crate::control::SourceStatus;
use coft_core::ids::GenerationId;
use std::path::Path;
use tempfile::TempDir;

/// A service that serves, with a state directory and a source.
fn healthy(config: &str) -> (TempDir, Surroundings) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("coft.toml");
    for name in ["state", "in"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    fs::write(&path, format!("state-dir = \"state\"\n[[source]]\npath = \"in\"\n{config}")).unwrap();
    let file = ConfigFile { path, overrides: Overrides::default() };
    let loaded = file.read().unwrap();
    let (path, key, answers) = (dir.path().join("in"), dir.path().join("in"), Default::default());
    let source = SourceStatus { number: 0, path, key, images: 3, quarantined: 1, waiting: 0, problem: None, answers };
    let snapshot = Snapshot {
        active: Some(GenerationId(2)),
        provider: "CPUExecutionProvider".into(),
        sources: vec![source],
        ..Snapshot::default()
    };
    let known = Known { config: loaded.config.clone(), snapshot, reserve: 0 };
    (dir, Surroundings { file, loaded, classifiers: vec![known] })
}

#[track_caller]
fn told(checks: &[Check], name: &str, level: Level, found: &str, advice: &str) {
    let of_name: Vec<_> = checks.iter().filter(|check| check.name.starts_with(name)).collect();
    let is_told =
        |check: &&&Check| check.level == level && check.found.contains(found) && check.advice.contains(advice);
    assert!(of_name.iter().any(|check| is_told(&check)), "{name}, {found}: {checks:?}");
}

#[test]
fn a_configuration_that_has_changed_is_to_be_reloaded_and_a_mistake_to_be_corrected() {
    let (dir, surroundings) = healthy("");
    told(&configuration(&surroundings), "configuration", Level::Ok, "is in use", "");
    told(&configuration(&surroundings), "model", Level::Ok, "demo model", "coftctl model pull");
    let file = dir.path().join("coft.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}[schedule]\nautomatic = false\n")).unwrap();
    told(&configuration(&surroundings), "configuration", Level::Warning, "has changed", "systemctl reload coftd");
    fs::write(&file, format!("{text}[decode]\nmemory = \"1GiB\"\n")).unwrap();
    told(&configuration(&surroundings), "configuration", Level::Warning, "has changed", "systemctl restart coftd");
    fs::write(&file, format!("{text}[schedule]\nautomatic = 1\n")).unwrap();
    told(&configuration(&surroundings), "configuration", Level::Error, "line 5", "coftctl config check");
}

#[test]
fn what_the_configuration_names_is_looked_at() {
    let (dir, surroundings) = healthy("[classifier]\nlabels = \"labels.txt\"\nmodel = \"./clip\"\n");
    let checks = configuration(&surroundings);
    told(&checks, "configuration", Level::Error, "classifier.labels: ", "correct it");
    told(&checks, "configuration", Level::Error, "classifier.model: ", "correct it");
    assert!(!dir.path().join("state/models").exists(), "nothing is written");
}

#[test]
fn what_serves_is_told_and_what_does_not() {
    let (_dir, mut surroundings) = healthy("");
    told(&serving(&surroundings), "serving", Level::Ok, "generation 2 on CPUExecutionProvider", "");
    surroundings.classifiers[0].snapshot.provider_problem = "CUDAExecutionProvider: no memory".into();
    told(&serving(&surroundings), "serving", Level::Warning, "no memory", "providers");
    surroundings.classifiers[0].snapshot.serving_problem = "generation 2 cannot be loaded".into();
    told(&serving(&surroundings), "serving", Level::Error, "cannot be loaded", "every minute");
    surroundings.classifiers[0].snapshot =
        Snapshot { setup_problem: "classifier.model: none".into(), ..Snapshot::default() };
    told(&serving(&surroundings), "serving", Level::Warning, "no generation", "coftctl status");
    told(&serving(&surroundings), "set-up", Level::Warning, "classifier.model: none", "");
}

#[test]
fn a_state_directory_that_cannot_be_written_says_how_it_could_be() {
    let (dir, surroundings) = healthy("");
    told(&state(&surroundings), "state directory", Level::Ok, "can be written", "");
    assert_eq!(fs::read_dir(dir.path().join("state")).unwrap().count(), 0);
    fs::remove_dir(dir.path().join("state")).unwrap();
    fs::write(dir.path().join("state"), "").unwrap();
    told(&state(&surroundings), "state directory", Level::Error, "is not a directory", "");
}

#[test]
fn room_for_a_round_is_told_with_what_is_missing() {
    told(
        &[room_for_a_round("/s", 3 << 30, 2 << 30)],
        "disk",
        Level::Ok,
        "/s has 3.0 GiB free, and a round needs 2.0 GiB",
        "",
    );
    told(&[room_for_a_round("/s", 1 << 30, 2 << 30)], "disk", Level::Error, "1.0 GiB free", "free 1.0 GiB there");
    let (_dir, mut surroundings) = healthy("");
    surroundings.classifiers[0].snapshot.intake_problem = "the disk is full".into();
    told(&disk(&surroundings), "intake", Level::Error, "the disk is full", "");
}

#[test]
fn sources_are_looked_at_from_where_the_service_stands() {
    let (dir, mut surroundings) = healthy("");
    told(&sources(&surroundings), "source ", Level::Ok, "3 images, 1 files refused", "");
    surroundings.classifiers[0].snapshot.sources[0].problem = Some("the kernel does not watch it".into());
    told(&sources(&surroundings), "source ", Level::Error, "does not watch it", "");
    fs::remove_dir(dir.path().join("in")).unwrap();
    told(&sources(&surroundings), "source ", Level::Error, "the directory does not exist", "");
    surroundings.classifiers[0].snapshot.sources.clear();
    told(&sources(&surroundings), "source", Level::Warning, "no directory is watched", "[[source]]");
}

/// The trainer, and the providers that this machine's library has.
#[test]
fn programs_and_libraries_are_tried() {
    let (dir, surroundings) = healthy("[round]\ntrainer = \"trainer\"\n");
    told(&programs::trainer(&surroundings), "trainer", Level::Error, "there is no program", "round.trainer");
    fs::write(dir.path().join("trainer"), "no program").unwrap();
    told(&programs::trainer(&surroundings), "trainer", Level::Error, "cannot be run", "coft-trainer");
    told(&programs::providers(&surroundings), "provider cpu", Level::Ok, "computes", "");
    told(&programs::onnx_runtime(&surroundings), "ONNX Runtime", Level::Ok, "1.", "");
    let (_dir, surroundings) = healthy("[serve]\nproviders = []\n");
    told(&programs::providers(&surroundings), "providers", Level::Error, "none", "cpu");
}

#[tokio::test]
async fn all_checks_are_told_in_their_order() {
    let (_dir, surroundings) = healthy("");
    let checks = look(Arc::new(surroundings)).await;
    let names: Vec<&str> = checks.iter().map(|check| check.name.as_str()).collect();
    let order = ["configuration", "model", "serving", "ONNX Runtime", "trainer", "GPU", "state directory", "disk"];
    let places: Vec<_> = order.iter().map(|name| names.iter().position(|found| found == name)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{names:?}");
    assert!(checks.iter().any(|check| Path::new(&check.name).ends_with("in")), "{names:?}");
}
