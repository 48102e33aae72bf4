//! Rounds over unusual pools and classes: too few images, too many classes, many copies, other pictures.

use super::room::Room;
use super::{run, run_within};
use crate::adapt::NAMED;
use crate::fixture::{Bench, reporter};
use crate::journal::SAVE_INTERVAL;
use crate::memory::Estimate;
use crate::pool::Pool;
use crate::random;
use coft_core::candidate::{CandidateName, ModelIndex};
use coft_core::event::FailureKind;
use coft_core::ids::ClassId;
use coft_core::manifest::{MANIFEST, Manifest, PROBE, REPORT};
use coft_core::near_duplicates::{self, NearDuplicates};
use coft_core::promotion::{Reason, Verdict, judge};
use coft_core::report::{CandidateMetrics, ClassReport, Report};
use coft_core::spec::{Method, Precision, RoundSpec};
use image::{Rgb, RgbImage};
use rand::Rng;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};

/// Runs the round, and checks what holds for every round.
#[track_caller]
fn ended(name: &str, spec: &RoundSpec) -> Report {
    run(spec, SAVE_INTERVAL, &mut reporter()).unwrap_or_else(|failure| panic!("{name}: {failure}"));
    let read = |file| fs::read(spec.candidate_dir.join(file)).unwrap();
    let report: Report = serde_json::from_slice(&read(REPORT)).unwrap();
    let manifest: Manifest = serde_json::from_slice(&read(MANIFEST)).unwrap();
    let (images, classes) = (spec.images.len() as u64, spec.classes.len());

    let probe: BTreeMap<String, Tensor> =
        Tensor::read_safetensors(spec.candidate_dir.join(PROBE)).unwrap().into_iter().collect();
    assert_eq!(probe["logits"].size(), [images.min(16) as i64, classes as i64], "{name}: a row of the head a class");
    let off = (probe["probabilities"].sum_dim_intlist([-1i64].as_slice(), false, Kind::Float) - 1.0).abs().max();
    assert!(off.double_value(&[]) < 1e-5, "{name}: probabilities");
    assert!((0.25..=4.0).contains(&manifest.temperature), "{name}: temperature {}", manifest.temperature);

    let sum = |of: &dyn Fn(&ClassReport) -> u64| report.classes.iter().map(of).sum::<u64>();
    assert!(report.classes.iter().map(|class| &class.name).eq(&spec.classes), "{name}");
    assert_eq!((report.images, sum(&|c| c.zero_shot), sum(&|c| c.deployed)), (images, images, images), "{name}");
    let expected: f64 = report.classes.iter().map(|class| class.expected_share.unwrap()).sum();
    assert!((expected - 1.0).abs() < 1e-5, "{name}: {expected}");
    let adaptation = report.adaptation.as_ref().unwrap();
    let distinct = images - adaptation.near_duplicates;
    let told = fs::read(near_duplicates::file(&spec.candidate_dir)).unwrap();
    let NearDuplicates(told) = serde_json::from_slice(&told).unwrap();
    assert_eq!(told.len() as u64, adaptation.near_duplicates, "{name}");
    assert!(told.values().all(|standing| !told.contains_key(standing)), "{name}: {told:?}");
    let k = spec.settings.phase1.seeds(distinct as usize, classes) as u64;
    for model in ModelIndex::BOTH.map(ModelIndex::index) {
        assert!(report.classes.iter().all(|class| class.seeds[model] <= k.min(distinct)), "{name}");
        assert_eq!(sum(&|c| c.clean[model]) as f64 / distinct as f64, adaptation.clean_fraction[model], "{name}");
    }
    assert_eq!(adaptation.candidates[0].z_score, 0.0, "{name}");
    assert!(adaptation.candidates.iter().all(|candidate| candidate.z_score.is_finite()), "{name}");
    for candidate in &adaptation.candidates {
        let CandidateMetrics { stability, margin, agreement_with_zero_shot, tv_distance, balance, coherence, .. } =
            *candidate;
        let told = [stability, margin, agreement_with_zero_shot, tv_distance, balance, coherence];
        assert!(told.iter().all(|metric| (-1e-6..=1.0 + 1e-6).contains(metric)), "{name}: {candidate:?}");
    }

    // Classes to which no image looks similar are reported in one warning, whatever their number.
    let unseen: Vec<&ClassReport> = report.classes.iter().filter(|class| class.zero_shot == 0).collect();
    let told: Vec<&String> = report.warnings.iter().filter(|told| told.starts_with("no image looks like")).collect();
    assert_eq!(told.len(), usize::from(!unseen.is_empty()), "{name}: {told:?}");
    for class in &report.classes {
        let place = unseen.iter().position(|unseen| unseen.name == class.name);
        let named = told.iter().any(|told| told.contains(&format!("{:?}", class.name)));
        assert_eq!(named, place.is_some_and(|place| place < NAMED), "{name}: {:?} in {told:?}", class.name);
    }
    if unseen.len() > NAMED {
        assert!(told[0].ends_with(&format!(" and {} more", unseen.len() - NAMED)), "{name}: {}", told[0]);
    }
    report
}

