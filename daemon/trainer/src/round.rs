//! One round from its spec to a candidate directory; the order of the paper, top to bottom.

use crate::checkpoint::Checkpoint;
use crate::clip::argmax;
use crate::diagnostics::Answers;
use crate::export::candidate;
use crate::failure::Failure;
use crate::phase1::{self, SCORING_BATCH, Seeds, ZeroShot};
use crate::phase2::{self, Clean, Model, Start};
use crate::pool::Pool;
use crate::progress::{Reporter, TRAINING, Work};
use crate::prompts::{ClassTokens, Prompts};
use coft_core::event::{Event, Stage};
use coft_core::manifest::{FORMAT, Manifest};
use coft_core::report::{Adaptation, ClassReport, Report};
use coft_core::selection;
use coft_core::spec::{Device, Method, PROTOCOL, RoundSpec};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Tensor, no_grad};

/// Images whose answers travel with the candidate.
const PROBE_IMAGES: usize = 16;

/// What every tuning works on: the pretrained weights, the images, and which of the two models it is.
#[derive(Clone, Copy, Debug)]
pub struct Trainee<'a> {
    pub checkpoint: &'a Checkpoint,
    pub pool: &'a Pool<'a>,
    pub seed: u64,
    /// 1 or 2.
    pub model: usize,
}

/// What adaptation leaves: the model to deploy, and what the report and the diagnostics say of it.
struct Adapted {
    models: [Model; 2],
    prompts: [Prompts; 2],
    signs: Adaptation,
    predictions: [Vec<usize>; 2],
    labels: [Vec<usize>; 2],
    clean: [Vec<usize>; 2],
    seeds: Vec<Vec<usize>>,
}

/// Runs the round; when it returns without failure, the candidate directory is in place.
pub fn run(spec: &RoundSpec, reporter: &mut Reporter) -> Result<(), Failure> {
    let device = device(spec.device)?;
    if spec.threads > 0 {
        tch::set_num_threads(spec.threads as i32);
    }
    reporter.say(&Event::Started {
        protocol: PROTOCOL,
        device: format!("{device:?}").to_lowercase(),
        threads: tch::get_num_threads() as u32,
    })?;
    reporter.plan(plan(spec, None));
    reporter.begin(Stage::Load)?;
    let checkpoint = Checkpoint::load_for(&spec.model_dir, device, spec.image_size)?;
    let paths: Vec<&Path> = spec.images.iter().map(|image| image.path.as_path()).collect();
    let pool = Pool::load(&paths, &checkpoint.preprocess, device)?;
    reporter.advance(pool.len() as u64, None)?;

    reporter.begin(Stage::Label)?;
    let text = phase1::text_features(&checkpoint, &spec.template, &spec.classes)?;
    let zero_shot = phase1::zero_shot(&checkpoint, &text, &pool, reporter)?;
    let plain = Model::zero_shot(&checkpoint, &text)?;
    let adapted = match spec.method {
        Method::ZeroShot => None,
        Method::Coft => Some(adapt(spec, &checkpoint, &pool, &text, &zero_shot, reporter)?),
    };
    let deployed = match &adapted {
        Some(adapted) => &adapted.models[usize::from(adapted.signs.deployed) - 1],
        None => &plain,
    };

    reporter.begin(Stage::Export)?;
    let probe = probe(&pool, &checkpoint);
    if let Some(diagnostics) = &spec.diagnostics {
        let paths: Vec<&Path> = diagnostics.score.iter().map(|path| path.as_path()).collect();
        let test = Pool::load(&paths, &checkpoint.preprocess, device)?;
        let of_pool = pool_answers(&zero_shot, adapted.as_ref(), pool.len());
        of_pool.write(&diagnostics.dir.join("pool.safetensors"))?;
        let of_test = test_answers(spec, &checkpoint, &test, &plain, adapted.as_ref(), deployed)?;
        of_test.write(&diagnostics.dir.join("test.safetensors"))?;
    }
    reporter.end();
    let report = report(spec, &zero_shot, adapted.as_ref(), reporter);
    let manifest = Manifest {
        format: FORMAT,
        round: spec.round,
        method: spec.method,
        classes: spec.classes.clone(),
        preprocessing: checkpoint.preprocessing.clone(),
        base_model: checkpoint.digest.clone(),
        image_set: image_set(spec),
        images: spec.images.len() as u64,
        seed: spec.seed,
        settings: spec.settings.clone(),
        producer: concat!("coft-trainer ", env!("CARGO_PKG_VERSION")).to_owned(),
        files: BTreeMap::new(),
    };
    candidate::write(&spec.candidate_dir, deployed, &probe, &report, manifest)?;
    Ok(reporter.say(&Event::Finished)?)
}

