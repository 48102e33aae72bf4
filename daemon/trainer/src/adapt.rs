//! CoFT and CoFT+ from the zero-shot labels to the models that may be deployed; the order of the paper, top to bottom.
//!
//! N images of the pool, C classes.

use crate::checkpoint::Checkpoint;
use crate::failure::Failure;
use crate::fit::Desk;
use crate::model::{Model, Weights};
use crate::phase1::{Labels, PromptTuning, Scores, Seeds, ZeroShot};
use crate::phase2::{Clean, FineTuning};
use crate::pool::Pool;
use crate::prompts::{ClassTokens, Prompts};
use coft_core::event::Stage;
use coft_core::selection;
use coft_core::settings::Flip;
use coft_core::spec::{Method, RoundSpec};
use tch::{Tensor, no_grad};

/// What a round works on.
#[derive(Debug)]
pub struct Material<'a> {
    pub spec: &'a RoundSpec,
    /// The CLIP that labels and filters.
    pub teacher: &'a Checkpoint,
    pub pool: &'a Pool<'a>,
    pub zero_shot: &'a ZeroShot,
    /// Whether training images may be mirrored, where the settings leave it to the pool.
    pub mirrors: bool,
    /// The user's own labels. [N]
    pub given: &'a [Option<usize>],
    pub student: Student<'a>,
}

/// The CLIP that Phase II trains: the teacher, or in distillation another one.
#[derive(Clone, Copy, Debug)]
pub struct Student<'a> {
    pub checkpoint: &'a Checkpoint,
    /// The same images as that CLIP reads them.
    pub pool: &'a Pool<'a>,
    /// Normalised text features of the class names. [C, D]
    pub text: &'a Tensor,
    /// Mean length of the pool's image embeddings before normalisation.
    pub embedding_norm: f64,
}

/// What adaptation leaves; index 0 is model 1.
#[derive(Debug)]
pub struct Adapted {
    /// The prompts of the last iteration, with their positive text features. [C, D]
    pub prompts: [(Prompts, Tensor); 2],
    /// What Phase II made of the pretrained weights.
    pub weights: [Weights; 2],
    /// Where Phase II started.
    pub start: Weights,
    /// Seeds of the last iteration, by class.
    pub seeds: [Vec<Vec<usize>>; 2],
    /// What the prompts say of the pool.
    pub labels: [Labels; 2],
    /// The pairs that teach: the surest of those that the other model confirmed, and those that the user gave. [N]
    pub clean: [Vec<bool>; 2],
    /// s⁺ − s⁻ of each model's label by the other model. [N]
    pub margins: [Vec<f32>; 2],
}

impl<'a> Material<'a> {
    fn flips(&self, setting: Flip) -> bool {
        match setting {
            Flip::Auto => self.mirrors,
            Flip::Always => true,
            Flip::Never => false,
        }
    }

    pub fn prompt_tuning(&self, tokens: &'a ClassTokens, model: usize, iteration: u32) -> PromptTuning<'a> {
        let settings = &self.spec.settings.phase1;
        let flip = self.flips(settings.flip);
        PromptTuning {
            checkpoint: self.teacher,
            pool: self.pool,
            tokens,
            settings,
            flip,
            seed: self.spec.seed,
            model,
            iteration,
        }
    }

    pub fn fine_tuning(&self, model: usize) -> FineTuning<'a> {
        let Student { checkpoint, pool, text, embedding_norm } = self.student;
        FineTuning {
            checkpoint,
            pool,
            text,
            embedding_norm,
            settings: &self.spec.settings.phase2,
            flip: self.flips(self.spec.settings.phase2.flip),
            contrast: self.spec.method == Method::CoftPlus && self.spec.settings.phase2.contrast.weight > 0.0,
            seed: self.spec.seed,
            model,
        }
    }

    /// The K most confident images of each class by `labels`, and every image that the user labelled.
    pub fn seeds(&self, labels: &Labels) -> Result<Vec<Vec<usize>>, Failure> {
        let classes = self.spec.classes.len();
        let k = self.spec.settings.phase1.seeds(self.pool.len(), classes);
        let chosen = selection::seeds(&labels.classes, &labels.confidence, self.given, classes, k);
        if chosen.iter().all(Vec::is_empty) { Err(Failure::NoSeeds) } else { Ok(chosen) }
    }
}

