//! Rounds over the pools and classes that people have: too few images, too many classes, the same again, something else.

use super::run;
use crate::adapt::NAMED;
use crate::fixture::{Bench, reporter};
use crate::journal::PACE;
use crate::random;
use coft_core::event::FailureKind;
use coft_core::manifest::{MANIFEST, Manifest, PROBE, REPORT};
use coft_core::promotion::{Reason, Verdict, judge};
use coft_core::report::{CandidateSigns, ClassReport, Report, ZERO_SHOT};
use coft_core::spec::{Method, Precision, RoundSpec};
use image::{Rgb, RgbImage};
use rand::Rng;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use tch::{Kind, Tensor};

/// Runs the round, and proves what holds of all of them.
#[track_caller]
fn ended(name: &str, spec: &RoundSpec) -> Report {
    run(spec, PACE, &mut reporter()).unwrap_or_else(|failure| panic!("{name}: {failure}"));
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
    let signs = report.adaptation.as_ref().unwrap();
    let k = spec.settings.phase1.seeds(spec.images.len(), classes) as u64;
    for model in [0, 1] {
        assert!(report.classes.iter().all(|class| class.seeds[model] <= k.min(images)), "{name}");
        assert_eq!(sum(&|c| c.clean[model]) as f64 / images as f64, signs.clean_fraction[model], "{name}");
    }
    for candidate in &signs.candidates {
        let CandidateSigns { stability, margin, kept, shift, balance, coherence, .. } = *candidate;
        let told = [stability, margin, kept, shift, balance, coherence];
        assert!(told.iter().all(|sign| (-1e-6..=1.0 + 1e-6).contains(sign)), "{name}: {candidate:?}");
    }

    // Classes that nothing looks like are warned of, in one line whatever their number.
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

/// A thousand names of the embedded model's own words.
fn thousand_classes() -> Vec<String> {
    let colours = ["black", "blue", "green", "red", "yellow", "white", "beige", "grey", "dark", "brass"];
    let kinds = ["zinc", "copper", "steel", "metal", "wooden", "concrete", "flat", "perforated", "lifting", "brushed"];
    let parts = crate::fixture::classes();
    let all = colours.iter().flat_map(|colour| kinds.iter().map(move |kind| format!("{colour} {kind}")));
    all.flat_map(|front| parts.iter().map(move |part| format!("{front} {part}")).collect::<Vec<_>>()).collect()
}

/// Pictures of nothing.
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

type Change = fn(&mut RoundSpec);
type Expected = fn(&Report) -> bool;

#[test]
fn a_round_over_any_pool_ends_with_a_sound_candidate() {
    let cases: [(&str, Method, Change, Expected); 6] = [
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
            // Of so few images one class of a model may be left without a clean pair; nothing else is to be told.
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
            "every picture four times",
            Method::Coft,
            |spec| {
                let paths: Vec<PathBuf> = spec.images.iter().step_by(8).map(|image| image.path.clone()).collect();
                spec.images.truncate(4 * paths.len());
                spec.images.iter_mut().zip(paths.iter().cycle()).for_each(|(image, path)| image.path = path.clone());
            },
            // The catalogue knows a picture by its content; to the trainer each copy is an image.
            |report| report.classes.iter().all(|class| class.zero_shot % 4 == 0 && class.deployed % 4 == 0),
        ),
        (
            "none of the classes",
            Method::Coft,
            |spec| {
                let paths = noise(spec, 20);
                spec.images.truncate(paths.len());
                spec.images.iter_mut().zip(paths).for_each(|(image, path)| image.path = path);
            },
            // What tells of it is that a few classes get everything; the models agree and confirm as they do on parts.
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

#[test]
fn labels_that_nobody_confirms_leave_the_pretrained_model() {
    for method in [Method::Coft, Method::CoftPlus] {
        let bench = Bench::new(1);
        let mut spec = bench.spec(method);
        // The two prompts of a model never part: all margins are ties, and a tie is not clean.
        (spec.settings.phase1.context_deviation, spec.settings.phase1.sgd.learning_rate) = (1e-12, 1e-12);
        let report = ended("nothing clean", &spec);
        let signs = report.adaptation.as_ref().unwrap();
        assert_eq!((signs.confirmed_fraction, signs.clean_fraction), ([0.0, 0.0], [0.0, 0.0]), "{method:?}");
        for model in [1, 2] {
            let told = format!(
                "model {model}: the other model confirmed labels of fewer than two classes; it stays as pretrained"
            );
            assert!(report.warnings.contains(&told), "{method:?}: {:?}", report.warnings);
        }
        let tuned = signs.candidates.iter().filter(|candidate| candidate.name.starts_with("model"));
        assert!(tuned.clone().count() == 2 && tuned.clone().all(|candidate| candidate.kept == 1.0), "{method:?}");
        let kept = [Reason::NothingBetter, Reason::TooFewClean { found: 0.0 }].map(Verdict::Keep);
        assert_eq!(judge(method, Precision::Fp32, 0.0, &report), kept[usize::from(signs.deployed != ZERO_SHOT)]);
    }
}

#[test]
fn one_class_is_refused_before_anything_is_read() {
    let bench = Bench::new(1);
    let mut spec = bench.spec(Method::Coft);
    spec.classes.truncate(1);
    let path = spec.candidate_dir.with_file_name("spec.json");
    fs::write(&path, serde_json::to_vec(&spec).unwrap()).unwrap();
    let refused = crate::read(&path).unwrap_err();
    assert_eq!(refused.kind(), FailureKind::BadSpec);
    assert!(refused.to_string().ends_with("name 2 or more"), "{refused}");
}
