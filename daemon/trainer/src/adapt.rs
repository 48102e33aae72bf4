//! CoFT and CoFT+, from the zero-shot labels to the models that may be deployed, in the paper's order.
//!
//! In neither phase does one model see the other. So each model is trained to its end before the other begins: only one
//! graph is in memory at a time, and the outcome is the same as that of stepping both in turn.
//!
//! N images of the pool, C classes.

use crate::checkpoint::Checkpoint;
use crate::error::RoundError;
use crate::fit::TrainContext;
use crate::model::{ImageClassifier, Phase2Weights};
use crate::phase1::{Labels, PromptTuning, Scores, Seeds, ZeroShot};
use crate::phase2::{Clean, FineTuning, taught};
use crate::pool::Pool;
use crate::prompts::{ClassTokens, Prompts};
use coft_core::candidate::ModelIndex;
use coft_core::event::Stage;
use coft_core::selection;
use coft_core::settings::Flip;
use coft_core::spec::{Method, RoundSpec};
use tch::{Tensor, no_grad};

/// The inputs of a round: its spec, the models that were read for it, and its images.
#[derive(Debug)]
pub struct RoundContext<'a> {
    pub spec: &'a RoundSpec,
    /// The CLIP that labels and filters.
    pub teacher: &'a Checkpoint,
    pub pool: &'a Pool<'a>,
    pub zero_shot: &'a ZeroShot,
    /// Whether training images may be mirrored where the settings leave that to the pool.
    pub mirrors: bool,
    /// The user's own labels. [N]
    pub given: &'a [Option<usize>],
    pub student: Student<'a>,
}

/// The CLIP that Phase II trains: the teacher, or another CLIP in distillation.
#[derive(Clone, Copy, Debug)]
pub struct Student<'a> {
    pub checkpoint: &'a Checkpoint,
    /// The pool's images as the student reads them.
    pub pool: &'a Pool<'a>,
    /// Normalised text features of the class names. [C, D]
    pub text: &'a Tensor,
    /// The student's zero-shot predictions for the pool.
    pub zero_shot: &'a ZeroShot,
}

/// The results of adaptation. Where there are two of something, each is at the [`ModelIndex::index`] of its model.
#[derive(Debug)]
pub struct Adapted {
    /// The prompts of the last iteration, with their positive text features. [C, D]
    pub prompts: [(Prompts, Tensor); 2],
    /// The weights that Phase II has trained.
    pub weights: [Phase2Weights; 2],
    /// The weights that Phase II started from.
    pub start: Phase2Weights,
    /// Seeds of the last iteration, by class.
    pub seeds: [Vec<Vec<usize>>; 2],
    /// The pool's labels under the tuned prompts.
    pub labels: [Labels; 2],
    /// The pairs that Phase II trains on: the most confident of those that the other model confirmed, and those that
    /// the user labelled. [N]
    pub clean: [Vec<bool>; 2],
    /// s⁺ − s⁻ of each model's label, computed by the other model. [N]
    pub margins: [Vec<f32>; 2],
}

impl<'a> RoundContext<'a> {
    fn flips(&self, setting: Flip) -> bool {
        match setting {
            Flip::Auto => self.mirrors,
            Flip::Always => true,
            Flip::Never => false,
        }
    }

    pub fn prompt_tuning(&self, tokens: &'a ClassTokens, model: ModelIndex, iteration: u32) -> PromptTuning<'a> {
        let settings = &self.spec.settings.phase1;
        let flip = self.flips(settings.flip);
        PromptTuning {
            checkpoint: self.teacher,
            pool: self.pool,
            tokens,
            settings,
            shares: self.spec.shares.as_ref(),
            flip,
            seed: self.spec.seed,
            model,
            iteration,
        }
    }

    pub fn fine_tuning(&self, model: ModelIndex) -> FineTuning<'a> {
        let Student { checkpoint, pool, text, zero_shot } = self.student;
        FineTuning {
            checkpoint,
            pool,
            text,
            embedding_norm: zero_shot.embedding_norm,
            settings: &self.spec.settings.phase2,
            flip: self.flips(self.spec.settings.phase2.flip),
            contrast: self.spec.method == Method::CoftPlus && self.spec.settings.phase2.contrast.weight > 0.0,
            seed: self.spec.seed,
            model,
        }
    }

