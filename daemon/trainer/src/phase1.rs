//! Phase I: parameter-efficient tuning of one model on confident pseudo-labels (Eq. 1 to 6).
//!
//! N images of the pool, C classes, B images of a batch, D embedding width.

use crate::checkpoint::Checkpoint;
use crate::clip::{argmax, normalised, pick, rows, to_f32};
use crate::error::RoundError;
use crate::fit::{self, Objective, Plan, TrainContext};
use crate::loss;
use crate::pool::{Batch, BatchSampler, Pool};
use crate::prompts::{self, ClassTokens, Prompts, max_segments};
use crate::random;
use coft_core::candidate::ModelIndex;
use coft_core::event::Stage;
use coft_core::settings::{Complement, Phase1};
use coft_core::shares::Shares;
use coft_core::spec::Template;
use rand::Rng;
use rand::distr::Distribution;
use rand::distr::weighted::WeightedIndex;
use std::ops::Range;
use tch::{Kind, Tensor, no_grad, no_grad_guard};

/// A model's predictions for the pool.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    /// argmax p(k|x), or the user's label where there is one. [N]
    pub classes: Vec<usize>,
    /// max p(k|x). [N]
    pub confidence: Vec<f32>,
    /// p(k|x), N × C row-major.
    pub probabilities: Vec<f32>,
}

impl Labels {
    /// Labels from `logits` [N, C].
    fn of(logits: &Tensor) -> Self {
        if logits.numel() == 0 {
            return Self::default(); // a pool without images
        }
        let probabilities = logits.softmax(-1, Kind::Float);
        Self {
            classes: argmax(logits),
            confidence: to_f32(&probabilities.amax([-1i64].as_slice(), false)),
            probabilities: to_f32(&probabilities),
        }
    }

    /// The labels of the images at these positions.
    fn only(&self, positions: &[usize]) -> Self {
        let classes = self.probabilities.len() / self.classes.len().max(1);
        let row = |&image: &usize| &self.probabilities[image * classes..(image + 1) * classes];
        Self {
            classes: pick(&self.classes, positions),
            confidence: pick(&self.confidence, positions),
            probabilities: positions.iter().flat_map(row).copied().collect(),
        }
    }

    /// Replaces predictions by the user's labels.
    pub fn correct(&mut self, given: &[Option<usize>]) {
        for (class, given) in self.classes.iter_mut().zip(given) {
            *class = given.unwrap_or(*class);
        }
    }
}

/// Zero-shot predictions for the pool (Eq. 1).
#[derive(Debug)]
pub struct ZeroShot {
    /// The labels of the pool: the predictions, or the user's labels where there are some.
    pub labels: Labels,
    /// The predicted class of each image, without the user's labels. [N]
    pub answers: Vec<usize>,
    /// Normalised image embeddings. [N, D]
    pub embeddings: Tensor,
    /// Mean length of the image embeddings before normalisation.
    pub embedding_norm: f64,
}

impl ZeroShot {
    /// The predictions for the images at these positions.
    pub fn only(&self, positions: &[usize]) -> Self {
        Self {
            labels: self.labels.only(positions),
            answers: pick(&self.answers, positions),
            embeddings: rows(&self.embeddings, positions),
            embedding_norm: self.embedding_norm,
        }
    }
}

/// A model's similarities on the pool under its tuned prompts.
#[derive(Debug)]
pub struct Scores {
    pub labels: Labels,
    /// s⁺, N × C row-major.
    pub positive: Vec<f32>,
    /// s⁻, N × C row-major.
    pub negative: Vec<f32>,
}

/// The inputs of one prompt tuning.
#[derive(Clone, Copy, Debug)]
pub struct PromptTuning<'a> {
    pub checkpoint: &'a Checkpoint,
    pub pool: &'a Pool<'a>,
    pub tokens: &'a ClassTokens,
    pub settings: &'a Phase1,
    /// How often each class occurs, where that is known.
    pub shares: Option<&'a Shares>,
    /// Whether training images are mirrored at random.
    pub flip: bool,
    pub seed: u64,
    pub model: ModelIndex,
    /// From 1.
    pub iteration: u32,
}

