//! Imports and activations, judged through ONNX Runtime on the tiny generations of `tests/goldens/serve`.

use super::*;
use crate::decode_budget::DecodeBudget;
use crate::model;
use crate::serve::{Classifier, Settings};
use coft_core::candidate::CandidateName;
use coft_core::event::FailureKind;
use coft_core::manifest::{MANIFEST, MODEL, REPORT};
use coft_core::report::{Adaptation, CandidateMetrics, ClassReport, Report};
use coft_core::shares::Shares;
use coft_models::Model;
use coft_vision::Preprocess;
use image::{Rgb, RgbImage};
use std::cell::Cell;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

const ROUND: JobId = JobId(7);

/// A copy of a golden generation, as a round leaves one.
pub fn candidate(root: &Path, name: &str) -> PathBuf {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens/serve").join(name);
    let dir = root.join("candidate");
    fs::create_dir_all(&dir).unwrap();
    for entry in fs::read_dir(golden).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.join(path.file_name().unwrap())).unwrap();
    }
    dir
}

/// The soft generation as a round leaves it if the round's two models do not agree, which speaks against the
/// generation.
pub fn doubted(root: &Path) -> PathBuf {
    let dir = candidate(root, "soft");
    let mut told = report(&dir);
    told.adaptation = Some(Adaptation {
        near_duplicates: 0,
        label_agreement: 0.3,
        confirmed_fraction: [0.9; 2],
        clean_fraction: [0.9; 2],
        agreement: 0.3,
        candidates: Vec::new(),
        deployed: CandidateName::Average,
    });
    restate(&dir, REPORT, &serde_json::to_vec(&told).unwrap(), |manifest| manifest.method = Method::Coft);
    dir
}

/// A golden generation as a round leaves it in a week in which only one class appears: zero-shot finds hardly any other
/// class, but the new model does.
pub fn undecidable(root: &Path, name: &str) -> PathBuf {
    let dir = candidate(root, name);
    let mut told = report(&dir);
    told.images = 100;
    let class = |(name, zero_shot, deployed): (&str, u64, u64)| ClassReport {
        name: name.into(),
        zero_shot,
        seeds: [1; 2],
        clean: [1; 2],
        deployed,
        expected_share: None,
        own_labels: None,
        nearest: None,
    };
    told.classes = [("red", 98, 60), ("green", 1, 20), ("blue", 1, 20)].map(class).into();
    let metrics = |name, agreement_with_zero_shot, tv_distance| CandidateMetrics {
        name,
        stability: 0.9,
        margin: 0.5,
        agreement_with_zero_shot,
        tv_distance,
        balance: 0.5,
        coherence: 0.2,
        z_score: 0.0,
    };
    told.adaptation = Some(Adaptation {
        near_duplicates: 0,
        label_agreement: 0.9,
        confirmed_fraction: [0.9; 2],
        clean_fraction: [0.9; 2],
        agreement: 0.9,
        candidates: vec![metrics(CandidateName::ZeroShot, 1.0, 0.0), metrics(CandidateName::Average, 0.6, 0.38)],
        deployed: CandidateName::Average,
    });
    restate(&dir, REPORT, &serde_json::to_vec(&told).unwrap(), |manifest| manifest.method = Method::Coft);
    dir
}

fn report(candidate: &Path) -> Report {
    serde_json::from_slice(&fs::read(candidate.join(REPORT)).unwrap()).unwrap()
}

/// Replaces a file of a candidate, and states the new file in the manifest.
pub fn restate(dir: &Path, name: &str, bytes: &[u8], change: impl FnOnce(&mut Manifest)) {
    fs::write(dir.join(name), bytes).unwrap();
    let mut manifest: Manifest = serde_json::from_slice(&fs::read(dir.join(MANIFEST)).unwrap()).unwrap();
    manifest.files.insert(name.into(), coft_fs::sha256(bytes));
    change(&mut manifest);
    fs::write(dir.join(MANIFEST), serde_json::to_vec(&manifest).unwrap()).unwrap();
}

/// A service whose generation 1, the soft one, serves.
fn service(root: &Path) -> (Promoter, Base) {
    let (promoter, base) = idle(root);
    promoter.serve_active();
    (promoter, base)
}