/// A thousand names made of words that the embedded model knows.
fn thousand_classes() -> Vec<String> {
    let colours = ["black", "blue", "green", "red", "yellow", "white", "beige", "grey", "dark", "brass"];
    let kinds = ["zinc", "copper", "steel", "metal", "wooden", "concrete", "flat", "perforated", "lifting", "brushed"];
    let parts = crate::fixture::classes();
    let all = colours.iter().flat_map(|colour| kinds.iter().map(move |kind| format!("{colour} {kind}")));
    all.flat_map(|front| parts.iter().map(move |part| format!("{front} {part}")).collect::<Vec<_>>()).collect()
}

/// Pictures of random noise.
fn noise(spec: &RoundSpec, count: usize) -> Vec<PathBuf> {
    let mut rng = random::stream(7, "noise");
    let dir = spec.candidate_dir.parent().unwrap();
    let mut picture = |number: usize| {
        let path = dir.join(format!("noise{number}.png"));
        RgbImage::from_fn(64, 64, |_, _| Rgb(rng.random())).save(&path).unwrap();
        path
    };
    (0..count).map(&mut picture).collect()
}

/// A picture of the same scene in slightly different light, beside the picture.
fn a_moment_later(path: &Path, moment: u8) -> PathBuf {
    let mut picture = image::open(path).unwrap().into_rgb8();
    picture
        .pixels_mut()
        .for_each(|Rgb(channels)| channels.iter_mut().for_each(|value| *value = value.saturating_add(moment)));
    let later = path.with_extension(format!("{moment}.png"));
    picture.save(&later).unwrap();
    later
}

type Change = fn(&mut RoundSpec);
type Expected = fn(&Report) -> bool;

#[test]
fn a_round_over_any_pool_ends_with_a_sound_candidate() {
    let cases: [(&str, Method, Change, Expected); 5] = [
        (
            "one image",
            Method::CoftPlus,
            |spec| spec.images.truncate(1),
            |report| report.classes.iter().filter(|class| class.seeds == [1, 1]).count() == 1,
        ),
        (
            "10 images, fewer than a batch",
            Method::CoftPlus,
            |spec| {
                spec.images = spec.images.iter().step_by(4).cloned().collect();
                (spec.settings.phase1.sgd.batch, spec.settings.phase2.sgd.batch) = (64, 64);
            },
            |report| report.images == 10 && report.adaptation.as_ref().unwrap().candidates[0].balance > 0.9,
        ),
        (
            "two classes",
            Method::Coft,
            |spec| {
                spec.classes.truncate(2);
                spec.images.truncate(8);
            },
            // With so few images, one class of a model may be left without a clean pair. No other warning is allowed.
            |report| {
                let told =
                    |warning: &String| warning.ends_with("labels of fewer than two classes; it stays as pretrained");
                report.warnings.iter().all(told) && report.classes.iter().all(|c| c.seeds[0] > 0 && c.deployed > 0)
            },
        ),
        (
            "a thousand classes",
            Method::Coft,
            |spec| {
                spec.classes = thousand_classes();
                for sgd in [&mut spec.settings.phase1.sgd, &mut spec.settings.phase2.sgd] {
                    (sgd.batch, sgd.minimum_steps) = (64, 1);
                }
            },
            |report| report.classes.len() == 1000 && report.classes.iter().all(|c| c.seeds == [c.zero_shot; 2]),
        ),
        (
            "none of the classes",
            Method::Coft,
            |spec| {
                let paths = noise(spec, 20);
                spec.images.truncate(paths.len());
                spec.images.iter_mut().zip(paths).for_each(|(image, path)| image.path = path);
            },
            // Only the balance shows it: a few classes get all the images. The models agree and confirm as they do on
            // parts.
            |report| report.adaptation.as_ref().unwrap().candidates[0].balance < 0.5,
        ),
    ];
    let bench = Bench::new(4);
    for (number, (name, method, change, expected)) in cases.into_iter().enumerate() {
        let mut spec = bench.spec(method);
        let dir = spec.candidate_dir.with_file_name(number.to_string());
        fs::create_dir(&dir).unwrap();
        (spec.candidate_dir, spec.journal_dir) = (dir.join("candidate"), dir.join("journal"));
        change(&mut spec);
        let report = ended(name, &spec);
        assert!(expected(&report), "{name}: {report:?}");
    }
}

