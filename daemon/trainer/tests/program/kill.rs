//! A round of the real program that is killed again and again ends with the same files as one that was left alone.

use coft_core::ids::{ImageId, JobId};
use coft_core::manifest::{MANIFEST, Manifest};
use coft_core::settings::Settings;
use coft_core::spec::{Device, Method, PROTOCOL, PoolImage, RoundSpec};
use coft_harness::world::{Camera, EVAL_TEMPLATE, PARTS, write_set};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

/// A test that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(600);

fn images(dir: &Path) -> Vec<PoolImage> {
    write_set(dir, &Camera::NIGHT_SHIFT, &[("adapt", 2)], 5).unwrap();
    let folders = PARTS.iter().map(|part| dir.join("adapt").join(part.replace(' ', "_")));
    let mut paths: Vec<PathBuf> =
        folders.flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let image = |(number, path)| PoolImage { id: ImageId(format!("{number:064x}")), path, label: None };
    paths.into_iter().enumerate().map(image).collect()
}

pub fn written(spec: &RoundSpec, dir: &Path) -> PathBuf {
    let path = dir.join("spec.json");
    fs::write(&path, serde_json::to_vec(spec).unwrap()).unwrap();
    path
}

fn start(spec: &RoundSpec, dir: &Path) -> Child {
    let path = written(spec, dir);
    let mut command = Command::new(env!("CARGO_BIN_EXE_coft-trainer"));
    // Standard output serves as the descriptor for events.
    command
        .arg("round")
        .arg(&path)
        .args(["--events-fd", "1", "--save-every", "0"])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command.stderr(Stdio::null()).spawn().unwrap()
}

/// The digests of the candidate's files, except for the report, which holds times.
pub fn candidate(spec: &RoundSpec) -> Manifest {
    let mut manifest: Manifest = serde_json::from_slice(&fs::read(spec.candidate_dir.join(MANIFEST)).unwrap()).unwrap();
    manifest.files.remove("report.json");
    manifest
}

pub fn spec(dir: &Path, method: Method) -> RoundSpec {
    let mut settings = Settings::default();
    for sgd in [&mut settings.phase1.sgd, &mut settings.phase2.sgd] {
        (sgd.epochs, sgd.batch, sgd.minimum_steps) = (1, 8, 4);
    }
    settings.phase1.iterations = 2;
    RoundSpec {
        protocol: PROTOCOL,
        round: JobId(1),
        method,
        model_dir: Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/demo-model"),
        student_dir: None,
        image_size: None,
        class_lines: Vec::new(),
        shares: None,
        classes: PARTS.iter().map(ToString::to_string).collect(),
        template: EVAL_TEMPLATE.into(),
        templates: Vec::new(),
        images: images(dir),
        seed: 1,
        device: match std::env::var("COFT_TEST_DEVICE").as_deref() {
            Ok("cuda") => Device::Cuda,
            _ => Device::Cpu,
        },
        precision: Default::default(),
        threads: 1,
        settings,
        candidate_dir: dir.join("candidate"),
        journal_dir: dir.join("journal"),
        diagnostics: None,
    }
}

#[test]
fn a_killed_round_continues_and_ends_with_the_same_files() {
    killed(Method::Coft);
}

#[test]
fn a_killed_round_of_coft_plus_does_too() {
    killed(Method::CoftPlus);
}

/// Runs one round, and an equal one that is killed nine times.
fn killed(method: Method) {
    let dir = tempfile::tempdir().unwrap();
    let quiet = spec(dir.path(), method);
    assert!(start(&quiet, dir.path()).wait().unwrap().success());
    let expected = candidate(&quiet);

    fs::remove_dir_all(&quiet.journal_dir).unwrap();
    let killed = RoundSpec { candidate_dir: dir.path().join("other"), ..quiet.clone() };
    let under_way = || -> BTreeMap<PathBuf, SystemTime> {
        let entries = fs::read_dir(&killed.journal_dir).into_iter().flatten().map_while(Result::ok);
        let saved = entries.filter(|entry| entry.path().extension().is_some_and(|kind| kind == "progress"));
        saved.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?.modified().ok()?))).collect()
    };
    // Each run is killed after it has saved its progress once, twice or three times.
    let (mut runs, mut cut_off, since) = (0, 0, Instant::now());
    loop {
        let (mut saved, mut savings) = (under_way(), 0);
        let mut trainer = start(&killed, dir.path());
        let status = loop {
            assert!(since.elapsed() < LIMIT, "after {runs} runs");
            let now = under_way();
            savings += usize::from(now.iter().any(|(path, at)| saved.get(path) != Some(at)));
            saved = now;
            if savings > runs % 3 && runs < 9 {
                trainer.kill().unwrap();
                break trainer.wait().unwrap();
            }
            if let Some(status) = trainer.try_wait().unwrap() {
                assert!(status.success(), "{status}");
                break status;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        if status.success() {
            break;
        }
        runs += 1;
        cut_off += usize::from(!under_way().is_empty());
    }
    assert!(runs >= 3 && cut_off >= 1, "it was killed {runs} times, {cut_off} of them with something under way");
    assert_eq!(candidate(&killed), expected);
}