/// A service whose generation 1, the soft one, is active and not loaded yet; the base's directory is the generation's.
pub fn idle(root: &Path) -> (Promoter, Base) {
    let mut store = Store::open(root).unwrap();
    let staged = store.stage(&candidate(root, "soft")).unwrap();
    let dir = store.activate(staged, 0.0, None).unwrap().dir;
    let promoter = Promoter::new(store, Classifier::start(Settings::default(), DecodeBudget::default()).1);
    let manifest: Manifest = serde_json::from_slice(&fs::read(dir.join(MANIFEST)).unwrap()).unwrap();
    let base = Base {
        dir,
        digest: manifest.base_model,
        sizes: Default::default(),
        preprocess: Preprocess::from_json(&manifest.preprocessing).unwrap(),
        image_size: None,
        classes: manifest.classes,
        class_lines: Vec::new(),
        shares: None,
        template: String::new(),
        templates: Vec::new(),
        student: None,
    };
    (promoter, base)
}

/// `count` equal green pictures, which the sharp generation answers less evenly than the soft one.
fn pictures(root: &Path, count: usize) -> Vec<PathBuf> {
    let picture = |i| {
        let path = root.join(format!("{i}.png"));
        RgbImage::from_pixel(8, 8, Rgb([40, 200, 40])).save(&path).unwrap();
        path
    };
    (0..count).map(picture).collect()
}

fn import(root: &Path, service: &(Promoter, Base), images: &[PathBuf]) -> PromotionOutcome {
    import_of("sharp", root, service, images)
}

fn import_of(name: &str, root: &Path, (promoter, base): &(Promoter, Base), images: &[PathBuf]) -> PromotionOutcome {
    promoter.judge_import(&candidate(root, name), ROUND, base, images, &CancellationToken::new()).unwrap()
}

