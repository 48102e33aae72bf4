//! Complete rounds, from a spec to a candidate.

mod manifest;

use super::*;
use crate::clip::tensors::to_safetensors;
use crate::clip::to_f32;
use crate::fixture;
use crate::fixture::Bench;
use crate::journal::SAVE_INTERVAL;
use coft_core::candidate::{CandidateName, ModelIndex};
use coft_core::event::FailureKind;
use coft_core::ids::ClassId;
use coft_core::manifest::{MANIFEST, PROBE, REPORT};
use coft_core::report::{OwnLabels, Report};
use coft_core::settings::{ContextInit, HeadInit, MixedPrecision, Settings};
use coft_core::spec::{Device, Diagnostics, PoolImage};
use image::RgbImage;

fn done(spec: &RoundSpec) {
    run(spec, SAVE_INTERVAL, &mut fixture::reporter()).unwrap();
}

/// The result of every training of a round of a few steps, by file name.
fn results(seed: u64) -> BTreeMap<std::ffi::OsString, Vec<u8>> {
    let bench = Bench::new(4); // with fewer images, a model may have clean pairs of fewer than two classes
    let spec = RoundSpec { seed, ..bench.spec(Method::Coft) };
    done(&spec);
    let entries = std::fs::read_dir(&spec.journal_dir).unwrap().map(|entry| entry.unwrap());
    let trained = |name: &str| name.starts_with("phase") && name.ends_with(".result");
    let results = entries.filter(|entry| trained(&entry.file_name().to_string_lossy()));
    results.map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap())).collect()
}

fn report(spec: &RoundSpec) -> Report {
    serde_json::from_slice(&std::fs::read(spec.candidate_dir.join(REPORT)).unwrap()).unwrap()
}

#[test]
fn every_method_leaves_a_candidate() {
    for method in [Method::ZeroShot, Method::CoftPlus, Method::Upl, Method::SelfTraining, Method::Oracle] {
        let bench = Bench::new(2);
        let mut spec = bench.spec(method);
        for (i, image) in spec.images.iter_mut().enumerate() {
            image.label = (method == Method::Oracle).then_some(ClassId(i as u32 / 2));
        }
        done(&spec);
        assert_eq!(report(&spec).images, 20, "{method:?}");
    }
}

#[test]
fn each_iteration_of_coft_plus_takes_each_models_own_labels_as_seeds() {
    let seeds = |method| {
        let bench = Bench::new(2);
        let mut spec = bench.spec(method);
        // A few steps have to change labels.
        spec.settings.phase1.sgd.learning_rate = 3.0;
        done(&spec);
        let classes = report(&spec).classes;
        let of = |model: ModelIndex| classes.iter().map(|class| class.seeds[model.index()]).collect::<Vec<_>>();
        (classes.iter().map(|class| class.zero_shot).collect::<Vec<_>>(), of(ModelIndex::First), of(ModelIndex::Second))
    };
    let (zero_shot, first, second) = seeds(Method::Coft);
    assert!(first == zero_shot && second == zero_shot, "{first:?} and {second:?}");
    let (zero_shot, first, second) = seeds(Method::CoftPlus);
    assert!(first != zero_shot && second != zero_shot && first != second, "{first:?} and {second:?}");
}

#[test]
fn a_users_own_label_is_a_seed_and_clean_whatever_the_models_say() {
    let bench = Bench::new(1);
    let mut spec = bench.spec(Method::Coft);
    for image in &mut spec.images {
        image.label = Some(ClassId(3)); // wrong for all images but one
    }
    done(&spec);
    let report = report(&spec);
    let class = &report.classes[3];
    assert_eq!((class.zero_shot, class.seeds, class.clean), (10, [10, 10], [10, 10]));
}

