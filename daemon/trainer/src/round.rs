//! One round from its spec to a candidate directory.

mod room;
mod told;

use crate::adapt::{self, Adapted, RoundContext, Student};
use crate::arithmetic::Arithmetic;
use crate::baselines;
use crate::checkpoint::Checkpoint;
use crate::clip::pick;
use crate::cuda;
use crate::error::RoundError;
use crate::export::candidate;
use crate::fit::TrainContext;
use crate::journal::{Journal, PRODUCER};
use crate::memory;
use crate::model::ImageClassifier;
use crate::model_selection::{self, CANDIDATES, CandidateSpec, Predictions};
use crate::near_duplicates::Standing;
use crate::phase1::{self, Seeds};
use crate::phase2::Clean;
use crate::pool::Pool;
use crate::progress::{Reporter, TRAINING, Work};
use crate::prompts::ClassTokens;
use bytesize::ByteSize;
use coft_core::candidate::{CandidateName, ModelIndex};
use coft_core::confidence;
use coft_core::decision::NoneOfThese;
use coft_core::event::{Event, Stage};
use coft_core::manifest::{FORMAT, Manifest};
use coft_core::near_duplicates;
use coft_core::report::Adaptation;
use coft_core::selection;
use coft_core::settings::{Flip, Sgd};
use coft_core::spec::{Method, PROTOCOL, RoundSpec, Template};
use coft_vision::cores;
use room::Room;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
use std::thread::available_parallelism;
use std::time::Duration;
use tch::{Device, Tensor};

/// Number of images in the probe, whose answers are stored in the candidate.
const PROBE_IMAGES: usize = 16;

/// The result of a round: the model that is deployed, and what was learnt on the way.
struct RoundOutput {
    /// With the temperature already applied.
    deployed: ImageClassifier,
    temperature: f64,
    /// `Some` where the method is CoFT or CoFT+.
    adapted: Option<AdaptedOutput>,
}

/// What CoFT or CoFT+ leaves. Its images are those of the pool without the near-duplicates.
struct AdaptedOutput {
    /// Positions in the pool of these images.
    standing: Standing,
    adapted: Adapted,
    adaptation: Adaptation,
    predictions: Vec<Predictions>,
}

/// Runs the round. When it returns without error, the candidate directory is in place.
///
/// Finished work is saved in the journal every `save_interval`.
pub fn run(spec: &RoundSpec, save_interval: Duration, reporter: &mut Reporter) -> Result<(), RoundError> {
    run_within(spec, save_interval, memory::available, reporter)
}