/// Phase I of both models, once or several times, the collaborative filter, and Phase II of both models.
pub fn adapt(material: &Material, desk: &mut Desk) -> Result<Adapted, Failure> {
    let Material { spec, teacher, given, .. } = *material;
    let iterations = if spec.method == Method::CoftPlus { spec.settings.phase1.iterations } else { 1 };
    let tokens = ClassTokens::new(teacher, &spec.template, &spec.classes, &spec.settings.phase1)?;
    // Round 0 is zero-shot; from then on each model selects its own seeds by what it learnt before.
    let zero_shot = &material.zero_shot.labels;
    let mut seeds = [material.seeds(zero_shot)?, material.seeds(zero_shot)?];
    let unseen: Vec<&str> =
        spec.classes.iter().zip(&seeds[0]).filter(|(_, s)| s.is_empty()).map(|(n, _)| &n[..]).collect();
    if !unseen.is_empty() {
        desk.reporter.warn(told_unseen(&unseen))?;
    }
    let mut labels = [zero_shot.clone(), zero_shot.clone()];
    let mut last: Option<[(Prompts, Scores); 2]> = None;
    for iteration in 1..=iterations {
        let mut tuned = Vec::with_capacity(2);
        for model in [1, 2] {
            desk.reporter.begin(phase1_stage(model), iteration)?;
            let images = seeds[model - 1].concat();
            let seeds = Seeds { images: &images, labels: &labels[model - 1] };
            tuned.push(material.prompt_tuning(&tokens, model, iteration).run(&seeds, desk)?);
        }
        desk.reporter.begin(Stage::Filter, iteration)?;
        let mut scored = Vec::with_capacity(2);
        for (prompts, model) in tuned.into_iter().zip([1, 2]) {
            let mut scores = material.prompt_tuning(&tokens, model, iteration).score(&prompts, desk.reporter)?;
            scores.labels.correct(given);
            scored.push((prompts, scores));
        }
        let scored: [(Prompts, Scores); 2] = scored.try_into().expect("two models");
        if iteration < iterations {
            labels = [0, 1].map(|k| scored[k].1.labels.clone());
            seeds = [material.seeds(&labels[0])?, material.seeds(&labels[1])?];
        }
        last = Some(scored);
    }
    let [(prompts1, scores1), (prompts2, scores2)] = last.expect("at least one iteration");

    // A label teaches where the other model's margin confirms it and it is one of its model's surest; the user's always do.
    let filtered = |Scores { labels, .. }: &Scores, by: &Scores| {
        let (classes, share) = (spec.classes.len(), spec.settings.phase2.clean_share);
        let mut kept = selection::clean(&labels.classes, &by.positive, &by.negative, classes);
        kept.iter_mut().zip(given).for_each(|(kept, given)| *kept &= given.is_none());
        kept = selection::surest(&kept, &labels.classes, &labels.confidence, classes, share);
        kept.iter_mut().zip(given).for_each(|(kept, given)| *kept |= given.is_some());
        kept
    };
    let margins = |of: &Scores, by: &Scores| {
        let at = |(image, &class): (usize, &usize)| {
            let place = image * spec.classes.len() + class;
            by.positive[place] - by.negative[place]
        };
        of.labels.classes.iter().enumerate().map(at).collect()
    };
    let margins = [margins(&scores1, &scores2), margins(&scores2, &scores1)];
    let clean = [filtered(&scores1, &scores2), filtered(&scores2, &scores1)];
    let mut weights = Vec::with_capacity(2);
    for (model, scores) in [(1, &scores1), (2, &scores2)] {
        let kept = &clean[model - 1];
        if !kept.contains(&true) {
            desk.reporter
                .warn(format!("model {model}: the other model confirmed none of its labels; it stays as pretrained"))?;
        }
        desk.reporter.begin(if model == 1 { Stage::Phase2Model1 } else { Stage::Phase2Model2 }, 1)?;
        let clean = Clean { kept, labels: &scores.labels.classes };
        weights.push(material.fine_tuning(model).run(&clean, desk)?);
    }
    let with_text = |prompts: Prompts| {
        let (text, _) = no_grad(|| prompts.text(teacher, &tokens));
        (prompts, text)
    };
    Ok(Adapted {
        prompts: [with_text(prompts1), with_text(prompts2)],
        weights: weights.try_into().expect("two models"),
        start: material.fine_tuning(1).start(),
        seeds,
        labels: [scores1.labels, scores2.labels],
        clean,
        margins,
    })
}

/// Classes that the warning names; the report lists all. 5 [choice]: a thousand classes are no thousand warnings.
pub const NAMED: usize = 5;

fn told_unseen(classes: &[&str]) -> String {
    let named: Vec<String> = classes.iter().take(NAMED).map(|name| format!("{name:?}")).collect();
    let more = match classes.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let named = named.join(", ");
    format!(
        "no image looks like these classes to the pretrained model, so they cannot be adapted; check their names: {named}{more}"
    )
}

fn phase1_stage(model: usize) -> Stage {
    if model == 1 { Stage::Phase1Model1 } else { Stage::Phase1Model2 }
}

impl Adapted {
    /// Phase I of model 1 or 2 as a classifier.
    pub fn prompted(&self, teacher: &Checkpoint, model: usize) -> Model {
        let (prompts, text) = &self.prompts[model - 1];
        Model::prompted(teacher, prompts, text)
    }

    /// Phase II: `shares` of model 1 and 2, the rest pretrained.
    pub fn mixed(&self, student: &Checkpoint, shares: [f64; 2]) -> Model {
        let rest = 1.0 - shares[0] - shares[1];
        let parts = [(shares[0], &self.weights[0]), (shares[1], &self.weights[1]), (rest, &self.start)];
        let used: Vec<(f64, &Weights)> = parts.into_iter().filter(|(share, _)| *share > 0.0).collect();
        Weights::mixed(&used).model(student)
    }
}