#[test]
fn a_report_tells_the_expected_shares_and_how_the_users_own_labels_fare() {
    let bench = Bench::new(2);
    let mut spec = bench.spec(Method::ZeroShot);
    let dir = spec.candidate_dir.parent().unwrap().to_owned();
    spec.diagnostics = Some(Diagnostics { dir: dir.clone(), score: vec![spec.images[0].path.clone()] });
    done(&spec);
    assert!(report(&spec).classes.iter().all(|class| class.own_labels.is_none()));
    let answers: BTreeMap<String, Tensor> =
        Tensor::read_safetensors(dir.join("pool.safetensors")).unwrap().into_iter().collect();
    let looks_like = crate::clip::places(&answers["zero-shot-label"]);

    // The label of the first image is not the class that it shows; the second image has no label.
    let bench = Bench::new(2);
    let mut spec = bench.spec(Method::ZeroShot);
    let other = (looks_like[0] + 1) % spec.classes.len();
    for (number, image) in spec.images.iter_mut().enumerate().filter(|(number, _)| *number != 1) {
        image.label = Some(ClassId(if number == 0 { other } else { looks_like[number] } as u32));
    }
    done(&spec);
    let told = report(&spec);
    let own: Vec<OwnLabels> = told.classes.iter().map(|class| class.own_labels.unwrap()).collect();
    assert_eq!(own.iter().map(|own| own.answered).sum::<u64>(), 19);
    assert_eq!(own.iter().map(|own| own.right).sum::<u64>(), 18);
    let wrong = own[looks_like[0]];
    assert_eq!(wrong.answered, wrong.right + 1);
    let shares: f64 = told.classes.iter().map(|class| class.expected_share.unwrap()).sum();
    assert!((shares - 1.0).abs() < 1e-5, "{shares}");
}

#[test]
fn the_surest_half_of_the_confirmed_labels_teaches_and_the_users_own_beside_it() {
    let clean = |clean_share| {
        let bench = Bench::new(4);
        let mut spec = bench.spec(Method::Coft);
        spec.settings.phase2.clean_share = clean_share;
        spec.images[..3].iter_mut().for_each(|image| image.label = Some(ClassId(5)));
        done(&spec);
        report(&spec).classes.into_iter().map(|class| class.clean).collect::<Vec<_>>()
    };
    let (all, half) = (clean(1.0), clean(0.5));
    assert!(all.iter().flatten().any(|&pairs| pairs > 3), "{all:?}");
    for (class, (all, half)) in all.into_iter().zip(half).enumerate() {
        let given = if class == 5 { 3 } else { 0 };
        assert_eq!(half, all.map(|pairs| given + (pairs - given).div_ceil(2)), "class {class}");
    }
}

#[test]
fn a_student_of_its_own_is_what_is_served() {
    let bench = Bench::new(1);
    // The teacher reads images of twice the student's size.
    let student = fixture::checkpoint();
    let (image_size, student_dir) = (Some(2 * student.preprocess.crop), Some(fixture::model_dir()));
    let spec = RoundSpec { student_dir, image_size, ..bench.spec(Method::Coft) };
    done(&spec);
    let manifest: Manifest =
        serde_json::from_slice(&std::fs::read(spec.candidate_dir.join(MANIFEST)).unwrap()).unwrap();
    assert_eq!(manifest.preprocessing, student.preprocessing);
    let names: Vec<CandidateName> = report(&spec).adaptation.unwrap().candidates.into_iter().map(|c| c.name).collect();
    assert!(
        !names.iter().any(|name| [CandidateName::Phase1Model1, CandidateName::Phase1Model2].contains(name)),
        "{names:?}"
    );
}