/// A still camera: four pictures of every scene.
#[test]
fn near_duplicates_are_used_once_and_told() {
    let bench = Bench::new(4);
    let mut spec = bench.spec(Method::Coft);
    let paths: Vec<PathBuf> = spec.images.iter().step_by(8).map(|image| image.path.clone()).collect();
    let scenes = paths.len();
    spec.images.truncate(4 * scenes);
    for (number, image) in spec.images.iter_mut().enumerate() {
        image.path = a_moment_later(&paths[number % scenes], (number / scenes) as u8);
    }
    // The label, ball bearing, stands for the other three images of its scene.
    spec.images[2 * scenes].label = Some(ClassId(6));
    let report = ended("a still camera", &spec);
    let seeds: u64 = report.classes.iter().map(|class| class.seeds[0]).sum();
    assert_eq!((report.adaptation.unwrap().near_duplicates, seeds), (3 * scenes as u64, scenes as u64));
    let NearDuplicates(told) =
        serde_json::from_slice(&fs::read(near_duplicates::file(&spec.candidate_dir)).unwrap()).unwrap();
    let stands = |number: usize| 2 * scenes * usize::from(number.is_multiple_of(scenes)) + number % scenes;
    let expected = (0..4 * scenes).filter(|&number| stands(number) != number);
    let expected = expected.map(|number| [number, stands(number)].map(|number| spec.images[number].id.clone()).into());
    assert_eq!(told, expected.collect());
}

#[test]
fn labels_that_nobody_confirms_leave_the_pretrained_model() {
    for method in [Method::Coft, Method::CoftPlus] {
        let bench = Bench::new(1);
        let mut spec = bench.spec(method);
        // The two prompts of a model stay nearly equal. So all margins are ties except for their last bits, which
        // depend on the processor's kernels. A tie is not clean.
        (spec.settings.phase1.context_deviation, spec.settings.phase1.sgd.learning_rate) = (1e-12, 1e-12);
        let report = ended("nothing clean", &spec);
        let adaptation = report.adaptation.as_ref().unwrap();
        assert_eq!((adaptation.confirmed_fraction, adaptation.clean_fraction), ([0.0, 0.0], [0.0, 0.0]), "{method:?}");
        for model in ModelIndex::BOTH {
            let told = format!(
                "model {model}: the other model confirmed labels of fewer than two classes; it stays as pretrained"
            );
            assert!(report.warnings.contains(&told), "{method:?}: {:?}", report.warnings);
        }
        let models = [CandidateName::Model1, CandidateName::Model2];
        let tuned = adaptation.candidates.iter().filter(|candidate| models.contains(&candidate.name));
        assert!(
            tuned.clone().count() == 2 && tuned.clone().all(|candidate| candidate.agreement_with_zero_shot == 1.0),
            "{method:?}"
        );
        let kept = [Reason::NothingBetter, Reason::TooFewClean { found: 0.0 }].map(Verdict::Keep);
        assert_eq!(
            judge(method, Precision::Fp32, 0.0, None, &report),
            kept[usize::from(adaptation.deployed != CandidateName::ZeroShot)]
        );
    }
}

/// The smallest number of bytes for which `fits` is true.
fn least(fits: impl Fn(u64) -> bool) -> u64 {
    let (mut too_little, mut enough) = (0, 1 << 40);
    while enough - too_little > 1 {
        let middle = too_little + (enough - too_little) / 2;
        *if fits(middle) { &mut enough } else { &mut too_little } = middle;
    }
    enough
}

/// The report, and the digests of the files that must not depend on memory, of a round with so much free memory.
fn with_memory(spec: &RoundSpec, name: &str, free: Option<u64>) -> (Report, BTreeMap<String, String>) {
    let place = |kind: &str| spec.candidate_dir.with_file_name(format!("{name}-{kind}"));
    let spec = RoundSpec { candidate_dir: place("candidate"), journal_dir: place("journal"), ..spec.clone() };
    run_within(&spec, SAVE_INTERVAL, |_| free, &mut reporter()).unwrap_or_else(|failure| panic!("{name}: {failure}"));
    let read = |file| fs::read(spec.candidate_dir.join(file)).unwrap();
    let mut manifest: Manifest = serde_json::from_slice(&read(MANIFEST)).unwrap();
    manifest.files.remove(REPORT);
    (serde_json::from_slice(&read(REPORT)).unwrap(), manifest.files)
}