/// The generations in the store, by their names on the disk.
fn stored(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root.join("generations")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_damaged_picture_of_the_pool_does_not_fail_an_import() {
    let root = TempDir::new().unwrap();
    let service = service(root.path());
    let images = pictures(root.path(), promotion::IMPORT_IMAGES + 1);
    fs::write(&images[3], "not an image").unwrap();
    match import(root.path(), &service, &images) {
        PromotionOutcome::Keep { reason, .. } => assert!(reason.contains("less evenly"), "{reason}"),
        PromotionOutcome::Promote(_) => panic!("judged by the others all the same"),
    }
    for image in &images {
        fs::write(image, "not an image").unwrap();
    }
    assert!(matches!(import(root.path(), &service, &images), PromotionOutcome::Promote(_)), "as without images");
}

/// Such a generation was compared with the teacher's image size, so that a zero-shot job replaced every adapted
/// generation.
#[test]
fn a_generation_that_reads_the_student_s_images_is_current() {
    let root = TempDir::new().unwrap();
    let models = root.path().join("models");
    let demo = model::prepare(&model::Settings::default(), &models).unwrap();
    let side = 2 * demo.preprocess.crop;
    let (image_size, student) = (Some(side), Some(demo.dir.clone()));
    let base = model::prepare(&model::Settings { image_size, student, ..Default::default() }, &models).unwrap();
    let of_student = Model::open(&demo.dir).unwrap().preprocessing;
    let of_teacher = coft_vision::with_image_size(&of_student, side).unwrap();

    let mut store = Store::open(root.path()).unwrap();
    let path = candidate(root.path(), "soft").join(MANIFEST);
    let manifest: Manifest = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let manifest = Manifest { classes: base.classes.clone(), base_model: base.digest.clone(), ..manifest };
    let of = |preprocessing| Manifest { preprocessing, ..manifest.clone() };
    assert_eq!(foreign(&of(of_teacher), &base), Some("other image sizes"));
    fs::write(&path, serde_json::to_vec(&of(of_student)).unwrap()).unwrap();
    let staged = store.stage(&root.path().join("candidate")).unwrap();
    store.activate(staged, 0.0, None).unwrap();
    assert!(Promoter::new(store, Classifier::start(Settings::default(), DecodeBudget::default()).1).is_current(&base));
}

#[test]
fn a_zero_shot_generation_of_other_shares_is_made_anew_and_an_adapted_one_is_neither_remade_nor_gone_back_to() {
    let models = TempDir::new().unwrap();
    let mut base = model::prepare(&model::Settings::default(), models.path()).unwrap();
    let preprocessing = Model::open(&base.dir).unwrap().preprocessing;
    let named = std::collections::BTreeMap::from([(base.classes[0].clone(), 0.9)]);
    base.shares = Some(Shares::new(&named, &base.classes).unwrap());
    let current = |method, shares| {
        let root = TempDir::new().unwrap();
        let mut store = Store::open(root.path()).unwrap();
        let path = candidate(root.path(), "soft").join(MANIFEST);
        let manifest: Manifest = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let (classes, base_model, preprocessing) = (base.classes.clone(), base.digest.clone(), preprocessing.clone());
        let manifest = Manifest { classes, base_model, preprocessing, method, shares, ..manifest };
        fs::write(&path, serde_json::to_vec(&manifest).unwrap()).unwrap();
        let staged = store.stage(&root.path().join("candidate")).unwrap();
        store.activate(staged, 0.0, None).unwrap();
        let promoter = Promoter::new(store, Classifier::start(Settings::default(), DecodeBudget::default()).1);
        (promoter.is_current(&base), promoter.fitting(&base).is_some())
    };
    assert_eq!(current(Method::ZeroShot, None), (false, false));
    assert_eq!(current(Method::ZeroShot, base.shares.clone()), (true, false));
    // Training is not thrown away. But the service does not go back to what knows nothing of the shares.
    assert_eq!(current(Method::Coft, None), (true, false));
    assert_eq!(current(Method::Coft, base.shares.clone()), (true, true));
}

/// Where zero-shot was the best of a round, what served went on without the shares that the user had set.
#[test]
fn a_round_that_finds_nothing_better_brings_the_shares_that_the_user_set() {
    let root = TempDir::new().unwrap();
    let (promoter, _) = service(root.path());
    let judged = |shares: Option<Shares>| {
        let dir = undecidable(root.path(), "soft");
        let mut told = report(&dir);
        told.adaptation.as_mut().unwrap().deployed = CandidateName::ZeroShot;
        restate(&dir, REPORT, &serde_json::to_vec(&told).unwrap(), |manifest| manifest.shares = shares);
        promoter.judge(&dir, &CancellationToken::new()).unwrap()
    };
    let kept = judged(None);
    assert!(
        matches!(&kept, PromotionOutcome::Keep { reason, candidate: None } if reason.contains("clearly better")),
        "{kept:?}"
    );
    let classes = ["red", "green", "blue"].map(str::to_owned);
    let shares = Shares::new(&[("red".to_owned(), 0.9)].into(), &classes).unwrap();
    let promoted = judged(Some(shares.clone()));
    let PromotionOutcome::Promote(promotion) = promoted else { panic!("{promoted:?}") };
    let generation = promoter.promote(*promotion, None).unwrap();
    assert_eq!(promoter.expects(generation), Some(shares.clone()));
    let told = promoter.generations().0.pop().unwrap().shares;
    assert_eq!(
        told.iter().map(|(class, share)| format!("{class} {share:.2}")).collect::<Vec<_>>(),
        ["red 0.90", "green 0.05", "blue 0.05"]
    );
    let kept = judged(Some(shares));
    assert!(matches!(&kept, PromotionOutcome::Keep { .. }), "what serves has them: {kept:?}");
}

/// Candidates are loaded from where they are staged, and promoted to another directory.
#[test]
fn a_promoted_generation_s_session_can_be_opened_again() {
    let root = TempDir::new().unwrap();
    let service = service(root.path());
    let PromotionOutcome::Promote(promotion) = import(root.path(), &service, &[]) else { panic!("it was kept") };
    service.0.promote(*promotion, None).unwrap();
    service.0.controller.close_session();
    let image = &pictures(root.path(), 1)[0];
    assert_eq!(service.0.controller.answer(image).unwrap().len(), 3);
}

#[test]
fn a_damaged_generation_gives_way_to_the_one_before_it_when_the_service_starts() {
    let root = TempDir::new().unwrap();
    let (promoter, _) = service(root.path());
    let image = &pictures(root.path(), 1)[0];
    let soft = promoter.controller.answer(image).unwrap();
    let mut store = Store::open(root.path()).unwrap();
    let staged = store.stage(&candidate(root.path(), "sharp")).unwrap();
    let model = store.activate(staged, 0.0, None).unwrap().dir.join(MODEL);
    fs::set_permissions(&model, Permissions::from_mode(0o644)).unwrap();
    fs::write(&model, "damaged").unwrap();

    let promoter = Promoter::new(
        Store::open(root.path()).unwrap(),
        Classifier::start(Settings::default(), DecodeBudget::default()).1,
    );
    promoter.serve_active();
    assert_eq!(promoter.controller.answer(image).unwrap(), soft);
    let (generations, running) = promoter.generations();
    assert!(generations[0].active && running.problem.is_empty(), "{generations:?} {running:?}");
}

#[test]
fn a_generation_that_answers_other_than_its_probe_does_not_serve() {
    let root = TempDir::new().unwrap();
    let mut store = Store::open(root.path()).unwrap();
    let staged = store.stage(&candidate(root.path(), "twisted")).unwrap();
    store.activate(staged, 0.0, None).unwrap();
    let promoter = Promoter::new(store, Classifier::start(Settings::default(), DecodeBudget::default()).1);
    promoter.serve_active();
    let problem = promoter.generations().1.problem;
    assert!(
        problem.starts_with("generation 1 cannot be loaded") && problem.contains("differ from torch's"),
        "{problem}"
    );
}

#[test]
fn a_stopped_judgement_leaves_nothing_staged() {
    let root = TempDir::new().unwrap();
    let (promoter, base) = service(root.path());
    let stop = CancellationToken::new();
    stop.cancel();
    let failure = promoter.judge_import(&candidate(root.path(), "sharp"), ROUND, &base, &[], &stop).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Cancelled);
    assert_eq!(promoter.judge(&candidate(root.path(), "sharp"), &stop).unwrap_err().kind, FailureKind::Cancelled);
    assert_eq!(fs::read_dir(root.path().join("generations")).unwrap().count(), 1, "the active one alone");
}