#[test]
fn what_teaches_is_right_more_often_than_the_labels_are() {
    let bench = Bench::new(20);
    let mut spec = bench.spec(Method::Coft);
    (spec.settings.phase1.sgd.batch, spec.settings.phase1.sgd.minimum_steps) = (32, 60);
    let dir = spec.candidate_dir.parent().unwrap().to_owned();
    spec.diagnostics = Some(Diagnostics { dir: dir.clone(), score: Vec::new() });
    done(&spec);
    let answers: BTreeMap<String, Tensor> =
        Tensor::read_safetensors(dir.join("pool.safetensors")).unwrap().into_iter().collect();
    let folder = |path: &Path| path.parent().unwrap().file_name().unwrap().to_string_lossy().replace('_', " ");
    let part = |path: &Path| spec.classes.iter().position(|class| *class == folder(path)).unwrap();
    let standing = crate::clip::places(&answers["standing"]).into_iter().enumerate();
    let distinct = standing.filter(|(image, standing)| image == standing);
    let truth: Vec<usize> = distinct.map(|(image, _)| part(&spec.images[image].path)).collect();
    for model in ModelIndex::BOTH {
        let labels = crate::clip::places(&answers[&format!("label{model}")]);
        let right = |kept: &[bool]| {
            let kept: Vec<usize> = (0..kept.len()).filter(|&i| kept[i]).collect();
            kept.iter().filter(|&&i| labels[i] == truth[i]).count() as f64 / kept.len() as f64
        };
        let margins = to_f32(&answers[&format!("margin{model}")]);
        let all = right(&vec![true; labels.len()]);
        let confirmed = right(&margins.iter().map(|&margin| margin > 0.0).collect::<Vec<_>>());
        let taught = to_f32(&answers[&format!("clean{model}")].to_kind(tch::Kind::Float));
        let taught = right(&taught.iter().map(|&flag| flag > 0.0).collect::<Vec<_>>());
        println!("model {model}: {all:.3} of the labels are right, {confirmed:.3} confirmed, {taught:.3} taught");
        assert!(confirmed > all + 0.02 && taught > all + 0.1, "{all} {confirmed} {taught}");
    }
}

#[test]
fn a_smaller_student_learns_from_a_larger_teacher() {
    // The student is the embedded model without the last block of its image encoder. Where there is test data, the
    // whole embedded model is also the student of a wider one.
    let dir = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(fixture::model_dir()).unwrap().map(|file| file.unwrap().path()) {
        std::fs::copy(&file, dir.path().join(file.file_name().unwrap())).unwrap();
    }
    let config = dir.path().join("config.json");
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    let blocks = &mut json["vision_config"]["num_hidden_layers"];
    let last = blocks.as_u64().unwrap() - 1;
    *blocks = last.into();
    std::fs::write(&config, json.to_string()).unwrap();
    let weights = dir.path().join("model.safetensors");
    let mut tensors = Tensor::read_safetensors(&weights).unwrap();
    tensors.retain(|(name, _)| !name.starts_with(&format!("vision_model.encoder.layers.{last}.")));
    let tensors: Vec<(&str, Tensor)> =
        tensors.iter().map(|(name, tensor)| (&name[..], tensor.shallow_clone())).collect();
    std::fs::write(&weights, to_safetensors(&tensors)).unwrap();
    let data = std::env::var_os("COFT_TEST_DATA").map(|data| std::path::PathBuf::from(data).join("mini_clip64"));
    if data.is_none() {
        println!("mini_clip64 skipped: no data");
    }
    let pairs = [(fixture::model_dir(), dir.path().to_owned())].into_iter();
    for (teacher, student) in pairs.chain(data.map(|teacher| (teacher, fixture::model_dir()))) {
        let bench = Bench::new(4);
        let mut spec =
            RoundSpec { student_dir: Some(student.clone()), model_dir: teacher, ..bench.spec(Method::CoftPlus) };
        spec.settings.deploy = serde_json::from_value("model2".into()).unwrap();
        spec.images.iter_mut().zip(0..).for_each(|(image, i)| image.label = Some(ClassId(i / 4)));
        done(&spec);
        let probe: BTreeMap<String, Tensor> =
            Tensor::read_safetensors(spec.candidate_dir.join(PROBE)).unwrap().into_iter().collect();
        let pretrained = Checkpoint::load(&student, tch::Device::Cpu).unwrap();
        assert_eq!(probe["pixels"].size()[2], pretrained.config.vision_config.image_size);
        let text =
            phase1::text_features(&pretrained, &[Template { line: 1, text: spec.template.clone() }], &spec.classes);
        let told = ImageClassifier::zero_shot(&pretrained, &text.unwrap()).answers(&probe["pixels"]).1;
        let moved = (told - &probe["probabilities"]).abs().max().double_value(&[]);
        assert!(moved > 1e-3, "{moved}: the student learnt");
    }
}

