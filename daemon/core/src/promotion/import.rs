//! Decides whether an imported generation replaces the active one, by comparing the answers of both.

use super::{Reason, TV_DISTANCE_BOUND, Verdict, apart, balance, evenness, trusted_evenness};
use crate::decision::likeliest;
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
///
/// Without `shares`, more even answers are no proof: as in a round, a world that consists nearly only of one class
/// looks like a camera that makes it too frequent. So if the active generation's answers are uneven, an import that
/// changes the class shares is not taken either.
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
    let images = active.len() / count;
    let without = |rows: &[f32], image: usize| [&rows[..image * count], &rows[(image + 1) * count..]].concat();
    let difference = |image| even(&without(candidate, image)) - even(&without(active, image));
    let chance = (IMPORT_ERRORS * standard_error(images, difference)).max(IMPORT_TOLERANCE);
    if found < serving - chance {
        return Verdict::Keep(Reason::LessEven { found, active: serving, images, chance });
    }
    let classes = |answers: &[f32]| answers.chunks_exact(count).filter_map(likeliest).collect::<Vec<_>>();
    let [new, old] = [candidate, active].map(classes);
    let differs = new.iter().zip(&old).filter(|(new, old)| new != old).count() as f64 / images as f64;
    match shares.is_none() && is_uneven(&old, count) && moved(&new, &old, count) {
        true => Verdict::Keep(Reason::UndecidedImport { differs, images }),
        false => Verdict::Promote,
    }
}

/// Standard error of a measure of N images, from its value `without` each image in turn. This is the jackknife (Efron
/// and Stein 1981, "The jackknife estimate of variance", eq. 1.1). It needs no random draws, so equal answers are
/// always judged equally.
fn standard_error(images: usize, without: impl Fn(usize) -> f64) -> f64 {
    let values: Vec<f64> = (0..images).map(without).collect();
    let mean = values.iter().sum::<f64>() / images as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares * (images - 1) as f64 / images as f64).sqrt()
}

/// How many of the images have each class. [C]
fn frequencies(classes: &[usize], count: usize) -> Vec<u64> {
    let mut frequencies = vec![0; count];
    classes.iter().for_each(|&class| frequencies[class] += 1);
    frequencies
}

/// Whether the classes are so unevenly frequent that a round would not trust its rule. Chance makes few images uneven,
/// and is not taken off: what is refused here can be activated, what is taken wrongly does harm.
fn is_uneven(classes: &[usize], count: usize) -> bool {
    evenness(frequencies(classes, count).into_iter()) < trusted_evenness(count)
}

/// Whether the class shares differ by more than [`TV_DISTANCE_BOUND`], and by more than one image.
fn moved(new: &[usize], old: &[usize], count: usize) -> bool {
    let [new, all] = [new, old].map(|classes| frequencies(classes, count));
    let moved: u64 = new.iter().zip(&all).map(|(new, old)| new.abs_diff(*old)).sum::<u64>() / 2;
    moved > 1 && moved as f64 > TV_DISTANCE_BOUND * old.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn an_import_is_held_against_what_serves() {
        let classes = ["a".to_owned(), "b".to_owned()];
        let even = [0.9, 0.1, 0.1, 0.9].repeat(IMPORT_IMAGES / 2);
        let sunk = [0.9, 0.1, 0.8, 0.2].repeat(IMPORT_IMAGES / 2);
        let single = Precision::Fp32;
        let evenly = Shares::new(&[("a".to_owned(), 0.5)].into(), &classes).unwrap();
        assert_eq!(judge_import(single, 0.0, &classes, &even, &sunk, Some(&evenly)), Verdict::Promote);
        assert!(
            matches!(
                judge_import(single, 0.0, &classes, &even, &sunk, None),
                Verdict::Keep(Reason::UndecidedImport { images: 16, .. })
            ),
            "without shares, one class may be all that the camera sees"
        );
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

    /// Ten classes; nearly every image is of the first one, or the camera makes it look so.
    #[test]
    fn an_import_that_finds_other_shares_where_the_answers_are_uneven_is_not_taken_without_shares() {
        let classes: Vec<String> = (0..10).map(|class| format!("class {class}")).collect();
        let one = |image: usize| if image % 16 == 3 { image / 16 % 10 } else { 0 };
        let spread = |image: usize| if image % 4 == 3 { image / 4 % 10 } else { 0 };
        let even = |image: usize| image % 10;
        type Of<'a> = &'a dyn Fn(usize) -> usize;
        let judged = |images: usize, candidate: Of, active: Of, shares: Option<&Shares>| {
            let (found, serving) = (answers(images, 10, 0.9, candidate), answers(images, 10, 0.9, active));
            judge_import(Precision::Fp32, 0.0, &classes, &found, &serving, shares)
        };
        for images in [32, 64, 256] {
            let verdict = judged(images, &spread, &one, None);
            assert!(matches!(verdict, Verdict::Keep(Reason::UndecidedImport { .. })), "{images}: {verdict:?}");
            assert_eq!(judged(images, &one, &one, None), Verdict::Promote, "it finds the same shares");
            assert_eq!(judged(images, &even, &even, None), Verdict::Promote, "the answers are even");
        }
        let Verdict::Keep(reason) = judged(256, &spread, &one, None) else { panic!("it cannot be told") };
        assert_eq!(
            reason.to_string(),
            "whether it is better cannot be told: on 256 of this service's own images, what serves finds some classes \
             more often than others, the import spreads its answers differently, and either may be right; it answers \
             23 % of them differently; it can be told, by another import, where shares in [classifier] says how often \
             each class comes"
        );
        assert!(reason.can_be_overruled());
        let told = [("class 0".to_owned(), 0.7)].into();
        let told = Shares::new(&told, &classes).unwrap();
        assert_eq!(judged(256, &spread, &one, Some(&told)), Verdict::Promote, "the shares tell");
        // One image more of another class is no other share, however few images there are.
        let other = |image: usize| if image == 5 { 4 } else { one(image) };
        assert_eq!(judged(32, &other, &one, None), Verdict::Promote);
    }

    #[test]
    fn images_of_even_classes_are_seldom_taken_for_uneven_ones() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut uneven = |images: usize, count: usize, of: &dyn Fn(&mut ChaCha8Rng) -> usize| {
            let mut seen = || is_uneven(&(0..images).map(|_| of(&mut random)).collect::<Vec<_>>(), count);
            (0..400).filter(|_| seen()).count() as f64 / 400.0
        };
        for (images, count) in [(256, 2), (32, 10), (64, 10), (256, 10), (256, 43)] {
            let share = uneven(images, count, &|random| random.random_range(0..count));
            assert!(share <= 0.05, "{images} images of {count} even classes: {share}");
        }
        for images in [16, 64, 256] {
            let share = uneven(images, 2, &|random| usize::from(random.random_bool(0.03)));
            assert!(share >= 0.95, "{images} images, 97:3: {share}");
        }
        // Shares of 27, 22, ... 1 %.
        let share = uneven(256, 10, &|random| (0..3).map(|_| random.random_range(0..10)).min().expect("of three"));
        assert!(share >= 0.9, "{share}");
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
