//! Phase II: the whole image encoder and a linear head, trained on the clean pairs (Eq. 7).
//!
//! N images of the pool, C classes, B images of a batch, W encoder width, D embedding width.

use crate::checkpoint::Checkpoint;
use crate::clip::{Tensors, VisionTower};
use crate::failure::Failure;
use crate::pool::Visits;
use crate::progress::Reporter;
use crate::random;
use crate::round::Trainee;
use crate::sgd::Sgd;
use coft_core::event::Stage;
use coft_core::settings::{HeadInit, Phase2};
use tch::{Reduction, Tensor};

/// An image encoder with the head that makes it a classifier.
#[derive(Debug)]
pub struct Model {
    pub encoder: VisionTower,
    pub head: Head,
}

#[derive(Debug)]
pub enum Head {
    /// f(v) = Wv + b on the class token before projection: weight [C, W], bias [C].
    Linear { weight: Tensor, bias: Tensor },
    /// Scaled cosine similarity with text features, 1/τ included: [C, D].
    Text { features: Tensor },
}

/// The clean pairs of one model: positions in the pool and the label of every image of the pool.
#[derive(Debug)]
pub struct Clean<'a> {
    pub images: &'a [usize],
    pub labels: &'a [usize],
}

/// What the head starts from.
#[derive(Debug)]
pub struct Start<'a> {
    /// Normalised text features of the class names. [C, D]
    pub text: &'a Tensor,
    /// Mean length of the pool's image embeddings before normalisation.
    pub embedding_norm: f64,
}

impl Model {
    /// The pretrained classifier: no training, text features as the head.
    pub fn zero_shot(checkpoint: &Checkpoint, text: &Tensor) -> Result<Self, Failure> {
        let encoder = VisionTower::new(&checkpoint.config, &checkpoint.tensors)
            .expect("the checkpoint was loaded with these shapes");
        Ok(Self { encoder, head: Head::Text { features: text * checkpoint.logit_scale } })
    }

    /// Logits of pixels: [B, 3, S, S] → [B, C].
    pub fn logits(&self, pixels: &Tensor) -> Tensor {
        self.head.logits(&self.encoder, &self.encoder.class_token(pixels, None))
    }

    /// What the served graph computes: logits [B, C], probabilities [B, C], and the normalised head input as embedding.
    pub fn answers(&self, pixels: &Tensor) -> (Tensor, Tensor, Tensor) {
        let class = self.encoder.class_token(pixels, None);
        let logits = self.head.logits(&self.encoder, &class);
        let embedding = match &self.head {
            Head::Linear { .. } => crate::clip::normalised(&class),
            Head::Text { .. } => crate::clip::normalised(&class.linear(&self.encoder.projection, None::<&Tensor>)),
        };
        let probabilities = logits.softmax(-1, tch::Kind::Float);
        (logits, probabilities, embedding)
    }
}

impl Head {
    fn logits(&self, encoder: &VisionTower, class: &Tensor) -> Tensor {
        match self {
            Head::Linear { weight, bias } => class.linear(weight, Some(bias)),
            Head::Text { features } => {
                crate::clip::normalised(&class.linear(&encoder.projection, None::<&Tensor>)).matmul(&features.tr())
            }
        }
    }

    /// A trainable linear head of C classes.
    fn linear(trainee: Trainee, start: &Start, settings: &Phase2) -> (Tensor, Tensor) {
        let Trainee { checkpoint, seed, model, .. } = trainee;
        let classes = start.text.size()[0];
        let width = checkpoint.config.vision_config.hidden_size;
        let weight = match settings.head {
            // t·(Pv)/‖Pv‖·(1/τ) with the pool's mean length in place of each image's.
            HeadInit::Text => {
                start.text.matmul(&checkpoint.vision.projection) * (checkpoint.logit_scale / start.embedding_norm)
            }
            HeadInit::Random => {
                let mut rng = random::stream(seed, &format!("head of model {model}"));
                random::normal(&mut rng, &[classes, width], 0.01, checkpoint.device)
            }
        };
        let bias = Tensor::zeros([classes], (tch::Kind::Float, checkpoint.device));
        (weight.detach().set_requires_grad(true), bias.set_requires_grad(true))
    }
}

