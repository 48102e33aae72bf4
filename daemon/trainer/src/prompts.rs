//! The parameters that Phase I trains: a positive and a negative text prompt (Eq. 2, 3) and visual prompts.
//!
//! C classes, L tokens of the longest prompt, M context vectors, T visual tokens, W tower width, D embedding width.

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::clip::normalised;
use crate::clip::text::padded;
use crate::random;
use coft_core::settings::{ContextInit, Phase1};
use std::collections::BTreeMap;
use std::ops::Range;
use tch::{Device, IndexOp, Tensor};

const POSITIVE: &str = "positive";
pub const NEGATIVE: &str = "negative";
const VISUAL: &str = "visual";

/// With fewer classes than this, a GPU computes the context together with each class: that is faster than starting the
/// kernels for a separate computation. Measured with 10 classes (decisions/0015). [choice]
const FEW: usize = 128;

/// Whether the context, which all classes share, is computed once instead of with each class.
pub fn computes_context_apart(device: Device, classes: usize) -> bool {
    !device.is_cuda() || classes >= FEW
}

/// The largest number of segments that the text features can be computed in: one for each class and prompt.
pub fn max_segments(classes: usize) -> usize {
    2 * classes
}

/// The class names as token sequences: start token, space for the context, name and the text after it, end token.
#[derive(Debug)]
pub struct ClassTokens {
    /// Token ids of each prompt. Those at the positions of the context, 1 to M, are not read.
    pub ids: Vec<Vec<i64>>,
    /// Initial value of each context, before noise is added. [M, W]
    pub context: Tensor,
    start: Tensor, // [1, W]
    names: Tensor, // [C, L − 1 − M, W]
    /// Position of each end token in `names`. [C]
    ends: Vec<i64>,
}

impl ClassTokens {
    pub fn new(
        checkpoint: &Checkpoint,
        template: &str,
        classes: &[String],
        settings: &Phase1,
    ) -> Result<Self, CheckpointError> {
        let width = checkpoint.config.text_config.hidden_size;
        let kept = match settings.context {
            ContextInit::Template => words_before_name(checkpoint, template, classes)?,
            ContextInit::Random => 0,
        };
        // `kept` tokens of the template become context. If there are none, M positions are added.
        let (template, added) = if kept > 0 { (template, 0) } else { ("{}.", settings.context_tokens as usize) };
        let mut ids = checkpoint.prompts(template, classes, added)?;
        for ids in &mut ids {
            ids.splice(1..1, std::iter::repeat_n(ids[0], added));
        }
        let m = (kept + added) as i64;
        let (padded, ends) = padded(&ids, checkpoint.device);
        let embeddings = checkpoint.text.token_embeddings(&padded); // [C, L, W]
        let context = if kept > 0 {
            embeddings.i((0, 1..1 + m))
        } else {
            Tensor::zeros([m, width], (tch::Kind::Float, checkpoint.device))
        };
        let names = embeddings.i((.., 1 + m..));
        let ends = ends.iter().map(|end| end - 1 - m).collect();
        Ok(Self { start: embeddings.i((0, 0..1)), names, ends, context, ids })
    }

    pub fn classes(&self) -> usize {
        self.ends.len()
    }
}

/// Number of the template's tokens between the start token and the class name that are the same for all classes.
fn words_before_name(checkpoint: &Checkpoint, template: &str, classes: &[String]) -> Result<usize, CheckpointError> {
    let before = checkpoint.tokens(template.split("{}").next().unwrap_or_default());
    let before = &before[..before.len() - 1]; // without the end token
    let prompts = checkpoint.prompts(template, classes, 0)?;
    let shared = |ids: &Vec<i64>| before.iter().zip(ids).take_while(|(a, b)| a == b).count();
    Ok(prompts.iter().map(shared).min().unwrap_or(0).saturating_sub(1))
}

/// One model's prompts. The pretrained weights stay frozen.
#[derive(Debug)]
pub struct Prompts {
    positive: Tensor, // [M, W]
    negative: Tensor, // [M, W]
    /// [blocks or 1, T, W]; `None` where only the text prompts are tuned.
    visual: Option<Tensor>,
}