#[test]
fn a_stop_is_looked_at_before_every_image() {
    let images = vec![PathBuf::from("picture"); 256];
    let (stop, asked) = (CancellationToken::new(), Cell::new(0));
    let answer = |_: &Path| {
        asked.set(asked.get() + 1);
        if asked.get() == 3 {
            stop.cancel();
        }
        Ok(vec![1.0])
    };
    let failure = side_by_side(&images, &stop, answer, |_| Ok(vec![1.0])).unwrap_err();
    assert_eq!((failure.kind, asked.get()), (FailureKind::Cancelled, 3));
}

/// The service of [`service`] after a second generation, the sharp one, has replaced the first.
fn grown(root: &Path) -> (Promoter, Base) {
    let service = service(root);
    let PromotionOutcome::Promote(promotion) = import(root, &service, &[]) else { panic!("it was kept") };
    service.0.promote(*promotion, None).unwrap();
    service
}

fn return_to(number: u64, (promoter, base): &(Promoter, Base)) -> Result<PromotionOutcome, Failure> {
    promoter.judge_kept(GenerationId(number), JobId(8), base, &CancellationToken::new())
}

#[test]
fn an_earlier_generation_serves_again_once_it_is_proven() {
    let root = TempDir::new().unwrap();
    let service = grown(root.path());
    let promoter = &service.0;
    let image = &pictures(root.path(), 1)[0];
    let sharp = promoter.controller.answer(image).unwrap();
    let PromotionOutcome::Promote(promotion) = return_to(1, &service).unwrap() else { panic!("it was kept") };
    assert_eq!(promoter.controller.answer(image).unwrap(), sharp, "until then the other one answers");
    assert_eq!(promoter.promote(*promotion, None).unwrap(), GenerationId(1));
    assert_ne!(promoter.controller.answer(image).unwrap(), sharp);
    let [first, second] = &promoter.generations().0[..] else { panic!("both are kept") };
    assert_eq!((first.active, first.replaces, second.active), (true, Some(GenerationId(2)), false));
    assert_ne!(first.job, JobId(8), "the round that made it stays the one that did");
    assert_eq!(promoter.promoted_by(JobId(8)), Some(GenerationId(1)));

    let PromotionOutcome::Promote(promotion) = return_to(2, &service).unwrap() else { panic!("it was kept") };
    promoter.drop_candidate(PromotionOutcome::Promote(promotion)).unwrap();
    assert!(matches!(return_to(2, &service).unwrap(), PromotionOutcome::Promote(_)), "what is not wanted now stays");
}