/// Phase I of both models, the collaborative filter, Phase II of both models, and the choice between them.
fn adapt(
    spec: &RoundSpec,
    checkpoint: &Checkpoint,
    pool: &Pool,
    text: &Tensor,
    zero_shot: &ZeroShot,
    reporter: &mut Reporter,
) -> Result<Adapted, Failure> {
    let classes = spec.classes.len();
    let settings = &spec.settings;
    let trainee = |model| Trainee { checkpoint, pool, seed: spec.seed, model };

    let chosen =
        selection::seeds(&zero_shot.labels, &zero_shot.confidence, classes, settings.phase1.seeds_per_class as usize);
    let images: Vec<usize> = chosen.iter().flatten().copied().collect();
    if images.is_empty() {
        return Err(Failure::NoSeeds);
    }
    for (name, _) in spec.classes.iter().zip(&chosen).filter(|(_, seeds)| seeds.is_empty()) {
        reporter
            .warn(format!("class {name:?}: no image looks like it to the pretrained model; it cannot be adapted"))?;
    }
    reporter.plan(plan(spec, Some(images.len())));

    let tokens = ClassTokens::new(checkpoint, &spec.template, &spec.classes, &settings.phase1)?;
    let seeds = Seeds { images: &images, labels: &zero_shot.labels, classes };
    reporter.begin(Stage::Phase1Model1)?;
    let prompts1 = phase1::tune(trainee(1), &tokens, &seeds, &settings.phase1, reporter)?;
    reporter.begin(Stage::Phase1Model2)?;
    let prompts2 = phase1::tune(trainee(2), &tokens, &seeds, &settings.phase1, reporter)?;

    // Each model's labels are kept where the other model's margin confirms them.
    reporter.begin(Stage::Filter)?;
    let scores1 = phase1::score(checkpoint, &tokens, &prompts1, pool, reporter)?;
    let scores2 = phase1::score(checkpoint, &tokens, &prompts2, pool, reporter)?;
    let clean1 = kept(&selection::clean(&scores1.labels, &scores2.positive, &scores2.negative, classes));
    let clean2 = kept(&selection::clean(&scores2.labels, &scores1.positive, &scores1.negative, classes));
    for (model, clean) in [(1, &clean1), (2, &clean2)] {
        if clean.is_empty() {
            reporter
                .warn(format!("model {model}: the other model confirmed none of its labels; it stays as pretrained"))?;
        }
    }

    let start = Start { text, embedding_norm: zero_shot.embedding_norm };
    reporter.begin(Stage::Phase2Model1)?;
    let clean = Clean { images: &clean1, labels: &scores1.labels };
    let model1 = phase2::tune(trainee(1), &start, &clean, &settings.phase2, reporter)?;
    reporter.begin(Stage::Phase2Model2)?;
    let clean = Clean { images: &clean2, labels: &scores2.labels };
    let model2 = phase2::tune(trainee(2), &start, &clean, &settings.phase2, reporter)?;

    reporter.begin(Stage::Choose)?;
    let models = [model1, model2];
    let mut predictions = [Vec::new(), Vec::new()];
    let mut stability = [0.0; 2];
    for (k, model) in models.iter().enumerate() {
        let shifted = predict(model, pool, reporter, |chunk| pool.shifted(chunk, settings.phase2.flip))?;
        predictions[k] = predict(model, pool, reporter, |chunk| pool.batch(chunk))?;
        stability[k] = share(&predictions[k], &shifted);
    }
    let fraction = |clean: &[usize]| clean.len() as f64 / pool.len().max(1) as f64;
    let signs = Adaptation {
        clean_fraction: [fraction(&clean1), fraction(&clean2)],
        agreement: share(&predictions[0], &predictions[1]),
        stability,
        deployed: if stability[1] > stability[0] { 2 } else { 1 },
    };
    Ok(Adapted {
        models,
        prompts: [prompts1, prompts2],
        signs,
        predictions,
        labels: [scores1.labels, scores2.labels],
        clean: [clean1, clean2],
        seeds: chosen,
    })
}