/// Like `run`, with a function that returns the free memory of a device, bytes.
fn run_within(
    spec: &RoundSpec,
    save_interval: Duration,
    available: impl Fn(Device) -> Option<u64>,
    reporter: &mut Reporter,
) -> Result<(), RoundError> {
    let device = cuda::device(spec.device)?;
    match spec.threads as usize {
        0 if device.is_cuda() => use_threads(available_parallelism().map_or(1, usize::from), device),
        0 => tch::set_num_threads(cores() as i32),
        threads => use_threads(threads, device),
    }
    reporter.say(&Event::Started {
        protocol: PROTOCOL,
        device: format!("{device:?}").to_lowercase(),
        threads: match device {
            Device::Cpu => tch::get_num_threads() as u32,
            _ => rayon::current_num_threads() as u32,
        },
    })?;
    reporter.plan(plan(spec, spec.images.len()));
    reporter.begin(Stage::Load, 1)?;
    let free = available(device);
    let teacher = Checkpoint::load_for(&spec.model_dir, device, spec.image_size)?;
    let other = spec.student_dir.as_ref().map(|dir| Checkpoint::load(dir, device)).transpose()?;
    let models = [Some(&teacher), other.as_ref()].into_iter().flatten();
    let models: Vec<String> = models.map(|model| format!("{} {}", model.digest, model.preprocessing)).collect();
    let mut journal = Journal::open(spec, &models, device);
    journal.save_every(save_interval);
    journal.warnings().into_iter().try_for_each(|message| reporter.warn(message))?;
    let paths: Vec<&Path> = spec.images.iter().map(|image| image.path.as_path()).collect();
    let host = if device == Device::Cpu { None } else { available(Device::Cpu) };
    let Room { memory, pixels, held, micro_batches } = Room::of(spec, &paths, &teacher, other.as_ref(), (free, host))?;
    if !held {
        reporter.warn(format!(
            "the pixels of {} images take {} and memory does not hold them; they are read from the disk for every batch instead, which \
             takes longer",
            paths.len(),
            ByteSize(pixels)
        ))?;
    }
    let load = if held { Pool::load } else { Pool::open };
    let pool = load(&paths, &teacher.preprocess, device)?;
    let other_pool = other.as_ref().map(|other| load(&paths, &other.preprocess, device)).transpose()?;
    reporter.advance(pool.len() as u64, None)?;

    let ctx =
        &mut TrainContext { reporter, journal: &mut journal, memory, mixed_precision: spec.settings.mixed_precision };
    let kind = ctx.kind(&teacher);
    begin_journal(&Arithmetic::here(device, kind, micro_batches), ctx)?;
    ctx.reporter.begin(Stage::Label, 1)?;
    let templates = match &spec.templates[..] {
        [] => &[Template { line: 1, text: spec.template.clone() }],
        templates => templates,
    };
    let given = given(spec);
    let text = |checkpoint: &Checkpoint| {
        phase1::text_features(checkpoint, templates, &spec.classes).map_err(|failure| match failure {
            // There is no template file, so the class name is too long.
            RoundError::Template { cause, .. } if spec.templates.is_empty() => RoundError::Checkpoint(cause),
            failure => failure,
        })
    };
    let teachers_text = text(&teacher)?;
    let mut zero_shot = phase1::zero_shot("teacher", &teacher, &teachers_text, &pool, ctx)?;
    zero_shot.labels.correct(&given);
    let other_text = other.as_ref().map(text).transpose()?;
    let others_answers;
    let student = match (&other, &other_pool, &other_text) {
        (Some(checkpoint), Some(pool), Some(text)) => {
            others_answers = phase1::zero_shot("student", checkpoint, text, pool, ctx)?;
            Student { checkpoint, pool, text, zero_shot: &others_answers }
        }
        _ => Student { checkpoint: &teacher, pool: &pool, text: &teachers_text, zero_shot: &zero_shot },
    };
    let asked = [spec.settings.phase1.flip, spec.settings.phase2.flip].contains(&Flip::Auto);
    let mirrors = asked
        && pool.len() > 0
        && !matches!(spec.method, Method::ZeroShot)
        && model_selection::mirrors(&ImageClassifier::zero_shot(&teacher, &teachers_text), &zero_shot, &pool, ctx)?;
    let round =
        RoundContext { spec, teacher: &teacher, pool: &pool, zero_shot: &zero_shot, mirrors, given: &given, student };
    let mut output = carry_out(&round, ctx)?;
    output.deployed = output.deployed.expecting(spec.shares.as_ref());

    let Student { checkpoint, pool, .. } = round.student;
    ctx.reporter.begin(Stage::Export, 1)?;
    let served = model_selection::served(&output.deployed, pool, ctx)?;
    let none_of_these = NoneOfThese::of_pool(served.energies.clone());
    let probe = probe(pool, checkpoint);
    if let Some(diagnostics) = &spec.diagnostics {
        let paths: Vec<&Path> = diagnostics.score.iter().map(|path| path.as_path()).collect();
        told::pool_answers(&round, &output, &served).write(&diagnostics.dir.join("pool.safetensors"))?;
        told::test_answers(&round, &output, &paths)?.write(&diagnostics.dir.join("test.safetensors"))?;
    }
    reporter.end();
    let report = told::report(&round, &output, &served, reporter);
    let manifest = Manifest {
        format: FORMAT,
        round: spec.round,
        method: spec.method,
        classes: spec.classes.clone(),
        shares: spec.shares.clone(),
        preprocessing: checkpoint.preprocessing.clone(),
        base_model: teacher.digest.clone(),
        image_set: image_set(spec),
        images: spec.images.len() as u64,
        seed: spec.seed,
        settings: spec.settings.clone(),
        precision: spec.precision,
        temperature: output.temperature,
        none_of_these,
        producer: PRODUCER.to_owned(),
        files: BTreeMap::new(),
    };
    if let Some(AdaptedOutput { standing, .. }) = &output.adapted {
        write_near_duplicates(spec, standing)?;
    }
    candidate::write(&spec.candidate_dir, &output.deployed, &probe, &report, manifest)?;
    Ok(reporter.say(&Event::Finished)?)
}

