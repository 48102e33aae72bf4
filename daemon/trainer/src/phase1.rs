//! Phase I: parameter-efficient tuning of one model on confident pseudo-labels (Eq. 1 to 6).
//!
//! N images of the pool, C classes, B images of a batch, D embedding width.

use crate::checkpoint::Checkpoint;
use crate::clip::{argmax, normalised, to_f32};
use crate::failure::Failure;
use crate::loss;
use crate::pool::{Pool, Visits};
use crate::progress::Reporter;
use crate::prompts::{ClassTokens, Prompts};
use crate::random;
use crate::round::Trainee;
use crate::sgd::Sgd;
use coft_core::event::Stage;
use coft_core::settings::Phase1;
use rand::Rng;
use tch::{Tensor, no_grad};

/// Images of one forward pass without gradients.
pub const SCORING_BATCH: usize = 128;

/// Zero-shot answers on the pool (Eq. 1).
#[derive(Debug)]
pub struct ZeroShot {
    /// argmax p(k|x). [N]
    pub labels: Vec<usize>,
    /// max p(k|x). [N]
    pub confidence: Vec<f32>,
    /// Mean length of the image embeddings before normalisation.
    pub embedding_norm: f64,
}

/// A model's answers on the pool under its tuned prompts.
#[derive(Debug)]
pub struct Scores {
    /// argmax s⁺. [N]
    pub labels: Vec<usize>,
    /// s⁺, N × C row-major.
    pub positive: Vec<f32>,
    /// s⁻, N × C row-major.
    pub negative: Vec<f32>,
}

/// The seeds of Phase I: positions in the pool and, for each image of the pool, its pseudo-label.
#[derive(Debug)]
pub struct Seeds<'a> {
    pub images: &'a [usize],
    pub labels: &'a [usize],
    pub classes: usize,
}

/// The normalised text features t(c) of the template: [C, D].
pub fn text_features(checkpoint: &Checkpoint, template: &str, classes: &[String]) -> Result<Tensor, Failure> {
    let prompts = checkpoint.prompts(template, classes, 0)?;
    let (ids, ends) = crate::clip::text::padded(&prompts, checkpoint.device);
    // Nothing is trained here.
    Ok(no_grad(|| normalised(&checkpoint.text.embed(&checkpoint.text.token_embeddings(&ids), &ends))))
}

/// Eq. 1 over the whole pool.
pub fn zero_shot(
    checkpoint: &Checkpoint,
    text: &Tensor,
    pool: &Pool,
    reporter: &mut Reporter,
) -> Result<ZeroShot, Failure> {
    let mut answer = ZeroShot { labels: Vec::new(), confidence: Vec::new(), embedding_norm: 0.0 };
    let everything: Vec<usize> = (0..pool.len()).collect();
    for chunk in everything.chunks(SCORING_BATCH) {
        no_grad(|| {
            let embedding = checkpoint.vision.embed(&pool.batch(chunk), None);
            let norms = embedding.norm_scalaropt_dim(2.0, -1, false);
            answer.embedding_norm += to_f32(&norms).iter().map(|&n| f64::from(n)).sum::<f64>();
            let logits = normalised(&embedding).matmul(&text.tr()) * checkpoint.logit_scale;
            answer.labels.extend(argmax(&logits));
            let probabilities = logits.softmax(-1, tch::Kind::Float);
            answer.confidence.extend(to_f32(&probabilities.amax([-1i64].as_slice(), false)));
        });
        reporter.advance(chunk.len() as u64, None)?;
    }
    answer.embedding_norm /= pool.len().max(1) as f64;
    Ok(answer)
}

/// Tunes one model's prompts on the seeds.
pub fn tune(
    trainee: Trainee,
    tokens: &ClassTokens,
    seeds: &Seeds,
    settings: &Phase1,
    reporter: &mut Reporter,
) -> Result<Prompts, Failure> {
    let Trainee { checkpoint, pool, seed, model } = trainee;
    let stage = if model == 1 { Stage::Phase1Model1 } else { Stage::Phase1Model2 };
    let prompts = Prompts::new(checkpoint, tokens, settings, seed, model);
    let steps = settings.sgd.steps(seeds.images.len());
    let mut sgd = Sgd::new(prompts.parameters(), &settings.sgd, steps);
    let mut complements = random::stream(seed, &format!("complements of model {model}"));
    let visits = Visits {
        images: seeds.images,
        batch: settings.sgd.batch as usize,
        steps,
        crop_scale: settings.crop_scale,
        flip: settings.flip,
        seed,
        name: &format!("phase 1 of model {model}"),
    };
    let mut step = 0;
    pool.train(&visits, |positions, pixels| {
        let labels: Vec<i64> = positions.iter().map(|&i| seeds.labels[i] as i64).collect();
        let others: Vec<i64> = labels.iter().map(|&y| complement(&mut complements, y, seeds.classes)).collect();
        let labels = Tensor::from_slice(&labels).to_device(checkpoint.device);
        let others = Tensor::from_slice(&others).to_device(checkpoint.device);

        let (loss1, loss2) =
            losses(checkpoint, &prompts, tokens, &pixels, (&labels, &others), settings.detach_negative);
        let loss = loss1 + loss2 * settings.lambda;
        let value = loss.double_value(&[]);
        if !value.is_finite() {
            return Err(Failure::NonFinite { stage, step });
        }
        sgd.step(&loss);
        step += 1;
        Ok(reporter.advance(positions.len() as u64, Some(value))?)
    })?;
    Ok(prompts)
}