#[test]
fn every_model_of_a_round_can_be_deployed() {
    let asked = ["phase1-model1", "phase1-model2", "model1", "model2", "average", "average-half"];
    for name in asked {
        let bench = Bench::new(1);
        let mut spec = bench.spec(Method::Coft);
        spec.settings.deploy = serde_json::from_value(name.into()).unwrap();
        done(&spec);
        assert_eq!(report(&spec).adaptation.unwrap().deployed.to_string(), name);
    }
}

/// Mean margins of the candidates of a CoFT+ round. All labels are given, so that every such round trains on the same
/// pairs.
fn margins(change: impl FnOnce(&mut RoundSpec)) -> Vec<f64> {
    let bench = Bench::new(1);
    let mut spec = bench.spec(Method::CoftPlus);
    spec.images.iter_mut().zip(0..).for_each(|(image, class)| image.label = Some(ClassId(class)));
    change(&mut spec);
    done(&spec);
    let candidates = report(&spec).adaptation.unwrap().candidates;
    candidates.into_iter().map(|c| c.margin).collect()
}

#[test]
fn a_round_in_bfloat16_ends_near_one_in_single_precision_and_not_on_it() {
    let margins = |mixed_precision| margins(|spec| spec.settings.mixed_precision = mixed_precision);
    let (single, half) = (margins(MixedPrecision::Off), margins(MixedPrecision::Bf16));
    assert_eq!(single[0], half[0], "zero-shot is not trained");
    let off: Vec<f64> = single.iter().zip(&half).skip(1).map(|(a, b)| (a - b).abs()).collect();
    assert!(off.iter().all(|&off| off > 0.0 && off < 0.02), "{off:?}");
}

#[test]
fn a_round_on_a_gpu_ends_near_one_on_the_processor() {
    if fixture::device() == Device::Cpu {
        println!("skipped: COFT_TEST_DEVICE is not cuda");
        return;
    }
    let margins = |device| margins(|spec| spec.device = device);
    let (processor, gpu) = (margins(Device::Cpu), margins(Device::Cuda));
    let off: Vec<f64> = processor.iter().zip(&gpu).map(|(a, b)| (a - b).abs()).collect();
    println!("{off:?}");
    assert!(off.iter().all(|&off| off < 1e-4), "{off:?}");
}

#[test]
fn what_is_deployed_is_as_sure_as_zero_shot() {
    for name in ["phase1-model1", "model1"] {
        let bench = Bench::new(1);
        let mut spec = bench.spec(Method::Coft);
        spec.settings.deploy = serde_json::from_value(name.into()).unwrap();
        let dir = spec.candidate_dir.parent().unwrap().to_owned();
        let score = spec.images.iter().map(|image| image.path.clone()).collect();
        spec.diagnostics = Some(Diagnostics { dir: dir.clone(), score });
        done(&spec);
        let answers = Tensor::read_safetensors(dir.join("test.safetensors")).unwrap();
        let sure = |name: &str| {
            let (_, found) = answers.iter().find(|(found, _)| found == name).unwrap();
            confidence::mean(&to_f32(found), spec.classes.len(), 1.0)
        };
        assert!((sure("deployed") - sure("zero-shot")).abs() < 1e-4, "{name}");
        let manifest: Manifest =
            serde_json::from_slice(&std::fs::read(spec.candidate_dir.join(MANIFEST)).unwrap()).unwrap();
        assert_ne!(manifest.temperature, 1.0, "{name}");
    }
}

