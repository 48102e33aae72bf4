//! Baseline methods, for comparison on the same test setup. The service never offers them.

use crate::error::RoundError;
use crate::fit::TrainContext;
use crate::model::{ImageClassifier, Phase2Weights};
use crate::phase1::{PromptTuning, Seeds};
use crate::phase2::{Clean, FineTuning};
use coft_core::event::Stage;
use coft_core::settings::Phase1;
use tch::no_grad;

/// UPL-style prompt tuning (arXiv 2204.03649): trains the text context alone, with cross-entropy on the most confident
/// images of each class.
pub fn upl(tuning: &PromptTuning, seeds: &Seeds, ctx: &mut TrainContext) -> Result<ImageClassifier, RoundError> {
    let settings = Phase1 { visual_tokens: 0, lambda: 0.0, ..tuning.settings.clone() };
    let tuning = PromptTuning { settings: &settings, ..*tuning };
    ctx.reporter.begin(Stage::Phase1Model1, 1)?;
    let prompts = tuning.run(seeds, ctx)?;
    let (text, _) = no_grad(|| prompts.text(tuning.checkpoint, tuning.tokens));
    Ok(ImageClassifier::prompted(tuning.checkpoint, &prompts, &text))
}

/// Phase II on the labels of the `kept` images. Naive self-training keeps all images with their zero-shot labels; the
/// oracle uses the true labels.
pub fn fine_tuned(tuning: &FineTuning, clean: &Clean, ctx: &mut TrainContext) -> Result<Phase2Weights, RoundError> {
    ctx.reporter.begin(Stage::Phase2Model1, 1)?;
    tuning.run(clean, ctx)
}