/// S*: the positions of the seeds in the pool, and the labels of every image of the pool.
#[derive(Clone, Copy, Debug)]
pub struct Seeds<'a> {
    pub images: &'a [usize],
    pub labels: &'a Labels,
}

/// The normalised text features t(c): [C, D]. Several templates are averaged, and the average is normalised again.
pub fn text_features(
    checkpoint: &Checkpoint,
    templates: &[Template],
    classes: &[String],
) -> Result<Tensor, RoundError> {
    let mut sum: Option<Tensor> = None;
    for template in templates {
        let prompts = checkpoint
            .prompts(&template.text, classes, 0)
            .map_err(|cause| RoundError::Template { line: template.line, cause })?;
        let (ids, ends) = crate::clip::text::padded(&prompts, checkpoint.device);
        // Nothing is trained here, so no gradient is needed.
        let features = no_grad(|| normalised(&checkpoint.text.embed(&checkpoint.text.token_embeddings(&ids), &ends)));
        sum = Some(sum.map_or(features.shallow_clone(), |sum| sum + features));
    }
    Ok(normalised(&sum.expect("a round has a template")))
}

/// Eq. 1 over the whole pool, by the CLIP called `name`.
pub fn zero_shot(
    name: &str,
    checkpoint: &Checkpoint,
    text: &Tensor,
    pool: &Pool,
    ctx: &mut TrainContext,
) -> Result<ZeroShot, RoundError> {
    let [logits, embeddings, norms] = ctx.predict(&format!("zero-shot answers of the {name}"), pool, |chunk| {
        let embedding = checkpoint.vision.embed(&pool.batch(chunk), None);
        let normalised = normalised(&embedding);
        let logits = normalised.matmul(&text.tr()) * checkpoint.logit_scale;
        [logits, normalised, embedding.norm_scalaropt_dim(2.0, -1, false)]
    })?;
    let lengths = to_f32(&norms).into_iter().map(f64::from);
    let embedding_norm = lengths.sum::<f64>() / pool.len().max(1) as f64;
    let labels = Labels::of(&logits);
    Ok(ZeroShot { answers: labels.classes.clone(), labels, embeddings, embedding_norm })
}

impl PromptTuning<'_> {
    /// The objective that is minimised over the seeds.
    #[cfg(test)]
    pub fn objective<'a>(&'a self, labels: &'a Labels, name: &'a str) -> impl Objective + 'a {
        Tuning::new(self, labels, name)
    }

    /// Tunes one model's prompts on the seeds, from new prompts on the pretrained weights.
    pub fn run(&self, seeds: &Seeds, ctx: &mut TrainContext) -> Result<Prompts, RoundError> {
        let name = format!("phase 1 of model {}, iteration {}", self.model, self.iteration);
        if let Some(prompts) = ctx.journal.result(&name).and_then(Prompts::from_named) {
            return Ok(prompts);
        }
        let prompts = self.tuned(seeds, &name, ctx)?;
        ctx.keep_result(&name, prompts.named())?;
        Ok(prompts)
    }

    /// The training alone. `name` selects its random streams.
    pub fn tuned(&self, seeds: &Seeds, name: &str, ctx: &mut TrainContext) -> Result<Prompts, RoundError> {
        let Self { settings, seed, model, .. } = *self;
        let plan = Plan {
            stage: Stage::phase1(model),
            sampler: BatchSampler {
                images: seeds.images,
                batch: settings.sgd.batch as usize,
                crop_scale: settings.crop_scale,
                flip: self.flip,
                views: 1,
                seed,
                name: name.to_owned(),
            },
            sgd: &settings.sgd,
            steps: settings.sgd.steps(seeds.images.len()),
            kind: ctx.kind(self.checkpoint),
        };
        Ok(fit::fit(&plan, self.pool, ctx, || Tuning::new(self, seeds.labels, name))?.prompts)
    }

    /// Labels and similarities of the whole pool under tuned prompts.
    pub fn score(&self, prompts: &Prompts, ctx: &mut TrainContext) -> Result<Scores, RoundError> {
        let Self { checkpoint, pool, model, iteration, .. } = *self;
        let (t_positive, t_negative) = no_grad(|| prompts.text(checkpoint, self.tokens));
        let name = format!("labels of model {model}, iteration {iteration}");
        let [positive, negative] = ctx.predict(&name, pool, |chunk| {
            let image = prompts.image(checkpoint, &pool.batch(chunk));
            [image.matmul(&t_positive.tr()), image.matmul(&t_negative.tr())]
        })?;
        let labels = Labels::of(&(&positive * checkpoint.logit_scale));
        Ok(Scores { labels, positive: to_f32(&positive), negative: to_f32(&negative) })
    }
}