#[test]
fn a_round_that_cannot_fit_is_refused_with_numbers_before_an_image_is_decoded() {
    let bench = Bench::new(1);
    let spec = bench.spec(Method::Coft);
    let teacher = fixture::checkpoint();
    let mut pixels = Vec::new();
    coft_vision::save_canonical(&RgbImage::new(64, 48), &mut pixels).unwrap();
    let cut = spec.candidate_dir.with_file_name("cut.qoi");
    std::fs::write(&cut, &pixels[..14]).unwrap(); // only its header is left
    let paths = [cut.as_path(); 1000];
    let room = |paths: &[&Path], free| Room::of(&spec, paths, &teacher, None, (free, None));
    let refused = room(&paths, Some(1_000_000)).unwrap_err();
    assert_eq!(refused.kind(), FailureKind::OutOfMemory);
    assert!(refused.to_string().ends_with("976.6 KiB are free"), "{refused}");
    let Room { memory, held, .. } = room(&paths, Some(1 << 40)).unwrap();
    let (all, available) = memory.unwrap();
    let (none, _) = room(&[], Some(1 << 40)).unwrap().memory.unwrap();
    assert!(held, "there is room for the pixels");
    assert_eq!(available, 1 << 40);
    assert_ne!(all, none, "the pixels are counted by their headers");
    let shorter = teacher.preprocess.shortest_edge as u64;
    assert_eq!(crate::pool::bytes(&paths, &teacher.preprocess), 1000 * 3 * shorter * (shorter * 4 / 3));
    assert!(room(&paths, None).unwrap().memory.is_none());
}

#[test]
fn models_that_say_the_same_are_told() {
    assert_eq!((told_alike(0.98, 500), told_alike(1.0, 99)), (None, None));
    assert!(told_alike(0.994, 500).unwrap().starts_with("both models label 99.4 % of the images alike"));
    let (one, other, given) = ([0, 1, 2, 0], [0, 2, 2, 0], [None, None, None, Some(0)]);
    assert_eq!(label_agreement([&one, &other], &[None; 4]), (0.75, 4));
    let own = "the user's own labels are no agreement of the models";
    assert_eq!(label_agreement([&one, &other], &given), (2.0 / 3.0, 3), "{own}");
    assert_eq!(label_agreement([&one, &other], &[Some(0); 4]), (1.0, 0), "nothing is left to compare");
}

#[test]
fn the_adapted_model_has_a_say_in_which_images_look_alike() {
    let coherence = |learning_rate| {
        let bench = Bench::new(4);
        let mut spec = bench.spec(Method::Coft);
        spec.settings.phase2.sgd.learning_rate = learning_rate;
        done(&spec);
        report(&spec).adaptation.unwrap().candidates[0].coherence
    };
    let (pretrained, near, far) = (coherence(1e-12), coherence(1e-11), coherence(0.3));
    assert_eq!(pretrained, near);
    assert_ne!(pretrained, far, "zero-shot's answers are the same, and the images that look alike are others");
}

#[test]
fn ablations_are_rounds_like_others() {
    // Each change, and whether it must change the answers of both models of Phase I, or of Phase II.
    type Change = fn(&mut Settings);
    let changes: [(Change, [usize; 2]); 4] = [
        (|settings| settings.phase1.visual_deep = false, [1, 2]),
        (|settings| settings.phase1.context = ContextInit::Random, [1, 2]),
        (|settings| settings.phase2.head = HeadInit::Random, [3, 4]),
        (|settings| settings.phase2.frozen_blocks = 1, [3, 4]),
    ];
    let trained = |change: Change| {
        let bench = Bench::new(4);
        let mut spec = bench.spec(Method::Coft);
        change(&mut spec.settings);
        done(&spec);
        report(&spec).adaptation.unwrap().candidates
    };
    let plain = trained(|_| {});
    for (number, (change, others)) in changes.into_iter().enumerate() {
        let changed = trained(change);
        let differ: Vec<bool> = plain.iter().zip(&changed).map(|(a, b)| a.margin != b.margin).collect();
        assert!(!differ[0] && others.iter().all(|&place| differ[place]), "ablation {number}: {differ:?}");
    }
}

#[test]
fn the_seed_decides_every_training() {
    let (first, again, other) = (results(1), results(1), results(2));
    assert_eq!(first.len(), 4, "two models, two phases");
    assert!(first == again, "the same spec gives the same bits");
    assert!(first.iter().all(|(name, bytes)| other[name] != *bytes), "another seed gives others");
}