/// Makes the journal this round's own, and warns where it was begun under other arithmetic.
fn begin_journal(arithmetic: &Arithmetic, ctx: &mut TrainContext) -> Result<(), RoundError> {
    let made = ctx.journal.establish();
    ctx.saved(made)?;
    match ctx.journal.note(arithmetic) {
        Ok(None) => Ok(()),
        Ok(Some(changed)) => ctx.warn(format!(
            "this round was begun under other arithmetic ({changed}); it goes on, and ends near the result that it would have had, not \
             with the same bits"
        )),
        failed => ctx.saved(failed.map(drop)),
    }
}

/// Runs the method of the spec.
fn carry_out(round: &RoundContext, ctx: &mut TrainContext) -> Result<RoundOutput, RoundError> {
    let RoundContext { spec, teacher, pool, zero_shot, given, .. } = *round;
    let plain = |deployed| RoundOutput { deployed, temperature: 1.0, adapted: None };
    let everything = vec![true; pool.len()];
    let labels: Vec<usize> = given.iter().map(|given| given.unwrap_or(0)).collect();
    let clean = match spec.method {
        Method::ZeroShot => return Ok(plain(CandidateSpec::ZeroShot.model(round, None))),
        Method::Coft | Method::CoftPlus => return choose(round, ctx),
        Method::Upl => {
            let tokens = ClassTokens::new(teacher, &spec.template, &spec.classes, &spec.settings.phase1)?;
            let images = round.seeds(&zero_shot.labels)?.concat();
            let seeds = Seeds { images: &images, labels: &zero_shot.labels };
            return baselines::upl(&round.prompt_tuning(&tokens, ModelIndex::First, 1), &seeds, ctx).map(plain);
        }
        Method::SelfTraining => Clean { kept: &everything, labels: &zero_shot.labels.classes },
        Method::Oracle => Clean { kept: &given.iter().map(Option::is_some).collect::<Vec<_>>(), labels: &labels },
    };
    let weights = baselines::fine_tuned(&round.fine_tuning(ModelIndex::First), &clean, ctx)?;
    Ok(plain(weights.model(round.student.checkpoint)))
}