impl Prompts {
    /// New prompts. `name` and the seed make those of different models and iterations different.
    pub fn new(checkpoint: &Checkpoint, tokens: &ClassTokens, settings: &Phase1, seed: u64, name: &str) -> Self {
        let v = &checkpoint.config.vision_config;
        let mut rng = random::stream(seed, &format!("{name}, prompts"));
        let mut context = || {
            let noise = random::normal(&mut rng, &tokens.context.size(), settings.context_deviation, checkpoint.device);
            (&tokens.context + noise).set_requires_grad(true)
        };
        let (positive, negative) = (context(), context());
        let sets = if settings.visual_deep { v.num_hidden_layers } else { 1 };
        let shape = [sets, i64::from(settings.visual_tokens), v.hidden_size];
        let bound = (6.0 / (3 * v.patch_size * v.patch_size + v.hidden_size) as f64).sqrt();
        let visual = (settings.visual_tokens > 0)
            .then(|| random::uniform(&mut rng, &shape, bound, checkpoint.device).set_requires_grad(true));
        Self { positive, negative, visual }
    }

    pub fn named(&self) -> Vec<(String, Tensor)> {
        let visual = self.visual.as_ref().map(|visual| (VISUAL, visual));
        let all = [(POSITIVE, &self.positive), (NEGATIVE, &self.negative)].into_iter().chain(visual);
        all.map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone())).collect()
    }

    /// The inverse of [`Prompts::named`]; `None` where a tensor is missing.
    pub fn from_named(mut named: BTreeMap<String, Tensor>) -> Option<Self> {
        let (positive, negative) = (named.remove(POSITIVE)?, named.remove(NEGATIVE)?);
        Some(Self { positive, negative, visual: named.remove(VISUAL) })
    }

    pub fn visual(&self) -> Option<Tensor> {
        self.visual.as_ref().map(Tensor::detach)
    }

    /// Normalised text features of both prompts: t⁺ and t⁻, each [C, D].
    pub fn text(&self, checkpoint: &Checkpoint, tokens: &ClassTokens) -> (Tensor, Tensor) {
        let classes = tokens.classes();
        let features = features(checkpoint, tokens, &[&self.positive, &self.negative], 0..classes); // [2C, D]
        (features.narrow(0, 0, classes as i64), features.narrow(0, classes as i64, classes as i64))
    }

    /// The rows of t⁺, or of t⁻ if `negative`, for `classes`.
    pub fn text_of(
        &self,
        checkpoint: &Checkpoint,
        tokens: &ClassTokens,
        negative: bool,
        classes: Range<usize>,
    ) -> Tensor {
        let context = if negative { &self.negative } else { &self.positive };
        features(checkpoint, tokens, &[context], classes)
    }

    /// Normalised image features with the visual prompts: [B, 3, S, S] → [B, D].
    pub fn image(&self, checkpoint: &Checkpoint, pixels: &Tensor) -> Tensor {
        normalised(&checkpoint.vision.embed(pixels, self.visual.as_ref()))
    }
}

/// Normalised text features of the classes in `range` with each of P contexts [M, W]: [P · classes, D].
fn features(checkpoint: &Checkpoint, tokens: &ClassTokens, contexts: &[&Tensor], range: Range<usize>) -> Tensor {
    let names = tokens.names.narrow(0, range.start as i64, range.len() as i64);
    // The start token and the context come before the class name, so they are the same for all classes.
    let beginnings = contexts.iter().map(|context| Tensor::cat(&[&tokens.start, *context], 0)); // [1 + M, W]
    let beginnings = Tensor::stack(&beginnings.collect::<Vec<_>>(), 0);
    let (tower, ends) = (&checkpoint.text, &tokens.ends[range]);
    normalised(&match computes_context_apart(checkpoint.device, tokens.classes()) {
        true => tower.embed_pairs_apart(&beginnings, &names, ends),
        false => tower.embed_pairs(&beginnings, &names, ends),
    })
}