#[test]
fn what_cannot_serve_here_is_not_returned_to() {
    let root = TempDir::new().unwrap();
    let (promoter, base) = grown(root.path());
    let kept = |base: Base| match return_to(1, &(promoter.clone(), base)).unwrap() {
        PromotionOutcome::Keep { reason, .. } => reason,
        PromotionOutcome::Promote(_) => panic!("it was made for something else"),
    };
    let other = Base { classes: vec!["cat".into()], ..base.clone() };
    assert!(kept(other).contains("made for other classes"));
    let reversed = Base { classes: base.classes.iter().rev().cloned().collect(), ..base.clone() };
    assert!(kept(reversed).contains("made for another order of the classes than"));
    let other = Base { digest: "0".repeat(64), ..base.clone() };
    assert!(kept(other).contains("made for other pretrained weights"));

    let service = (promoter, base);
    let unknown = return_to(9, &service).unwrap_err();
    assert!(unknown.message.contains("no generation 9") && unknown.hint.contains("generation list"), "{unknown:?}");
    let stop = CancellationToken::new();
    stop.cancel();
    let stopped = service.0.judge_kept(GenerationId(1), JobId(8), &service.1, &stop).unwrap_err();
    assert_eq!(stopped.kind, FailureKind::Cancelled);

    let model = service.1.dir.join(MODEL);
    fs::set_permissions(&model, Permissions::from_mode(0o644)).unwrap();
    fs::write(&model, "damaged").unwrap();
    let damaged = return_to(1, &service).unwrap_err();
    assert!(damaged.kind == FailureKind::BadModel && damaged.message.contains("is damaged"), "{damaged:?}");
    assert!(service.0.generations().0[1].active, "the other one stays");
}

#[test]
fn a_generation_that_answers_other_than_its_probe_is_not_returned_to() {
    let root = TempDir::new().unwrap();
    let (_, base) = idle(root.path());
    let mut store = Store::open(root.path()).unwrap();
    let staged = store.stage(&candidate(root.path(), "twisted")).unwrap();
    store.activate(staged, 0.0, None).unwrap();
    let promoter = Promoter::new(store, Classifier::start(Settings::default(), DecodeBudget::default()).1);
    let PromotionOutcome::Keep { reason, .. } = return_to(2, &(promoter, base)).unwrap() else {
        panic!("it is twisted")
    };
    assert!(reason.contains("differ from torch's"), "{reason}");
}

#[test]
fn what_a_rule_has_refused_is_kept_for_somebody_to_activate() {
    let root = TempDir::new().unwrap();
    let service = service(root.path());
    let promoter = &service.0;
    let images = pictures(root.path(), promotion::IMPORT_IMAGES);
    let imported = import(root.path(), &service, &images);
    let doubted = doubted(root.path());
    // One candidate is staged at a time, and kept or dropped before the next.
    let PromotionOutcome::Keep { reason, candidate: Some(refused) } = imported else { panic!("{imported:?}") };
    assert_eq!(promoter.keep(*refused, reason, None).unwrap(), GenerationId(2));
    let trained = promoter.judge(&doubted, &CancellationToken::new()).unwrap();
    let PromotionOutcome::Keep { reason, candidate: Some(refused) } = trained else { panic!("{trained:?}") };
    assert_eq!(promoter.keep(*refused, reason, None).unwrap(), GenerationId(3));

    let (generations, _) = promoter.generations();
    let told = |at: usize| (generations[at].active, generations[at].refused.clone().unwrap_or_default());
    assert_eq!(told(0), (true, String::new()));
    assert!(!told(1).0 && told(1).1.contains("less evenly"), "{:?}", told(1));
    assert!(!told(2).0 && told(2).1.contains("agree on 30 %"), "{:?}", told(2));
    assert_eq!(generations[1].job, ROUND, "the round that took it in");

    let PromotionOutcome::Promote(promotion) = return_to(2, &service).unwrap() else { panic!("it was wanted") };
    promoter.promote(*promotion, None).unwrap();
    let sharp = &promoter.generations().0[1];
    assert_eq!((sharp.active, &sharp.refused, sharp.replaces), (true, &None, Some(GenerationId(1))));
}