/// Runs CoFT or CoFT+, and chooses which of its models is deployed.
///
/// Near-duplicates would be most of what is learnt, and would make every model's answers look alike for images that
/// look alike. So a single one of them is trained on and counted.
fn choose(whole: &RoundContext, ctx: &mut TrainContext) -> Result<RoundOutput, RoundError> {
    let standing = Standing::of(whole.pool, whole.given, ctx)?;
    let distinct = standing.distinct();
    ctx.reporter.plan(plan(whole.spec, distinct.len()));
    let given = pick(whole.given, &distinct);
    let (pool, zero_shot) = (&whole.pool.only(&distinct), &whole.zero_shot.only(&distinct));
    let other = whole.spec.student_dir.is_some();
    let other = other.then(|| (whole.student.pool.only(&distinct), whole.student.zero_shot.only(&distinct)));
    let student = match &other {
        Some((pool, zero_shot)) => Student { pool, zero_shot, ..whole.student },
        None => Student { pool, zero_shot, ..whole.student },
    };
    let round = &RoundContext { pool, zero_shot, given: &given, student, ..*whole };
    let classes = round.spec.classes.len();
    let adapted = adapt::adapt(round, ctx)?;
    ctx.reporter.begin(Stage::Choose, 1)?;
    let predictions = model_selection::predictions(round, &adapted, ctx)?;
    let neighbours = model_selection::neighbours(&predictions, round.student.pool, ctx)?;
    let plain = |name: &CandidateName| {
        let found = predictions.iter().find(|candidate| candidate.name == *name).expect("a candidate of that name");
        &found.plain
    };
    let predicted_classes = |name: &CandidateName| model_selection::classes(plain(name), classes);
    let metrics = model_selection::label_free_metrics(&predictions, &neighbours, classes, round.spec.shares.as_ref());
    let asked = round.spec.settings.deploy.candidate();
    let deployed = asked.unwrap_or_else(|| model_selection::choose(&metrics).clone());
    let (label_agreement, compared) =
        label_agreement(adapted.labels.each_ref().map(|labels| &labels.classes[..]), round.given);
    if let Some(told) = told_alike(label_agreement, compared) {
        ctx.warn(told)?;
    }
    let fraction = |clean: &[bool]| clean.iter().filter(|&&kept| kept).count() as f64 / clean.len().max(1) as f64;
    let confirmed = |model: ModelIndex| {
        let label = |(&margin, given): (&f32, &Option<usize>)| selection::confirms(margin) || given.is_some();
        fraction(&adapted.margins[model.index()].iter().zip(round.given).map(label).collect::<Vec<_>>())
    };
    let adaptation = Adaptation {
        near_duplicates: (whole.pool.len() - distinct.len()) as u64,
        label_agreement,
        confirmed_fraction: ModelIndex::BOTH.map(confirmed),
        clean_fraction: ModelIndex::BOTH.map(|model| fraction(&adapted.clean[model.index()])),
        agreement: model_selection::share(
            &predicted_classes(&CandidateName::Model1),
            &predicted_classes(&CandidateName::Model2),
        ),
        candidates: metrics,
        deployed: deployed.clone(),
    };
    let temperature = match &deployed {
        CandidateName::ZeroShot => 1.0,
        name => {
            let zero_shot = confidence::mean(plain(&CandidateName::ZeroShot), classes, 1.0);
            confidence::temperature(plain(name), classes, zero_shot)
        }
    };
    Ok(RoundOutput {
        deployed: candidate_spec(&deployed).model(round, Some(&adapted)).tempered(temperature),
        temperature,
        adapted: Some(AdaptedOutput { standing, adapted, adaptation, predictions }),
    })
}

/// Writes which images stand for others beside the candidate.
fn write_near_duplicates(spec: &RoundSpec, standing: &Standing) -> Result<(), RoundError> {
    let file = near_duplicates::file(&spec.candidate_dir);
    let content = serde_json::to_vec(&standing.by_id(&spec.images)).expect("ids are plain data");
    coft_fs::replace(&file, &content).map_err(RoundError::write(&file))
}

/// Share of the images that both models label alike, and the number of these images: all but those that the user
/// labelled. The share is 1 where no image is left.
fn label_agreement(labels: [&[usize]; 2], given: &[Option<usize>]) -> (f64, usize) {
    let own = |labels: &[usize]| -> Vec<usize> {
        labels.iter().zip(given).filter(|(_, given)| given.is_none()).map(|(&class, _)| class).collect()
    };
    let [first, second] = labels.map(own);
    (if first.is_empty() { 1.0 } else { model_selection::share(&first, &second) }, first.len())
}

/// Agreement from which two models hardly check each other any more; 0 to 1. 0.99 [choice].
const ALIKE: f64 = 0.99;
/// Fewest images for that warning. 100 [choice], so that a single image makes no difference.
const ENOUGH: usize = 100;

