//! A disk that is full for some time.

use crate::kill::{candidate, spec, written};
use coft_core::disk::{RoundSizes, round_bytes};
use coft_core::event::{Event, Stage};
use coft_core::spec::{Method, RoundSpec};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A small file system, which is unmounted when it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where mounting is not allowed.
    fn mount(at: PathBuf, size: &str) -> Option<Self> {
        fs::create_dir(&at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&at);
        mount.output().unwrap().status.success().then_some(Self(at))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Starts a round that saves after every step.
fn round(spec: &RoundSpec, dir: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coft-trainer"));
    command.arg("round").arg(written(spec, dir)).args(["--events-fd", "1", "--save-every", "0"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_round_fits_into_the_space_that_is_computed_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let spec = spec(dir.path(), Method::CoftPlus);
    let model = coft_models::Model::open(&spec.model_dir).unwrap();
    let (config, vision) = (&model.config, &model.config.vision_config);
    let sizes = RoundSizes {
        encoder_values: model.encoder_parameters(),
        width: vision.hidden_size as u64,
        embedding: config.projection_dim as u64,
        blocks: vision.num_hidden_layers as u64,
        text_width: config.text_config.hidden_size as u64,
        image_side: vision.image_size as u64,
        images: spec.images.len() as u64,
        classes: spec.classes.len() as u64,
    };
    // Without most of the reserve for other data, in which an encoder of this small model would not be noticed.
    let bytes = round_bytes(Method::CoftPlus, &spec.settings, &sizes) - (15 << 20);
    let Some(disk) = SmallDisk::mount(dir.path().join("disk"), &bytes.to_string()) else {
        println!("skipped: cannot mount a small file system; run as root to test a full disk");
        return;
    };
    let spec =
        RoundSpec { journal_dir: disk.0.join("journal"), candidate_dir: disk.0.join("candidate"), ..spec.clone() };
    let ended = round(&spec, dir.path()).wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success() && !told.contains("cannot be saved"), "{told}");
}

#[test]
fn a_round_goes_on_while_its_journal_finds_no_space_and_saves_it_later() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path().join("disk"), "64m") else {
        println!("skipped: cannot mount a small file system; run as root to test a full disk");
        return;
    };
    let quiet = spec(dir.path(), Method::Coft);
    assert!(round(&quiet, dir.path()).wait_with_output().unwrap().status.success());

    let filler = disk.0.join("filler");
    let mut file = File::create(&filler).unwrap();
    while file.write_all(&[0; 64 << 10]).is_ok() {}
    drop(file);
    let journal_dir = disk.0.join("journal");
    let full = RoundSpec { journal_dir, candidate_dir: dir.path().join("other"), ..quiet.clone() };
    let mut trainer = round(&full, dir.path());
    let mut warnings = Vec::new();
    for line in BufReader::new(trainer.stdout.take().unwrap()).lines() {
        match serde_json::from_str(&line.unwrap()).unwrap() {
            Event::Warning { message } => warnings.push(message),
            // Some time has passed: both phases of a model are over, and the disk is still full.
            Event::Progress(progress) if progress.stage == Stage::Phase2Model1 => {
                let _ = fs::remove_file(&filler);
            }
            _ => {}
        }
    }
    assert!(trainer.wait().unwrap().success(), "{warnings:?}");
    assert!(warnings.iter().any(|told| told.contains("cannot be saved (No space left on device")), "{warnings:?}");
    assert_eq!(candidate(&full), candidate(&quiet), "the same files as of a round that was left alone");
    let kept = |spec: &RoundSpec| {
        let mut names: Vec<_> =
            fs::read_dir(&spec.journal_dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.retain(|name| name.to_string_lossy().ends_with(".result"));
        names.sort();
        names
    };
    assert_eq!(kept(&full), kept(&quiet), "what waited was saved when there was space");
}
