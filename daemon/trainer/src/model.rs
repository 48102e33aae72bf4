//! The served model: an image encoder, visual prompts if it has them, and a head.
//!
//! C classes, B images of a batch, W encoder width, D embedding width.

use crate::checkpoint::Checkpoint;
use crate::clip::{Tensors, VisionTower, normalised};
use crate::prompts::Prompts;
use coft_core::settings::HeadInit;
use coft_core::shares::Shares;
use std::collections::BTreeMap;
use tch::{Kind, Tensor, no_grad};

/// A classifier as it is exported.
#[derive(Debug)]
pub struct ImageClassifier {
    pub encoder: VisionTower,
    /// Visual prompts [blocks or 1, T, W].
    pub prompts: Option<Tensor>,
    pub head: Head,
    /// ln π + ln C, where π are the expected shares of the classes. Added to the logits before the softmax. [C]
    pub prior: Option<Tensor>,
}

#[derive(Debug)]
pub enum Head {
    /// f(v) = Wv + b on the class token before projection: weight [C, W], bias [C].
    Linear { weight: Tensor, bias: Tensor },
    /// Scaled cosine similarity with text features, 1/τ included: [C, D].
    Text { features: Tensor },
}

impl ImageClassifier {
    /// The pretrained classifier without training: text features `text` [C, D] are the head.
    pub fn zero_shot(checkpoint: &Checkpoint, text: &Tensor) -> Self {
        Self {
            encoder: pretrained(checkpoint),
            prompts: None,
            head: Head::Text { features: text * checkpoint.logit_scale },
            prior: None,
        }
    }

    /// A model of Phase I: the pretrained encoder with visual prompts, and its tuned text features `text` [C, D] as the
    /// head.
    pub fn prompted(checkpoint: &Checkpoint, prompts: &Prompts, text: &Tensor) -> Self {
        Self { prompts: prompts.visual(), ..Self::zero_shot(checkpoint, text) }
    }

    /// The same classifier with its logits divided by `temperature`.
    pub fn tempered(self, temperature: f64) -> Self {
        // Arithmetic on finished weights needs no gradient.
        let head = no_grad(|| match self.head {
            Head::Linear { weight, bias } => Head::Linear { weight: weight / temperature, bias: bias / temperature },
            Head::Text { features } => Head::Text { features: features / temperature },
        });
        Self { head, ..self }
    }

    /// The same classifier for classes that come in these shares. Its logits, and so its energies, stay the same.
    pub fn expecting(self, shares: Option<&Shares>) -> Self {
        let of = |shares: &Shares| {
            let ratios = Tensor::from_slice(&shares.log_ratios());
            ratios.to_device(self.encoder.projection.device()).to_kind(Kind::Float)
        };
        Self { prior: shares.map(of), ..self }
    }

    /// Logits of pixels: [B, 3, S, S] → [B, C].
    pub fn logits(&self, pixels: &Tensor) -> Tensor {
        self.answers(pixels).0
    }

    /// The outputs of the served graph: logits [B, C], probabilities [B, C], and the normalised head input as
    /// embedding.
    pub fn answers(&self, pixels: &Tensor) -> (Tensor, Tensor, Tensor) {
        let class = self.encoder.class_token(pixels, self.prompts.as_ref());
        let (logits, embedding) = match &self.head {
            Head::Linear { weight, bias } => (class.linear(weight, Some(bias)), normalised(&class)),
            Head::Text { features } => {
                let embedding = normalised(&class.linear(&self.encoder.projection, None::<&Tensor>));
                (embedding.matmul(&features.tr()), embedding)
            }
        };
        let probabilities = self.probabilities(&logits);
        (logits, probabilities, embedding)
    }

    /// Probabilities of logits: [B, C] → [B, C].
    pub fn probabilities(&self, logits: &Tensor) -> Tensor {
        match &self.prior {
            Some(prior) => (logits + prior).softmax(-1, Kind::Float),
            None => logits.softmax(-1, Kind::Float),
        }
    }
}

fn pretrained(checkpoint: &Checkpoint) -> VisionTower {
    let tower = VisionTower::new(&checkpoint.config, &checkpoint.tensors);
    tower.expect("the checkpoint was loaded with these shapes").frozen()
}

/// The weights that Phase II trains: an image encoder and a linear head.
#[derive(Debug)]
pub struct Phase2Weights {
    pub encoder: Tensors,
    pub weight: Tensor, // [C, W]
    pub bias: Tensor,   // [C]
}

const WEIGHT: &str = "head.weight";
const BIAS: &str = "head.bias";