struct Tuning<'a> {
    task: PromptTuning<'a>,
    labels: &'a Labels,
    prompts: Prompts,
    name: &'a str,
    /// Used in place of the text features where a batch is computed in micro-batches.
    segments: Vec<Segment>,
}

/// Consecutive rows of t⁺ or t⁻.
struct Segment {
    negative: bool,
    classes: Range<usize>,
    /// Computed without a graph; the graph of the losses ends here. [classes, D]
    features: Tensor,
}

impl<'a> Tuning<'a> {
    fn new(task: &PromptTuning<'a>, labels: &'a Labels, name: &'a str) -> Self {
        let prompts = Prompts::new(task.checkpoint, task.tokens, task.settings, task.seed, name);
        Self { task: *task, labels, prompts, name, segments: Vec::new() }
    }

    /// Normalised text features t⁺ and t⁻, each [C, D].
    fn text(&self) -> (Tensor, Tensor) {
        if self.segments.is_empty() {
            return self.prompts.text(self.task.checkpoint, self.task.tokens);
        }
        let of = |negative: bool| {
            let segments = self.segments.iter().filter(|segment| segment.negative == negative);
            Tensor::cat(&segments.map(|segment| &segment.features).collect::<Vec<_>>(), 0)
        };
        (of(false), of(true))
    }
}

