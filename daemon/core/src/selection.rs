//! Selects the images that the models are trained on, as pure functions of scores.
//!
//! N images, C classes.

/// Phase I seeds: for each class, the `k` [C] images with the highest confidence among those predicted as that class
/// (method, Phase I step 2). A class with fewer candidates contributes fewer.
///
/// `labels` [N] are class positions below C; `confidence` [N] is any score that orders the images. Returns the
/// positions of the chosen images for each class, best first; ties go to the earlier image. `given` [N] are the user's
/// own labels: such an image is a seed of its class in addition to the `k`, whatever the model predicts, and a seed of
/// no other class.
pub fn seeds(labels: &[usize], confidence: &[f32], given: &[Option<usize>], k: &[usize]) -> Vec<Vec<usize>> {
    assert_eq!(labels.len(), confidence.len(), "one confidence a label");
    assert_eq!(labels.len(), given.len(), "one label of the user's, or none, an image");
    let mut chosen = vec![Vec::new(); k.len()];
    for (image, &label) in labels.iter().enumerate().filter(|(image, _)| given[*image].is_none()) {
        chosen[label].push(image);
    }
    for (images, &k) in chosen.iter_mut().zip(k) {
        surest_first(images, confidence);
        images.truncate(k);
    }
    for (image, label) in given.iter().enumerate() {
        if let Some(label) = *label {
            chosen[label].push(image);
        }
    }
    chosen
}

/// Least margin s⁺ − s⁻ that confirms a label; similarities are from −1 to 1. 1e-5 [choice]: in single precision, two
/// equal features give margins of up to about 1e-6, whose sign depends on the processor. At 1/τ = 100 this is a p_clean
/// of 0.5003.
pub const LEAST_MARGIN: f32 = 1e-5;

/// The collaborative filter: the pairs (x, y1) that the validating model keeps, s⁺_{y1}(x) > s⁻_{y1}(x) (method, Phase
/// II step 1). This equals p_clean > ½, so it does not depend on the temperature. Margins below [`LEAST_MARGIN`] are
/// ties.
///
/// `labels` [N] are from the labelling model, `positive` and `negative` [N × C, row-major] are the similarities of the
/// validating model. Returns one flag per image.
pub fn clean(labels: &[usize], positive: &[f32], negative: &[f32], classes: usize) -> Vec<bool> {
    assert_eq!(positive.len(), labels.len() * classes, "one similarity an image and class");
    assert_eq!(negative.len(), positive.len(), "positive and negative similarities of the same pairs");
    labels
        .iter()
        .enumerate()
        .map(|(image, &label)| confirms(positive[image * classes + label] - negative[image * classes + label]))
        .collect()
}

/// Whether a margin s⁺ − s⁻ confirms its label.
pub fn confirms(margin: f32) -> bool {
    margin > LEAST_MARGIN
}

/// Selects the `share` with the highest `confidence` of each class's `confirmed` pairs, rounded up; ties go to the
/// earlier image.
///
/// `labels` [N] are class positions below `classes`; `share` is above 0 and at most 1, which keeps all. Returns one
/// flag per image.
pub fn surest(confirmed: &[bool], labels: &[usize], confidence: &[f32], classes: usize, share: f64) -> Vec<bool> {
    assert_eq!(confirmed.len(), labels.len(), "one flag a label");
    assert_eq!(labels.len(), confidence.len(), "one confidence a label");
    let mut of_class = vec![Vec::new(); classes];
    (0..labels.len()).filter(|&image| confirmed[image]).for_each(|image| of_class[labels[image]].push(image));
    let mut surest = vec![false; labels.len()];
    for mut images in of_class {
        surest_first(&mut images, confidence);
        images.truncate((share * images.len() as f64).ceil() as usize);
        images.into_iter().for_each(|image| surest[image] = true);
    }
    surest
}