/// Fine-tunes one model on its clean pairs, from the pretrained weights.
///
/// Without any clean pair the encoder stays as it was: a mean over nothing is not a number.
pub fn tune(
    trainee: Trainee,
    start: &Start,
    clean: &Clean,
    settings: &Phase2,
    reporter: &mut Reporter,
) -> Result<Model, Failure> {
    let Trainee { checkpoint, pool, seed, model } = trainee;
    let stage = if model == 1 { Stage::Phase2Model1 } else { Stage::Phase2Model2 };
    let tensors: Tensors = checkpoint.tensors.trainable(VisionTower::ENCODER);
    let projection = checkpoint.vision.projection.shallow_clone();
    let encoder = VisionTower::with_projection(&checkpoint.config, &tensors, projection)
        .expect("a copy of tensors that were loaded with these shapes");
    let (weight, bias) = Head::linear(trainee, start, settings);
    if !clean.images.is_empty() {
        let mut parameters: Vec<Tensor> = tensors.iter().map(|(_, t)| t.shallow_clone()).collect();
        parameters.extend([weight.shallow_clone(), bias.shallow_clone()]);
        let steps = settings.sgd.steps(clean.images.len());
        let mut sgd = Sgd::new(parameters, &settings.sgd, steps);
        let visits = Visits {
            images: clean.images,
            batch: settings.sgd.batch as usize,
            steps,
            crop_scale: settings.crop_scale,
            flip: settings.flip,
            seed,
            name: &format!("phase 2 of model {model}"),
        };
        let mut step = 0;
        pool.train(&visits, |positions, pixels| {
            let labels: Vec<i64> = positions.iter().map(|&i| clean.labels[i] as i64).collect();
            let labels = Tensor::from_slice(&labels).to_device(checkpoint.device);
            let logits = encoder.class_token(&pixels, None).linear(&weight, Some(&bias)); // [B, C]
            let loss = logits.cross_entropy_loss(&labels, None::<&Tensor>, Reduction::Mean, -100, 0.0);
            let value = loss.double_value(&[]);
            if !value.is_finite() {
                return Err(Failure::NonFinite { stage, step });
            }
            sgd.step(&loss);
            step += 1;
            Ok(reporter.advance(positions.len() as u64, Some(value))?)
        })?;
    }
    Ok(Model { encoder, head: Head::Linear { weight, bias } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::phase1::{text_features, zero_shot};
    use crate::pool::Pool;
    use std::path::Path;

    #[test]
    fn nothing_clean_leaves_the_zero_shot_classifier() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoint = fixture::checkpoint();
        let images = fixture::images(dir.path(), 2);
        let paths: Vec<&Path> = images.iter().map(|image| image.path.as_path()).collect();
        let pool = Pool::load(&paths, &checkpoint.preprocess, checkpoint.device).unwrap();
        let text = text_features(&checkpoint, fixture::TEMPLATE, &fixture::classes()).unwrap();
        let mut reporter = fixture::reporter();
        let zero_shot = zero_shot(&checkpoint, &text, &pool, &mut reporter).unwrap();

        let trainee = Trainee { checkpoint: &checkpoint, pool: &pool, seed: 1, model: 1 };
        let start = Start { text: &text, embedding_norm: zero_shot.embedding_norm };
        let clean = Clean { images: &[], labels: &zero_shot.labels };
        let model = tune(trainee, &start, &clean, &Phase2::default(), &mut reporter).unwrap();
        let everything: Vec<usize> = (0..pool.len()).collect();
        // The head differs from zero-shot in each image's length alone, which turns no order round.
        assert_eq!(crate::clip::argmax(&model.logits(&pool.batch(&everything))), zero_shot.labels);
    }
}