impl Objective for Tuning<'_> {
    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.prompts.named()
    }

    fn lr_multiplier(&self, name: &str) -> f64 {
        if name == prompts::NEGATIVE { self.task.settings.negative_pace } else { 1.0 }
    }

    fn max_micro_batches(&self, images: usize) -> usize {
        images.max(max_segments(self.task.tokens.classes()))
    }

    /// Computes the text features. Where there are many classes, their graph may be much larger than that of the
    /// images, and every micro-batch needs them.
    fn begin(&mut self, micro_batches: usize) -> Vec<Tensor> {
        let PromptTuning { checkpoint, tokens, .. } = self.task;
        self.segments.clear();
        if micro_batches > 1 {
            // Their graph is made segment by segment in `again`. A guard, not `no_grad`, because a panic drops the
            // guard.
            let _guard = no_grad_guard();
            let (all, size) = (tokens.classes(), tokens.classes().div_ceil(micro_batches / 2));
            let chunks = (0..all).step_by(size).map(|start| start..(start + size).min(all));
            for (negative, classes) in [false, true].into_iter().flat_map(|n| chunks.clone().map(move |c| (n, c))) {
                let features = self.prompts.text_of(checkpoint, tokens, negative, classes.clone());
                let features = features.set_requires_grad(true);
                self.segments.push(Segment { negative, classes, features });
            }
        }
        self.segments.iter().map(|segment| segment.features.shallow_clone()).collect()
    }

    fn again(&self, index: usize) -> Tensor {
        let Segment { negative, classes, .. } = &self.segments[index];
        self.prompts.text_of(self.task.checkpoint, self.task.tokens, *negative, classes.clone())
    }

    fn losses(&mut self, batch: &Batch, micro_batch: Range<usize>) -> Vec<(&'static str, Tensor)> {
        let PromptTuning { checkpoint, settings, shares, seed, .. } = self.task;
        let mut rng = random::stream(seed, &format!("{}, complements of step {}", self.name, batch.step));
        let classes = self.labels.probabilities.len() / self.labels.classes.len();
        let labels: Vec<usize> = batch.positions.iter().map(|&i| self.labels.classes[i]).collect();
        let complements: Vec<i64> = batch
            .positions
            .iter()
            .zip(&labels)
            .map(|(&i, &label)| {
                let believed = &self.labels.probabilities[i * classes..(i + 1) * classes];
                let other = match (settings.complement, shares) {
                    (Complement::Uniform, None) => uniform(&mut rng, label, classes),
                    (Complement::Uniform, Some(shares)) => {
                        likely(&mut rng, label, &shares.applied(&vec![1.0; classes]))
                    }
                    (Complement::Likely, None) => likely(&mut rng, label, believed),
                    (Complement::Likely, Some(shares)) => likely(&mut rng, label, &shares.applied(believed)),
                };
                other as i64
            })
            .collect();
        let labels: Vec<i64> = labels.iter().map(|&y| y as i64).collect();
        let on = |values: &[i64]| Tensor::from_slice(&values[micro_batch.clone()]).to_device(checkpoint.device);
        let pixels = batch.views[0].narrow(0, micro_batch.start as i64, micro_batch.len() as i64);
        let (supervised, negative) =
            losses(&self.task, &self.prompts, self.text(), &pixels, (&on(&labels), &on(&complements)));
        let share = micro_batch.len() as f64 / batch.positions.len() as f64;
        let mut terms = vec![("supervised", supervised * share)];
        if settings.lambda > 0.0 {
            terms.push(("negative", negative * (settings.lambda * share)));
        }
        terms
    }
}

/// L1 (Eq. 4) and L2 (Eq. 6) of a batch: text features t⁺ and t⁻, each [C, D], pixels [B, 3, S, S], labels and
/// complement labels [B].
///
/// L2 also reaches the visual prompts, unless `detach-negative` (an ablation) is set.
pub fn losses(
    task: &PromptTuning,
    prompts: &Prompts,
    (t_positive, t_negative): (Tensor, Tensor),
    pixels: &Tensor,
    (labels, others): (&Tensor, &Tensor),
) -> (Tensor, Tensor) {
    let checkpoint = task.checkpoint;
    let scale = checkpoint.logit_scale;
    let image = prompts.image(checkpoint, pixels); // [B, D]
    let positive = image.matmul(&t_positive.tr()); // [B, C]
    let supervised = loss::supervised(&positive, labels, scale);
    let (positive, image) = if task.settings.detach_negative {
        // The ablation: detached, so that the negative loss trains the text prompts alone.
        let image = image.detach();
        (image.matmul(&t_positive.tr()), image)
    } else {
        (positive, image)
    };
    let negative = image.matmul(&t_negative.tr());
    (supervised, loss::negative(&positive, &negative, labels, others, scale))
}

/// A class other than `label`, drawn uniformly.
fn uniform(rng: &mut impl Rng, label: usize, classes: usize) -> usize {
    let other = rng.random_range(0..classes - 1);
    if other >= label { other + 1 } else { other }
}

/// A class other than `label`, drawn by `probabilities` [C]; uniformly where `label` has all the probability.
fn likely(rng: &mut impl Rng, label: usize, probabilities: &[f32]) -> usize {
    let others = probabilities.iter().enumerate().map(|(class, &p)| if class == label { 0.0 } else { p });
    match WeightedIndex::new(others) {
        Ok(law) => law.sample(rng),
        Err(_) => uniform(rng, label, probabilities.len()),
    }
}

#[cfg(test)]
mod tests;