    /// Names of the classes for which `which` is true.
    fn named(&self, which: impl Fn(usize) -> bool) -> Vec<&str> {
        (0..self.spec.classes.len()).filter(|&class| which(class)).map(|class| &self.spec.classes[class][..]).collect()
    }

    /// The K most confident images of each class by `labels`, and every image that the user labelled. Where the shares
    /// of the classes are known, the K·C images are divided in proportion to them.
    pub fn seeds(&self, labels: &Labels) -> Result<Vec<Vec<usize>>, RoundError> {
        let classes = self.spec.classes.len();
        let k = self.spec.settings.phase1.seeds(self.pool.len(), classes);
        let k = self.spec.shares.as_ref().map_or(vec![k; classes], |shares| shares.dealt(k * classes));
        let chosen = selection::seeds(&labels.classes, &labels.confidence, self.given, &k);
        if chosen.iter().all(Vec::is_empty) { Err(RoundError::NoSeeds) } else { Ok(chosen) }
    }
}

/// Phase I of both models (once, or several times in CoFT+), the collaborative filter, and Phase II of both models.
pub fn adapt(round: &RoundContext, ctx: &mut TrainContext) -> Result<Adapted, RoundError> {
    let RoundContext { spec, teacher, given, .. } = *round;
    let iterations = if spec.method == Method::CoftPlus { spec.settings.phase1.iterations } else { 1 };
    let tokens = ClassTokens::new(teacher, &spec.template, &spec.classes, &spec.settings.phase1)?;
    // Iteration 0 is zero-shot. After it, each model selects its seeds by the labels of its previous iteration.
    let zero_shot = &round.zero_shot.labels;
    let mut seeds = [round.seeds(zero_shot)?, round.seeds(zero_shot)?];
    let seen: Vec<bool> = seeds[0].iter().map(|seeds| !seeds.is_empty()).collect();
    warn_of(
        "no image looks like these classes to the pretrained model, so they cannot be adapted; check their names",
        &round.named(|class| !seen[class]),
        ctx,
    )?;
    let mut labels = [zero_shot.clone(), zero_shot.clone()];
    let mut last: Option<[(Prompts, Scores); 2]> = None;
    for iteration in 1..=iterations {
        let mut tuned = Vec::with_capacity(2);
        for model in ModelIndex::BOTH {
            ctx.reporter.begin(Stage::phase1(model), iteration)?;
            let images = seeds[model.index()].concat();
            let seeds = Seeds { images: &images, labels: &labels[model.index()] };
            tuned.push(round.prompt_tuning(&tokens, model, iteration).run(&seeds, ctx)?);
        }
        ctx.reporter.begin(Stage::Filter, iteration)?;
        let mut scored = Vec::with_capacity(2);
        for (prompts, model) in tuned.into_iter().zip(ModelIndex::BOTH) {
            let mut scores = round.prompt_tuning(&tokens, model, iteration).score(&prompts, ctx)?;
            scores.labels.correct(given);
            scored.push((prompts, scores));
        }
        let scored: [(Prompts, Scores); 2] = scored.try_into().expect("two models");
        if iteration < iterations {
            labels = ModelIndex::BOTH.map(|model| scored[model.index()].1.labels.clone());
            seeds = [round.seeds(&labels[0])?, round.seeds(&labels[1])?];
            for (model, seeds) in ModelIndex::BOTH.into_iter().zip(&seeds) {
                let lost = round.named(|class| seen[class] && seeds[class].is_empty());
                let told = "sees these classes in no image, and learns nothing more of them";
                warn_of(&format!("after iteration {iteration}, model {model} {told}"), &lost, ctx)?;
            }
        }
        last = Some(scored);
    }
    let [(prompts1, scores1), (prompts2, scores2)] = last.expect("at least one iteration");

    let share = spec.settings.phase2.clean_share;
    let (clean, margins) = filter([&scores1, &scores2], given, spec.classes.len(), share);
    let pairs = [(&clean[0], &scores1), (&clean[1], &scores2)];
    let pairs = pairs.map(|(kept, scores)| Clean { kept, labels: &scores.labels.classes });
    let teaching = pairs.map(|pairs| taught(&pairs)).concat();
    warn_of(
        "no image of these classes is sure enough to teach, so nothing new is learnt of them",
        &round.named(|class| seen[class] && !teaching.contains(&class)),
        ctx,
    )?;
    let mut weights = Vec::with_capacity(2);
    for (model, pairs) in ModelIndex::BOTH.into_iter().zip(pairs) {
        if taught(&pairs).len() < 2 {
            ctx.warn(format!(
                "model {model}: the other model confirmed labels of fewer than two classes; it stays as pretrained"
            ))?;
        }
        ctx.reporter.begin(Stage::phase2(model), 1)?;
        weights.push(round.fine_tuning(model).run(&pairs, ctx)?);
    }
    let with_text = |prompts: Prompts| {
        let (text, _) = no_grad(|| prompts.text(teacher, &tokens));
        (prompts, text)
    };
    Ok(Adapted {
        prompts: [with_text(prompts1), with_text(prompts2)],
        weights: weights.try_into().expect("two models"),
        start: round.fine_tuning(ModelIndex::First).start(),
        seeds,
        labels: [scores1.labels, scores2.labels],
        clean,
        margins,
    })
}