fn surest_first(images: &mut [usize], confidence: &[f32]) {
    images.sort_by(|&a, &b| confidence[b].total_cmp(&confidence[a]).then(a.cmp(&b)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_most_confident_of_each_class_are_kept() {
        let (labels, confidence) = ([0, 1, 0, 0, 3], [0.2, 0.9, 0.8, 0.8, 0.1]);
        let chosen = seeds(&labels, &confidence, &[None; 5], &[2; 4]);
        assert_eq!(chosen, [vec![2, 3], vec![1], vec![], vec![4]]);
        let chosen = seeds(&labels, &confidence, &[Some(2), None, Some(0), None, None], &[1; 4]);
        assert_eq!(chosen, [vec![3, 2], vec![1], vec![0], vec![4]], "the user's own come on top");
        let chosen = seeds(&labels, &confidence, &[None; 5], &[1, 1, 1, 0]);
        assert_eq!(chosen, [vec![2], vec![1], vec![], vec![]], "as many of each class as are asked for");
    }

    #[test]
    fn the_validator_looks_at_the_given_label_alone() {
        let positive = [0.3, 0.1, 0.3, 0.1];
        let negative = [0.2, 0.9, 0.2, 0.0];
        assert_eq!(clean(&[0, 1], &positive, &negative, 2), [true, true]);
        assert_eq!(clean(&[1, 0], &positive, &negative, 2), [false, true]);
        assert_eq!(clean(&[0], &[0.5, 0.0], &[0.5, 0.0], 2), [false], "a tie is not clean");
        let last_bit = 0.5f32.next_up();
        assert_eq!(clean(&[0], &[last_bit, 0.0], &[0.5, 0.0], 2), [false], "nor are the last bits of a processor");
    }

    #[test]
    fn the_surest_of_each_class_teach() {
        let (labels, confidence) = ([0, 0, 1, 0, 0, 1], [0.9, 0.3, 0.1, 0.5, 0.5, 0.8]);
        let confirmed = [true, true, true, true, true, false];
        let half = surest(&confirmed, &labels, &confidence, 3, 0.5);
        assert_eq!(half, [true, false, true, true, false, false], "half of four, and one of one");
        assert_eq!(surest(&confirmed, &labels, &confidence, 3, 1.0), confirmed);
    }

    proptest! {
        /// Permuting the images permutes the selection in the same way (if confidences are distinct).
        #[test]
        fn selection_commutes_with_permutation(
            order in (1usize..60).prop_flat_map(|n| Just((0..n).collect::<Vec<_>>()).prop_shuffle()),
            labels in proptest::collection::vec(0usize..5, 60), margins in proptest::collection::vec(-1.0f32..1.0, 300),
            k in 1usize..8, share in 0.1..1.0f64,
        ) {
            let selected = |order: &[usize]| {
                let labels: Vec<usize> = order.iter().map(|&i| labels[i]).collect();
                let confidence: Vec<f32> = order.iter().map(|&i| ((i * 37 + 11) % 101) as f32).collect();
                let margins: Vec<f32> = order.iter().flat_map(|&i| margins[5 * i..5 * (i + 1)].iter().copied()).collect();
                let seeds = seeds(&labels, &confidence, &vec![None; order.len()], &[k; 5]);
                let clean = clean(&labels, &margins, &vec![0.0; margins.len()], 5);
                let surest = surest(&clean, &labels, &confidence, 5, share);
                let named = |flags: Vec<bool>| order.iter().zip(flags).filter(|(_, flag)| *flag).map(|(&i, _)| i).collect();
                let seeds: Vec<Vec<usize>> = seeds.iter().map(|of| of.iter().map(|&place| order[place]).collect()).collect();
                let flags: [BTreeSet<usize>; 2] = [named(clean), named(surest)];
                (seeds, flags)
            };
            let plain: Vec<usize> = (0..order.len()).collect();
            prop_assert_eq!(selected(&order), selected(&plain));
        }

        /// The filter's flags do not change with the temperature.
        #[test]
        fn the_filter_is_independent_of_the_temperature(
            scores in proptest::collection::vec((-1.0f32..1.0, -1.0f32..1.0), 4..40), tau in 0.01f32..2.0,
        ) {
            let classes = 2;
            let n = scores.len() / classes;
            let (positive, negative): (Vec<f32>, Vec<f32>) = scores[..n * classes].iter().copied().unzip();
            let labels: Vec<usize> = (0..n).map(|i| i % classes).collect();
            let by_probability: Vec<bool> = (0..n).map(|i| {
                let at = i * classes + labels[i];
                let gap = f64::from(positive[at]) - f64::from(negative[at]);
                gap.abs() > f64::from(LEAST_MARGIN) && 1.0 / (1.0 + (-gap / f64::from(tau)).exp()) > 0.5
            }).collect();
            prop_assert_eq!(clean(&labels, &positive, &negative, classes), by_probability);
        }
    }
}