fn device(wanted: Device) -> Result<tch::Device, Failure> {
    match wanted {
        Device::Cpu => Ok(tch::Device::Cpu),
        Device::Cuda if tch::Cuda::is_available() => Ok(tch::Device::Cuda(0)),
        Device::Cuda => Err(Failure::Device("cuda")),
    }
}

/// The work ahead; before the seeds are known, as if every class had them all.
fn plan(spec: &RoundSpec, seeds: Option<usize>) -> Vec<Work> {
    let n = spec.images.len() as u64;
    let work = |stage, images, cost| Work { stage, images, cost };
    let mut plan = vec![work(Stage::Load, n, 0.1), work(Stage::Label, n, 1.0)];
    if spec.method == Method::Coft {
        let (phase1, phase2) = (&spec.settings.phase1, &spec.settings.phase2);
        let seeds = seeds.unwrap_or((phase1.seeds_per_class as usize * spec.classes.len()).min(spec.images.len()));
        let visits = |sgd: &coft_core::settings::Sgd, images: usize| {
            u64::from(sgd.steps(images)) * u64::from(sgd.batch).min(images as u64)
        };
        let first = visits(&phase1.sgd, seeds);
        let second = visits(&phase2.sgd, spec.images.len());
        plan.extend([
            work(Stage::Phase1Model1, first, TRAINING),
            work(Stage::Phase1Model2, first, TRAINING),
            work(Stage::Filter, 2 * n, 1.0),
            work(Stage::Phase2Model1, second, TRAINING),
            work(Stage::Phase2Model2, second, TRAINING),
            work(Stage::Choose, 4 * n, 1.0),
        ]);
    }
    plan
}

/// Classes of the whole pool as `pixels` shows it.
fn predict(
    model: &Model,
    pool: &Pool,
    reporter: &mut Reporter,
    pixels: impl Fn(&[usize]) -> Tensor,
) -> Result<Vec<usize>, Failure> {
    let everything: Vec<usize> = (0..pool.len()).collect();
    let mut classes = Vec::with_capacity(pool.len());
    for chunk in everything.chunks(SCORING_BATCH) {
        classes.extend(no_grad(|| argmax(&model.logits(&pixels(chunk)))));
        reporter.advance(chunk.len() as u64, None)?;
    }
    Ok(classes)
}

fn kept(flags: &[bool]) -> Vec<usize> {
    flags.iter().enumerate().filter(|(_, kept)| **kept).map(|(image, _)| image).collect()
}

/// Share of positions at which both say the same.
fn share(a: &[usize], b: &[usize]) -> f64 {
    a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / a.len().max(1) as f64
}

/// Some images of the pool, spread over it; noise where there are none, so that parity is always proven on something.
fn probe(pool: &Pool, checkpoint: &Checkpoint) -> Tensor {
    let count = PROBE_IMAGES.min(pool.len());
    if count == 0 {
        let side = checkpoint.config.vision_config.image_size;
        let mut rng = crate::random::stream(0, "probe");
        return crate::random::normal(&mut rng, &[PROBE_IMAGES as i64, 3, side, side], 1.0, checkpoint.device);
    }
    let spread: Vec<usize> = (0..count).map(|i| i * pool.len() / count).collect();
    pool.batch(&spread)
}

fn image_set(spec: &RoundSpec) -> String {
    let mut ids: Vec<&str> = spec.images.iter().map(|image| image.id.0.as_str()).collect();
    ids.sort_unstable();
    let mut hash = Sha256::new();
    for id in ids {
        hash.update(id);
        hash.update("\n");
    }
    format!("{:x}", hash.finalize())
}

