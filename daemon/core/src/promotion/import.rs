//! Decides whether an imported generation replaces the active one, by comparing the answers of both.

use super::{Reason, Verdict, apart, balance};
use crate::shares::Shares;
use crate::spec::Precision;

/// Fewest images of this service by which an imported generation is judged. 16 [choice], the fewest for a round.
pub const IMPORT_IMAGES: usize = 16;
/// Number of standard errors by which an import's answers must be less even than those of the active generation to be
/// refused. 2 [choice]: of models that are equally good, at most one in twenty is refused by chance [measurement: 0 to
/// 5 % of 300 simulated pairs each, of 2 to 100 classes, even and 97:3, on 16 to 256 images].
pub const IMPORT_ERRORS: f64 = 2.0;
/// Difference in [`balance`] that never counts, however significant it is, because another precision or processor
/// causes as much; 0 to 1. 0.005 [choice], a shift from 50:50 to 54:46.
pub const IMPORT_TOLERANCE: f64 = 0.005;

/// Judges an imported generation by comparing its answers on images of this service with those of the active
/// generation: N × C probabilities each, row-major, compared with the expected `shares`. The import is refused if its
/// answers are less even by more than [`IMPORT_ERRORS`] standard errors of the difference, and by more than
/// [`IMPORT_TOLERANCE`]. With fewer than [`IMPORT_IMAGES`] images there is too little to compare, and parity on the
/// probe alone decides.
pub fn judge_import(
    precision: Precision,
    parity_max_abs_diff: f64,
    classes: &[String],
    candidate: &[f32],
    active: &[f32],
    shares: Option<&Shares>,
) -> Verdict {
    if let Some(apart) = apart(precision, parity_max_abs_diff) {
        return Verdict::Keep(apart);
    }
    let count = classes.len();
    if active.len() < IMPORT_IMAGES * count {
        return Verdict::Promote;
    }
    let even = |probabilities: &[f32]| balance(probabilities, count, shares);
    let (found, serving) = (even(candidate), even(active));
    let chance = (IMPORT_ERRORS * error_of_difference(candidate, active, count, even)).max(IMPORT_TOLERANCE);
    match found >= serving - chance {
        true => Verdict::Promote,
        false => Verdict::Keep(Reason::LessEven { found, active: serving, images: active.len() / count, chance }),
    }
}