impl Phase2Weights {
    /// The weights that Phase II starts from: a copy of the pretrained encoder, and a head that ranks the classes as
    /// zero-shot does: t·(Pv)/‖Pv‖·(1/τ), with the pool's mean length `embedding_norm` in place of each image's. `text`
    /// [C, D] are normalised text features.
    pub fn pretrained(checkpoint: &Checkpoint, text: &Tensor, embedding_norm: f64) -> Self {
        let weight = text.matmul(&checkpoint.vision.projection) * (checkpoint.logit_scale / embedding_norm);
        let bias = Tensor::zeros([text.size()[0]], (Kind::Float, checkpoint.device));
        Self { encoder: checkpoint.tensors.trainable(VisionTower::ENCODER), weight, bias }
    }

    /// The same encoder. Where the setting asks for it, the head is drawn from N(0, 0.01²) [choice].
    pub fn with_head(self, init: HeadInit, seed: u64, name: &str) -> Self {
        let weight = match init {
            HeadInit::Text => self.weight,
            HeadInit::Random => {
                let mut rng = crate::random::stream(seed, &format!("{name}, head"));
                crate::random::normal(&mut rng, &self.weight.size(), 0.01, self.weight.device())
            }
        };
        let trainable = |t: Tensor| t.detach().set_requires_grad(true);
        Self { weight: trainable(weight), bias: trainable(self.bias), ..self }
    }

    /// The weighted sum of models, weight by weight: an average (model soup) where the shares are equal, WiSE-FT where
    /// one of two models is the pretrained one. The shares add up to 1.
    pub fn mixed(parts: &[(f64, &Phase2Weights)]) -> Self {
        let mix = |pick: &dyn Fn(&Phase2Weights) -> Tensor| {
            // Arithmetic on finished weights needs no gradient.
            no_grad(|| parts.iter().map(|(share, part)| pick(part) * *share).reduce(|a, b| a + b).expect("a part"))
        };
        let of_encoder = |weights: &Phase2Weights, name: &str| {
            weights.encoder.iter().find(|(n, _)| *n == name).expect("same encoder").1.shallow_clone()
        };
        let encoder = parts[0].1.encoder.names().map(|name| (name.to_owned(), mix(&|w| of_encoder(w, name))));
        Self {
            encoder: encoder.collect(),
            weight: mix(&|w| w.weight.shallow_clone()),
            bias: mix(&|w| w.bias.shallow_clone()),
        }
    }

    pub fn model(&self, checkpoint: &Checkpoint) -> ImageClassifier {
        let projection = checkpoint.vision.projection.shallow_clone();
        let encoder = VisionTower::with_projection(&checkpoint.config, &self.encoder, projection)
            .expect("a copy of tensors that were loaded with these shapes");
        let head = Head::Linear { weight: self.weight.shallow_clone(), bias: self.bias.shallow_clone() };
        ImageClassifier { encoder, prompts: None, head, prior: None }
    }

    pub fn named(&self) -> Vec<(String, Tensor)> {
        let encoder = self.encoder.iter().map(|(name, t)| (name.to_owned(), t.shallow_clone()));
        let head = [(WEIGHT, &self.weight), (BIAS, &self.bias)];
        encoder.chain(head.map(|(name, t)| (name.to_owned(), t.shallow_clone()))).collect()
    }

    /// The inverse of [`Phase2Weights::named`]; `None` where a tensor is missing.
    pub fn from_named(mut named: BTreeMap<String, Tensor>) -> Option<Self> {
        let (weight, bias) = (named.remove(WEIGHT)?, named.remove(BIAS)?);
        Some(Self { encoder: named.into_iter().collect(), weight, bias })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::to_f32;

    /// Weights whose tensors hold different multiples of `value`.
    fn weights(value: f32) -> Phase2Weights {
        let tensor = |factor: f32| Tensor::from_slice(&[value * factor, -value * factor]);
        let encoder = [("a", tensor(1.0)), ("b", tensor(2.0))].map(|(name, tensor)| (name.to_owned(), tensor));
        Phase2Weights { encoder: encoder.into_iter().collect(), weight: tensor(3.0), bias: tensor(4.0) }
    }

    fn values(weights: &Phase2Weights) -> Vec<(String, Vec<f32>)> {
        weights.named().into_iter().map(|(name, tensor)| (name, to_f32(&tensor))).collect()
    }

    #[test]
    fn models_are_mixed_weight_by_weight_in_their_shares() {
        let (one, two, rest) = (weights(8.0), weights(4.0), weights(-1.0));
        // A quarter of 8, a quarter of 4, and half of -1.
        assert_eq!(values(&Phase2Weights::mixed(&[(0.25, &one), (0.25, &two), (0.5, &rest)])), values(&weights(2.5)));
        let odd = weights(0.1);
        assert_eq!(values(&Phase2Weights::mixed(&[(1.0, &odd)])), values(&odd), "the same bits");
    }
}