fn report(spec: &RoundSpec, zero_shot: &ZeroShot, adapted: Option<&Adapted>, reporter: &Reporter) -> Report {
    let count = |labels: &[usize], class: usize| labels.iter().filter(|&&label| label == class).count() as u64;
    let classes = spec.classes.iter().enumerate().map(|(class, name)| {
        let zero = count(&zero_shot.labels, class);
        let clean = |a: &Adapted, k: usize| a.clean[k].iter().filter(|&&i| a.labels[k][i] == class).count() as u64;
        ClassReport {
            name: name.clone(),
            zero_shot: zero,
            seeds: adapted.map_or(0, |a| a.seeds[class].len() as u64),
            clean: adapted.map_or([0, 0], |a| [clean(a, 0), clean(a, 1)]),
            deployed: adapted.map_or(zero, |a| count(&a.predictions[usize::from(a.signs.deployed) - 1], class)),
        }
    });
    Report {
        images: spec.images.len() as u64,
        classes: classes.collect(),
        adaptation: adapted.map(|a| a.signs.clone()),
        warnings: reporter.warnings(),
        seconds: reporter.seconds(),
        peak_memory_bytes: peak_memory_bytes(),
    }
}

/// Largest resident set of this process so far, bytes (getrusage(2)).
fn peak_memory_bytes() -> u64 {
    use nix::sys::resource::{UsageWho, getrusage};
    getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| usage.max_rss() as u64 * 1024)
}

fn pool_answers(zero_shot: &ZeroShot, adapted: Option<&Adapted>, images: usize) -> Answers {
    let mut answers = Answers::default();
    answers.integers("zero-shot-label", &zero_shot.labels);
    if let Some(a) = adapted {
        answers.integers("label1", &a.labels[0]);
        answers.integers("label2", &a.labels[1]);
        answers.integers("final1", &a.predictions[0]);
        answers.integers("final2", &a.predictions[1]);
        answers.flags("clean1", &a.clean[0], images);
        answers.flags("clean2", &a.clean[1], images);
        answers.flags("seed", &a.seeds.concat(), images);
    }
    answers
}

fn test_answers(
    spec: &RoundSpec,
    checkpoint: &Checkpoint,
    test: &Pool,
    plain: &Model,
    adapted: Option<&Adapted>,
    deployed: &Model,
) -> Result<Answers, Failure> {
    let mut answers = Answers::default();
    answers.probabilities("zero-shot", test, |pixels| plain.logits(pixels));
    if let Some(a) = adapted {
        let tokens = ClassTokens::new(checkpoint, &spec.template, &spec.classes, &spec.settings.phase1)?;
        for (name, prompts) in ["phase1-model1", "phase1-model2"].into_iter().zip(&a.prompts) {
            let (text, _) = no_grad(|| prompts.text(checkpoint, &tokens));
            answers.probabilities(name, test, |pixels| {
                prompts.image(checkpoint, pixels).matmul(&text.tr()) * checkpoint.logit_scale
            });
        }
        for (name, model) in ["model1", "model2"].into_iter().zip(&a.models) {
            answers.probabilities(name, test, |pixels| model.logits(pixels));
        }
    }
    answers.probabilities("deployed", test, |pixels| deployed.logits(pixels));
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use coft_core::manifest::MANIFEST;
    use coft_core::settings::Settings;

    /// A round of a few steps; the digests of the candidate's files.
    fn files(seed: u64) -> BTreeMap<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        for sgd in [&mut settings.phase1.sgd, &mut settings.phase2.sgd] {
            (sgd.epochs, sgd.batch, sgd.minimum_steps) = (1, 8, 2);
        }
        let spec = RoundSpec {
            protocol: PROTOCOL,
            round: coft_core::ids::RoundId(1),
            method: Method::Coft,
            model_dir: fixture::model_dir(),
            image_size: None,
            classes: fixture::classes(),
            class_lines: Vec::new(),
            template: fixture::TEMPLATE.into(),
            images: fixture::images(dir.path(), 2),
            seed,
            device: Device::Cpu,
            threads: 0,
            settings,
            candidate_dir: dir.path().join("candidate"),
            diagnostics: None,
        };
        run(&spec, &mut fixture::reporter()).unwrap();
        let manifest = std::fs::read(spec.candidate_dir.join(MANIFEST)).unwrap();
        serde_json::from_slice::<Manifest>(&manifest).unwrap().files
    }

    #[test]
    fn the_seed_decides_the_candidate() {
        let weights = "model.onnx.data";
        let (first, again, other) = (files(1), files(1), files(2));
        assert_eq!(first[weights], again[weights], "the same spec gives the same weights");
        assert_ne!(first[weights], other[weights], "another seed gives others");
    }
}
