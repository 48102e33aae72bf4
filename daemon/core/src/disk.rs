//! How much disk space a round needs, computed before it starts.

use crate::settings::Settings;
use crate::spec::Method;

/// Sizes on which the disk space of a round depends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoundSizes {
    /// Parameters of the image encoder that Phase II trains: the student's, if there is one.
    pub encoder_values: u64,
    /// Width of that encoder.
    pub width: u64,
    /// Length of an embedding of that encoder.
    pub embedding: u64,
    /// Blocks of that encoder.
    pub blocks: u64,
    /// Width of the text tower, whose prompts Phase I tunes.
    pub text_width: u64,
    /// Side of the images that the model reads, px.
    pub image_side: u64,
    /// Images of the pool.
    pub images: u64,
    /// Classes of the classifier.
    pub classes: u64,
}

/// Size of a single-precision number, bytes.
const FLOAT: u64 = 4;
/// Passes over the pool that save a number for every image and class: the zero-shot answers, the similarities of both
/// models for two prompts in each iteration of Phase I, and the plain and shifted answers of seven candidates.
const FIXED_PASSES: u64 = 16;
const PASSES_OF_AN_ITERATION: u64 = 4;
/// Bytes per image that do not depend on the number of classes: classes of crops and of mirrored images, and ten
/// neighbours in two views, 8 bytes each.
const PER_IMAGE: u64 = 256;
/// Most tokens of a template from which the context can start.
const CONTEXT: u64 = 77;
/// Number of images in the candidate's probe.
const PROBE_IMAGES: u64 = 16;
/// The graph, manifest, report, spec (with a path for each image), and the blocks of the file system, bytes. [choice]
const SLACK: u64 = 16 << 20;

/// The most bytes that a round occupies on the disk at one time, in its journal and its candidate.
///
/// Let E be the bytes of the trained encoder and its head. The maximum is reached while the second model of Phase II is
/// trained. Then the journal holds the first model's result (E), and the second model's progress twice, because a new
/// file is written before the old one is replaced. The progress is the weights and moments (2E), and in CoFT+ also the
/// averaged encoder (E) and the queue of keys. Together that is 5E, or 7E and two queues in CoFT+. A round without
/// Phase II writes only the candidate (E). When the candidate is written, the journal has two results, 3E together,
/// which is less. The predictions for the pool and the prompts of Phase I are added. ViT-B/32 needs 1.8 GB, and 2.5 GB
/// in CoFT+.
pub fn round_bytes(method: Method, settings: &Settings, sizes: &RoundSizes) -> u64 {
    let RoundSizes { encoder_values, width, embedding, blocks, text_width, image_side, images, classes } = *sizes;
    let values = sum(&[encoder_values, product(&[classes, width + 1]), product(&[width, embedding])]);
    let model = product(&[FLOAT, values]);
    let (phase1, phase2) = (&settings.phase1, &settings.phase2);
    let queue = product(&[FLOAT, u64::from(phase2.contrast.queue).min(images / 2), width]);
    let trained = match method {
        Method::ZeroShot | Method::Upl => model,
        Method::Coft | Method::SelfTraining | Method::Oracle => product(&[5, model]),
        Method::CoftPlus => sum(&[product(&[7, model]), product(&[2, queue])]),
    };
    let iterations = match method {
        Method::ZeroShot | Method::SelfTraining | Method::Oracle => 0,
        Method::Coft | Method::Upl => 1,
        Method::CoftPlus => u64::from(phase1.iterations),
    };
    let prompt_values = sum(&[
        product(&[2, u64::from(phase1.context_tokens).max(CONTEXT), text_width]),
        product(&[blocks, u64::from(phase1.visual_tokens), width]),
    ]);
    // For each model and iteration a result, and once the progress twice: weights and moments.
    let prompts = product(&[FLOAT, prompt_values, 2 * iterations + 4 * u64::from(iterations > 0)]);
    let passes = FIXED_PASSES + PASSES_OF_AN_ITERATION * iterations;
    // Embeddings are saved for two views. One pass is written before the old file is replaced.
    let of_image = sum(&[PER_IMAGE, product(&[FLOAT, sum(&[product(&[passes + 1, classes]), 3 * embedding])])]);
    let probe = product(&[PROBE_IMAGES, FLOAT, sum(&[product(&[3, image_side, image_side]), 2 * classes, width])]);
    sum(&[trained, prompts, product(&[images, of_image]), probe, SLACK])
}

/// An overflow becomes the largest number, which no disk has.
fn product(factors: &[u64]) -> u64 {
    factors.iter().fold(1, |product: u64, &factor| product.saturating_mul(factor))
}

fn sum(terms: &[u64]) -> u64 {
    terms.iter().fold(0, |sum: u64, &term| sum.saturating_add(term))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// OpenAI's ViT-B/32 over 2000 images of 10 classes.
    const VIT_B_32: RoundSizes = RoundSizes {
        encoder_values: 87_456_000,
        width: 768,
        embedding: 512,
        blocks: 12,
        text_width: 512,
        image_side: 224,
        images: 2000,
        classes: 10,
    };

    #[test]
    fn a_round_of_vit_b_32_takes_five_encoders_and_seven_in_coft_plus() {
        let megabytes = |method| round_bytes(method, &Settings::default(), &VIT_B_32) / 1_000_000;
        let (zero_shot, coft, plus) =
            (megabytes(Method::ZeroShot), megabytes(Method::Coft), megabytes(Method::CoftPlus));
        assert!((350..420).contains(&zero_shot), "{zero_shot} MB");
        assert!((1750..1850).contains(&coft), "{coft} MB");
        assert!((2450..2600).contains(&plus), "{plus} MB");
    }

    #[test]
    fn sizes_beyond_all_disks_do_not_wrap() {
        let sizes = RoundSizes { encoder_values: u64::MAX / 2, images: u64::MAX / 2, ..VIT_B_32 };
        assert_eq!(round_bytes(Method::CoftPlus, &Settings::default(), &sizes), u64::MAX);
    }
}