/// The pool was always held in memory: 10,000 images of 224 px took 2 GB, and a small board refused every round.
#[test]
fn a_pool_that_memory_does_not_hold_is_read_from_the_disk() {
    let bench = Bench::new(2);
    let spec = bench.spec(Method::Coft);
    let paths: Vec<&std::path::Path> = spec.images.iter().map(|image| image.path.as_path()).collect();
    let pixels = crate::pool::bytes(&paths, &bench.checkpoint.preprocess);
    let estimate = |pixels| Estimate::new(&bench.checkpoint, &bench.checkpoint, pixels, &spec);
    let batch = spec.settings.phase1.sgd.batch as usize;
    let read_from_disk =
        |report: &Report| report.warnings.iter().filter(|told| told.contains("read from the disk")).count();

    let (report, held) = with_memory(&spec, "held", None);
    assert_eq!(read_from_disk(&report), 0);
    let whole = least(|free| estimate(0).micro_batches(batch, free).is_ok_and(|micro_batches| micro_batches == 1));
    let held_with = |free| Room::of(&spec, &paths, &bench.checkpoint, None, (Some(free), None)).unwrap().held;
    assert!(held_with(whole + pixels) && !held_with(whole));
    let (report, read) = with_memory(&spec, "read", Some(whole));
    assert_eq!((read_from_disk(&report), read), (1, held), "{:?}", report.warnings);

    // With so little memory, the round was refused while the pool was held in memory.
    let little = least(|free| estimate(0).micro_batches(batch, free).is_ok());
    assert!(estimate(pixels).micro_batches(batch, little).is_err());
    assert!(!held_with(little));
}

#[test]
fn a_part_of_a_pool_has_the_pixels_of_its_images() {
    let bench = Bench::new(1);
    let spec = bench.spec(Method::Coft);
    let paths: Vec<&Path> = spec.images.iter().map(|image| image.path.as_path()).collect();
    let (preprocess, device) = (&bench.checkpoint.preprocess, tch::Device::Cpu);
    let pools = [Pool::load(&paths, preprocess, device), Pool::open(&paths, preprocess, device)];
    for pool in pools.map(Result::unwrap) {
        let part = pool.only(&[5, 2, 7]).only(&[2, 0]);
        assert_eq!(part.len(), 2);
        assert!(part.batch(&[0, 1]).equal(&pool.batch(&[7, 5])));
    }
}

#[test]
fn a_round_without_images_ends_for_want_of_seeds() {
    let bench = Bench::new(1);
    let mut spec = bench.spec(Method::Coft);
    spec.images.clear();
    let failure = run(&spec, SAVE_INTERVAL, &mut reporter()).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::NoSeeds, "{failure}");
}

#[test]
fn pixels_that_are_damaged_in_the_middle_of_a_round_are_told_as_such() {
    let bench = Bench::new(1);
    let spec = bench.spec(Method::Coft);
    let paths: Vec<&std::path::Path> = spec.images.iter().map(|image| image.path.as_path()).collect();
    let pool = Pool::open(&paths, &bench.checkpoint.preprocess, tch::Device::Cpu).unwrap();
    // An image that is removed stays readable. The bytes of the other image are overwritten.
    fs::remove_file(paths[0]).unwrap();
    fs::write(paths[1], "no image").unwrap();
    assert_eq!(pool.batch(&[0]).size()[0], 1);
    let panic = std::panic::catch_unwind(|| pool.batch(&[1])).unwrap_err();
    let failure = crate::error::RoundError::of_panic(panic);
    assert_eq!(failure.kind(), FailureKind::BadImages);
    assert!(failure.to_string().contains(&paths[1].display().to_string()), "{failure}");
}

#[test]
fn a_round_that_goes_on_under_other_arithmetic_says_so() {
    let bench = Bench::new(1);
    let spec = bench.spec(Method::Coft);
    ended("begun", &spec);
    let noted = spec.journal_dir.join("arithmetic");
    let here = fs::read_to_string(&noted).unwrap();
    let told = |report: &Report| report.warnings.iter().any(|told| told.contains("other arithmetic (processor"));
    let again = || {
        fs::remove_dir_all(&spec.candidate_dir).unwrap();
        ended("gone on", &spec)
    };
    assert!(!told(&again()), "on the same machine");
    fs::write(&noted, here.replace("processor: ", "processor: another ")).unwrap();
    assert!(told(&again()));
    assert_eq!(fs::read_to_string(&noted).unwrap(), here);
    assert!(told(&again()), "the warning is kept for the report of the round");
}