/// Which pairs train each model [N], and s⁺ − s⁻ of its labels, computed by the other model [N].
///
/// A pair is kept where the other model's margin confirms the label and the pair is among the labelling model's most
/// confident ones. The user's labels are always kept.
fn filter(
    scores: [&Scores; 2],
    given: &[Option<usize>],
    classes: usize,
    share: f64,
) -> ([Vec<bool>; 2], [Vec<f32>; 2]) {
    let clean = |Scores { labels, .. }: &Scores, by: &Scores| {
        let mut kept = selection::clean(&labels.classes, &by.positive, &by.negative, classes);
        kept.iter_mut().zip(given).for_each(|(kept, given)| *kept &= given.is_none());
        kept = selection::surest(&kept, &labels.classes, &labels.confidence, classes, share);
        kept.iter_mut().zip(given).for_each(|(kept, given)| *kept |= given.is_some());
        kept
    };
    let margins = |of: &Scores, by: &Scores| {
        let at = |(image, &class): (usize, &usize)| {
            let place = image * classes + class;
            by.positive[place] - by.negative[place]
        };
        of.labels.classes.iter().enumerate().map(at).collect()
    };
    let [first, second] = scores;
    ([clean(first, second), clean(second, first)], [margins(first, second), margins(second, first)])
}

/// Number of classes that a warning names; the report lists all. 5 [choice]: a warning about a thousand classes must
/// stay readable.
pub const NAMED: usize = 5;

/// Warns about `classes`, if there are any.
fn warn_of(told: &str, classes: &[&str], ctx: &mut TrainContext) -> Result<(), RoundError> {
    if classes.is_empty() {
        return Ok(());
    }
    let named: Vec<String> = classes.iter().take(NAMED).map(|name| format!("{name:?}")).collect();
    let more = match classes.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    ctx.warn(format!("{told}: {}{more}", named.join(", ")))
}

impl Adapted {
    /// A model after Phase I, as a classifier.
    pub fn prompted(&self, teacher: &Checkpoint, model: ModelIndex) -> ImageClassifier {
        let (prompts, text) = &self.prompts[model.index()];
        ImageClassifier::prompted(teacher, prompts, text)
    }