#[test]
fn a_candidate_that_nothing_can_judge_is_kept_for_a_person_to_be_asked_about() {
    let root = TempDir::new().unwrap();
    let (promoter, _) = service(root.path());
    let told = promoter.judge(&undecidable(root.path(), "soft"), &CancellationToken::new()).unwrap();
    let PromotionOutcome::Keep { reason, candidate: Some(refused) } = told else { panic!("{told:?}") };
    assert!(reason.to_string().contains("it answers 40 % of the distinct images"), "{reason}");
    assert!(refused.contender().is_some(), "a review compares it with what serves");
    assert_eq!(promoter.keep(*refused, reason, None).unwrap(), GenerationId(2));
    let told = promoter.judge(&doubted(root.path()), &CancellationToken::new()).unwrap();
    let PromotionOutcome::Keep { candidate: Some(refused), .. } = told else { panic!("{told:?}") };
    assert!(refused.contender().is_none(), "a reason that no label could take away");
}

/// Whoever saw one colour for a week got a model that found another one.
#[test]
fn an_import_that_moves_the_shares_of_uneven_answers_is_kept_for_a_person() {
    let root = TempDir::new().unwrap();
    let (promoter, base) = service(root.path());
    let images = pictures(root.path(), 32);
    let mut service = (promoter, base.clone());
    let turned = import_of("turned", root.path(), &service, &[]);
    let PromotionOutcome::Promote(turned) = turned else { panic!("nothing to compare by: {turned:?}") };
    service.0.promote(*turned, None).unwrap();
    // All pictures are green, and what serves takes green for blue. The import is less sure: its answers are more even.
    let told = import_of("soft", root.path(), &service, &images);
    let PromotionOutcome::Keep { reason, candidate: Some(refused) } = told else { panic!("{told:?}") };
    assert!(reason.contains("it answers 100 % of them differently"), "{reason}");
    assert!(refused.contender().is_none(), "the service does not know which pictures look alike");
    assert_eq!(service.0.keep(*refused, reason, None).unwrap(), GenerationId(3));
    service.1.shares = Some(Shares::new(&[("red".to_owned(), 0.1)].into(), &base.classes).unwrap());
    let told = import_of("soft", root.path(), &service, &images);
    assert!(matches!(told, PromotionOutcome::Promote(_)), "blue is expected as often as green: {told:?}");
}

#[test]
fn what_cannot_serve_or_is_not_wanted_is_not_kept() {
    let root = TempDir::new().unwrap();
    let (promoter, base) = service(root.path());
    let service = (promoter.clone(), base.clone());
    let twisted = import_of("twisted", root.path(), &service, &[]);
    assert!(
        matches!(&twisted, PromotionOutcome::Keep { reason, candidate: None } if reason.contains("torch")),
        "{twisted:?}"
    );
    let elsewhere = (promoter.clone(), Base { classes: vec!["cat".into()], ..base });
    let foreign = import(root.path(), &elsewhere, &[]);
    assert!(matches!(&foreign, PromotionOutcome::Keep { candidate: None, .. }), "{foreign:?}");
    assert_eq!(stored(root.path()), ["1"]);
    // The candidate of a round that somebody cancelled meanwhile.
    let refused = import(root.path(), &service, &pictures(root.path(), promotion::IMPORT_IMAGES));
    assert!(matches!(&refused, PromotionOutcome::Keep { candidate: Some(_), .. }), "{refused:?}");
    promoter.drop_candidate(refused).unwrap();
    assert_eq!(stored(root.path()), ["1"]);
}