/// The warning about models that agree too much. `agreement` is over the `images` labels that each model checks for the
/// other.
fn told_alike(agreement: f64, images: usize) -> Option<String> {
    let percent = 100.0 * agreement;
    (agreement >= ALIKE && images >= ENOUGH).then(|| {
        format!(
            "both models label {percent:.1} % of the images alike: what one gets wrong the other confirms; \
             see whether the report's share of each class is what you expect"
        )
    })
}

fn candidate_spec(name: &CandidateName) -> CandidateSpec {
    CANDIDATES.iter().find(|(candidate, _)| candidate == name).expect("a candidate of that name").1
}

fn given(spec: &RoundSpec) -> Vec<Option<usize>> {
    spec.images.iter().map(|image| image.label.map(|label| label.0 as usize)).collect()
}

/// Sets the threads of libtorch, and of decoding and cropping. On a GPU two threads serve the device. They would wait
/// if others used their processor cores.
pub fn use_threads(count: usize, device: Device) {
    let (torch, cropping) = if device.is_cuda() { (1, count.saturating_sub(2).max(1)) } else { (count, count) };
    tch::set_num_threads(torch as i32);
    // An error in tests, where an earlier round in this process has built the pool.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(cropping).build_global();
}

/// The planned work, as if every class had all its seeds and every label were confirmed. `images` are those of the pool
/// without the near-duplicates.
fn plan(spec: &RoundSpec, images: usize) -> Vec<Work> {
    let (whole, n) = (spec.images.len() as u64, images as u64);
    let work = |stage, iteration, images, cost| Work { stage, iteration, images, cost };
    let visits =
        |sgd: &Sgd, images: usize| u64::from(sgd.steps(images)) * u64::from(sgd.batch).min(images.max(1) as u64);
    let (phase1, phase2) = (&spec.settings.phase1, &spec.settings.phase2);
    let classes = spec.classes.len();
    let seeds = (phase1.seeds(images, classes) * classes).min(images);
    let taught = match spec.method {
        Method::Coft => (phase2.clean_share * n as f64).ceil() as usize,
        _ => images,
    };
    let (first, second) = (visits(&phase1.sgd, seeds), visits(&phase2.sgd, taught));
    // The teacher; the student if it is another model; and two views that test whether images may be mirrored.
    let looks = 1 + u64::from(spec.student_dir.is_some()) + if spec.method == Method::ZeroShot { 0 } else { 2 };
    let mut plan = vec![work(Stage::Load, 1, whole, 0.1), work(Stage::Label, 1, looks * whole, 1.0)];
    let iterations = match spec.method {
        Method::ZeroShot | Method::SelfTraining | Method::Oracle => 0,
        Method::Coft | Method::Upl => 1,
        Method::CoftPlus => phase1.iterations,
    };
    for iteration in 1..=iterations {
        plan.push(work(Stage::Phase1Model1, iteration, first, TRAINING));
        if spec.method != Method::Upl {
            plan.push(work(Stage::Phase1Model2, iteration, first, TRAINING));
            plan.push(work(Stage::Filter, iteration, 2 * n, 1.0));
        }
    }
    let cost = if spec.method == Method::CoftPlus { TRAINING + 1.0 } else { TRAINING };
    match spec.method {
        Method::ZeroShot | Method::Upl => {}
        Method::SelfTraining | Method::Oracle => plan.push(work(Stage::Phase2Model1, 1, second, cost)),
        Method::Coft | Method::CoftPlus => plan.extend([
            work(Stage::Phase2Model1, 1, second, cost),
            work(Stage::Phase2Model2, 1, second, cost),
            // Two predictions of each candidate except one, and the neighbours of each image in two views.
            work(Stage::Choose, 1, (2 * model_selection::candidates(spec).count() as u64 + 1) * n, 1.0),
        ]),
    }
    plan.push(work(Stage::Export, 1, whole, 1.0));
    plan
}

/// Some images spread over the pool. Noise where there are no images, so that parity is always tested with something.
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

#[cfg(test)]
mod pools;

#[cfg(test)]
mod tests;