    /// The Phase II weights of models 1 and 2, mixed in `shares`; the pretrained weights make up the rest.
    pub fn mixed(&self, student: &Checkpoint, shares: [f64; 2]) -> ImageClassifier {
        let rest = 1.0 - shares[0] - shares[1];
        let parts = [(shares[0], &self.weights[0]), (shares[1], &self.weights[1]), (rest, &self.start)];
        let used: Vec<(f64, &Phase2Weights)> = parts.into_iter().filter(|(share, _)| *share > 0.0).collect();
        Phase2Weights::mixed(&used).model(student)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::tensors::to_safetensors;
    use crate::fixture::Bench;

    /// Scores of a model with two classes: its labels, their confidence, and s⁺ − s⁻ of each image and class.
    fn scores(classes: &[usize], confidence: &[f32], margins: &[f32]) -> Scores {
        let labels = Labels { classes: classes.to_vec(), confidence: confidence.to_vec(), ..Labels::default() };
        Scores { labels, positive: margins.to_vec(), negative: vec![0.0; margins.len()] }
    }

    #[test]
    fn each_models_labels_are_confirmed_by_the_margins_of_the_other() {
        let one = [-1.0, 2.0, 3.0, -4.0, 5.0, -6.0];
        let two = [0.5, -0.5, 0.25, -0.25, -0.75, 0.75];
        let filtered = |one: &[f32], two: &[f32]| {
            let (one, two) = (scores(&[0, 1, 0], &[0.5; 3], one), scores(&[1, 1, 0], &[0.5; 3], two));
            filter([&one, &two], &[None; 3], 2, 1.0)
        };
        let (clean, margins) = filtered(&one, &two);
        assert_eq!(margins, [[0.5, -0.25, -0.75], [2.0, -4.0, 5.0]]);
        assert_eq!(clean, [[true, false, false], [true, false, true]]);
        // Inverting one model's margins changes only which labels of the other model are kept.
        let turned = |margins: [f32; 6]| margins.map(|margin| -margin);
        assert_eq!(filtered(&turned(one), &two).0, [[true, false, false], [false, true, false]]);
        assert_eq!(filtered(&one, &turned(two)).0, [[false, true, true], [true, false, true]]);
    }

    #[test]
    fn the_surest_are_the_labelling_models_and_a_users_own_come_on_top() {
        let one = scores(&[0, 0, 0], &[0.9, 0.1, 1.0], &[1.0; 6]);
        let two = scores(&[0, 0, 0], &[0.1, 0.9, 1.0], &[1.0; 6]);
        let (clean, _) = filter([&one, &two], &[None, None, Some(0)], 2, 0.5);
        assert_eq!(clean, [[true, false, true], [false, true, true]]);
    }

    /// Calls `work` with a round over a few pictures.
    fn of_round<T>(method: Method, work: impl FnOnce(&RoundContext, &mut TrainContext) -> T) -> T {
        let mut bench = Bench::new(2);
        bench.settings.phase1.iterations = 2;
        let (spec, pool, text, zero_shot) = (bench.spec(method), bench.pool(), bench.text(), bench.zero_shot());
        let given = vec![None; pool.len()];
        let (teacher, pool, zero_shot, given) = (&bench.checkpoint, &pool, &zero_shot, &given);
        let student = Student { checkpoint: teacher, pool, text: &text, zero_shot };
        let round = RoundContext { spec: &spec, teacher, pool, zero_shot, mirrors: true, given, student };
        work(&round, &mut bench.train_context().borrow())
    }

    fn bytes<'a>(tensors: impl Iterator<Item = (&'a str, &'a Tensor)>) -> Vec<u8> {
        to_safetensors(&tensors.map(|(name, tensor)| (name, tensor.shallow_clone())).collect::<Vec<_>>())
    }

    #[test]
    fn an_iteration_of_coft_plus_takes_over_the_labels_of_the_one_before_and_nothing_else() {
        let bits = |prompts: &Prompts| bytes(prompts.named().iter().map(|(name, tensor)| (name.as_str(), tensor)));
        let whole = of_round(Method::CoftPlus, |round, ctx| {
            let loaded = bytes(round.teacher.tensors.iter());
            let adapted = adapt(round, ctx).unwrap();
            assert!(bytes(round.teacher.tensors.iter()) == loaded, "the teacher stays as it was loaded");
            adapted.prompts.map(|(prompts, _)| bits(&prompts))
        });
        let second_alone = of_round(Method::Coft, |round, ctx| {
            let first = adapt(round, ctx).unwrap();
            let RoundContext { spec, teacher, .. } = *round;
            let tokens = ClassTokens::new(teacher, &spec.template, &spec.classes, &spec.settings.phase1).unwrap();
            ModelIndex::BOTH.map(|model| {
                let labels = &first.labels[model.index()];
                let images = round.seeds(labels).unwrap().concat();
                let seeds = Seeds { images: &images, labels };
                bits(&round.prompt_tuning(&tokens, model, 2).run(&seeds, ctx).unwrap())
            })
        });
        assert!(whole == second_alone, "the second iteration by itself, given the first one's labels");
    }
}