/// Standard error of the difference in a `measure` between two models that have answered the same images, N × C
/// probabilities each. This is the jackknife, which leaves out each image in turn (Efron and Stein 1981, "The jackknife
/// estimate of variance", eq. 1.1). It needs no random draws, so equal answers are always judged equally.
fn error_of_difference(one: &[f32], other: &[f32], count: usize, measure: impl Fn(&[f32]) -> f64) -> f64 {
    let without = |rows: &[f32], image: usize| [&rows[..image * count], &rows[(image + 1) * count..]].concat();
    let images = other.len() / count;
    let differences: Vec<f64> =
        (0..images).map(|image| measure(&without(one, image)) - measure(&without(other, image))).collect();
    let mean = differences.iter().sum::<f64>() / images as f64;
    let squares: f64 = differences.iter().map(|difference| (difference - mean).powi(2)).sum();
    (squares * (images - 1) as f64 / images as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_import_is_held_against_what_serves() {
        let classes = ["a".to_owned(), "b".to_owned()];
        let even = [0.9, 0.1, 0.1, 0.9].repeat(IMPORT_IMAGES / 2);
        let sunk = [0.9, 0.1, 0.8, 0.2].repeat(IMPORT_IMAGES / 2);
        let single = Precision::Fp32;
        assert_eq!(judge_import(single, 0.0, &classes, &even, &sunk, None), Verdict::Promote);
        assert_eq!(judge_import(single, 0.0, &classes, &even, &even, None), Verdict::Promote);
        assert_eq!(
            judge_import(single, 0.0, &classes, &sunk[2..], &even[2..], None),
            Verdict::Promote,
            "too few images to tell"
        );
        assert!(matches!(
            judge_import(single, 0.0, &classes, &sunk, &even, None),
            Verdict::Keep(Reason::LessEven { .. })
        ));
        assert!(matches!(
            judge_import(single, f64::NAN, &classes, &even, &sunk, None),
            Verdict::Keep(Reason::Parity { .. })
        ));
        let Verdict::Keep(reason) = judge_import(single, 0.0, &classes, &sunk, &even, None) else {
            panic!("it is sunk")
        };
        assert_eq!(
            reason.to_string(),
            "on 16 of this service's own images it spreads its answers over the classes less evenly, or less like \
             the shares that are set, than what serves (0.610 against 1.000); chance explains a difference of 0.065"
        );
    }

    /// N answers with C classes: probability `sure` for the class that `of` returns, the rest divided evenly.
    fn answers(images: usize, count: usize, sure: f32, of: impl Fn(usize) -> usize) -> Vec<f32> {
        let rest = (1.0 - sure) / (count - 1) as f32;
        (0..images)
            .flat_map(|image| (0..count).map(move |class| (image, class)))
            .map(|(image, class)| if of(image) == class { sure } else { rest })
            .collect()
    }

    /// A trained model was refused with a balance of 0.980, against 0.983, on 50 images.
    #[test]
    fn an_import_is_not_refused_for_what_chance_explains() {
        let classes: Vec<String> = (0..10).map(|class| format!("class {class}")).collect();
        let judged = |images: usize, candidate: &dyn Fn(usize) -> usize, active: &dyn Fn(usize) -> usize| {
            let (found, serving) = (answers(images, 10, 0.9, candidate), answers(images, 10, 0.9, active));
            let difference = balance(&found, 10, None) - balance(&serving, 10, None);
            (difference, judge_import(Precision::Fp32, 0.0, &classes, &found, &serving, None) == Verdict::Promote)
        };
        // 0.976 against 0.985: both models misclassify some images, the candidate a few more.
        let active = |image: usize| if image % 8 == 1 { (image + 3) % 10 } else { image % 10 };
        let other = |image: usize| if image % 6 == 1 { (image + 3) % 10 } else { image % 10 };
        let (difference, promoted) = judged(50, &other, &active);
        assert!((-0.01..-IMPORT_TOLERANCE).contains(&difference) && promoted, "{difference} {promoted}");
        // One class gets every other image; chance cannot explain that.
        let sunk = |image: usize| if image.is_multiple_of(2) { 3 } else { image % 10 };
        let (difference, promoted) = judged(50, &sunk, &active);
        assert!(difference < -0.05 && !promoted, "{difference} {promoted}");
        // Nor can chance explain a small difference on many images, unless it is too small to matter.
        let lost = |often: usize| move |image: usize| if image.is_multiple_of(often) { 1 } else { image % 10 };
        let even = |image: usize| image % 10;
        let (difference, promoted) = judged(2000, &lost(20), &even);
        assert!((-0.01..-IMPORT_TOLERANCE).contains(&difference) && !promoted, "{difference} {promoted}");
        let (difference, promoted) = judged(2000, &lost(40), &even);
        assert!((-IMPORT_TOLERANCE..-0.002).contains(&difference) && promoted, "{difference} {promoted}");
    }

    proptest! {
        /// An import whose answers equal those of the active generation, except for the last bits, is never refused.
        #[test]
        fn the_same_model_is_never_refused(
            logits in proptest::collection::vec(-6.0..6.0f32, 3 * 16..3 * 60), noise in 0.0..1e-4f32,
        ) {
            let classes = ["a", "b", "c"].map(str::to_owned);
            let rows = logits.as_chunks::<3>().0.iter().flat_map(|row| {
                let sum: f32 = row.iter().map(|logit| logit.exp()).sum();
                row.map(|logit| logit.exp() / sum)
            });
            let active: Vec<f32> = rows.collect();
            prop_assert_eq!(judge_import(Precision::Fp32, 0.0, &classes, &active, &active, None), Verdict::Promote);
            // The difference is the same for every image, so the spread between images does not show it.
            let rows = active.as_chunks::<3>().0.iter();
            let shifted: Vec<f32> = rows.flat_map(|row| [row[0] + noise, row[1] * (1.0 - noise), row[2]]).collect();
            prop_assert_eq!(judge_import(Precision::Fp32, 0.0, &classes, &shifted, &active, None), Verdict::Promote);
        }
    }
}