/// L1 (Eq. 4) and L2 (Eq. 6) of a batch: pixels [B, 3, S, S], labels and complement labels [B].
///
/// L2 reaches the visual prompts too, unless `detach`, an ablation, leaves it to the text prompts.
pub fn losses(
    checkpoint: &Checkpoint,
    prompts: &Prompts,
    tokens: &ClassTokens,
    pixels: &Tensor,
    (labels, others): (&Tensor, &Tensor),
    detach: bool,
) -> (Tensor, Tensor) {
    let scale = checkpoint.logit_scale;
    let (t_positive, t_negative) = prompts.text(checkpoint, tokens); // [C, D] each
    let image = prompts.image(checkpoint, pixels); // [B, D]
    let positive = image.matmul(&t_positive.tr()); // [B, C]
    let supervised = loss::supervised(&positive, labels, scale);
    let (positive, image) = if detach {
        // The ablation: the negative loss teaches the text prompts alone.
        let image = image.detach();
        (image.matmul(&t_positive.tr()), image)
    } else {
        (positive, image)
    };
    let negative = image.matmul(&t_negative.tr());
    (supervised, loss::negative(&positive, &negative, labels, others, scale))
}

/// A class other than `label`, uniform over them.
fn complement(rng: &mut impl Rng, label: i64, classes: usize) -> i64 {
    let other = rng.random_range(0..classes as i64 - 1);
    if other >= label { other + 1 } else { other }
}

/// Labels and similarities of the whole pool under tuned prompts.
pub fn score(
    checkpoint: &Checkpoint,
    tokens: &ClassTokens,
    prompts: &Prompts,
    pool: &Pool,
    reporter: &mut Reporter,
) -> Result<Scores, Failure> {
    let (t_positive, t_negative) = no_grad(|| prompts.text(checkpoint, tokens));
    let mut scores = Scores { labels: Vec::new(), positive: Vec::new(), negative: Vec::new() };
    let everything: Vec<usize> = (0..pool.len()).collect();
    for chunk in everything.chunks(SCORING_BATCH) {
        no_grad(|| {
            let image = prompts.image(checkpoint, &pool.batch(chunk));
            let positive = image.matmul(&t_positive.tr());
            scores.labels.extend(argmax(&positive));
            scores.positive.extend(to_f32(&positive));
            scores.negative.extend(to_f32(&image.matmul(&t_negative.tr())));
        });
        reporter.advance(chunk.len() as u64, None)?;
    }
    Ok(scores)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn the_negative_loss_teaches_the_visual_prompts_unless_it_is_detached() {
        let checkpoint = fixture::checkpoint();
        let (classes, settings) = (fixture::classes(), Phase1::default());
        let tokens = ClassTokens::new(&checkpoint, fixture::TEMPLATE, &classes, &settings).unwrap();
        let mut rng = random::stream(3, "test");
        let side = checkpoint.config.vision_config.image_size;
        let pixels = random::normal(&mut rng, &[2, 3, side, side], 1.0, checkpoint.device);
        let (labels, others) = (Tensor::from_slice(&[0i64, 1]), Tensor::from_slice(&[2i64, 3]));
        for (detach, taught) in [(false, true), (true, false)] {
            let prompts = Prompts::new(&checkpoint, &tokens, &settings, 1, 1);
            let (_, loss) = losses(&checkpoint, &prompts, &tokens, &pixels, (&labels, &others), detach);
            loss.backward();
            let moved: Vec<bool> = prompts
                .parameters()
                .iter()
                .map(|p| p.grad().defined() && p.grad().abs().sum(tch::Kind::Float).double_value(&[]) > 0.0)
                .collect();
            assert_eq!(moved, [true, true, taught], "positive, negative and visual prompts with detach = {detach}");
        }
    }

    #[test]
    fn a_complement_is_uniform_over_the_other_classes() {
        let mut rng = random::stream(1, "test");
        let mut drawn = [0u32; 4];
        for _ in 0..3000 {
            drawn[complement(&mut rng, 2, 4) as usize] += 1;
        }
        assert_eq!(drawn[2], 0);
        assert!([0, 1, 3].iter().all(|&k| (850..1150).contains(&drawn[k])), "{drawn:?}");
        assert_eq!(complement(&mut rng, 0, 2), 1);
    }
}
