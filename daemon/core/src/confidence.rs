//! Calibrates the confidence of a generation by a temperature that is found without labels.
//!
//! N images of the pool, C classes; probabilities are N × C row-major.

/// The range in which [`temperature`] searches; a choice.
const RANGE: (f64, f64) = (0.25, 4.0);
/// Number of times that [`RANGE`] is halved, down to a millionth.
const STEPS: usize = 22;

/// Mean over all images of the largest probability, after dividing the logits by `temperature`; 0 to 1.
pub fn mean(probabilities: &[f32], classes: usize, temperature: f64) -> f64 {
    let rows = probabilities.chunks_exact(classes);
    let count = rows.len().max(1);
    let sum: f64 = rows
        .map(|row| {
            let most = f64::from(row.iter().copied().fold(0.0, f32::max));
            let others: f64 = row.iter().map(|&p| (f64::from(p) / most).powf(1.0 / temperature)).sum();
            1.0 / others
        })
        .sum();
    sum / count as f64
}

/// The temperature at which the mean confidence is `confidence`. See docs/decisions/0013.
///
/// Adaptation on a model's own answers increases its confidence more than its accuracy. Zero-shot's confidence, which
/// the pretrained temperature gives, is the target.
pub fn temperature(probabilities: &[f32], classes: usize, confidence: f64) -> f64 {
    let (mut low, mut high) = RANGE;
    for _ in 0..STEPS {
        let middle = (low + high) / 2.0;
        // A higher temperature gives a lower confidence.
        if mean(probabilities, classes, middle) > confidence { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POOL: [f32; 6] = [0.9, 0.1, 0.8, 0.2, 0.6, 0.4];

    #[test]
    fn a_higher_temperature_is_less_sure() {
        assert!((mean(&POOL, 2, 1.0) - 0.766_667).abs() < 1e-6, "as it stands");
        assert!((mean(&[0.8, 0.2], 2, 2.0) - 2.0 / 3.0).abs() < 1e-6, "4 : 1 becomes 2 : 1");
        assert!((mean(&[1.0, 0.0], 2, 4.0) - 1.0).abs() < 1e-6, "what has no probability gets none");
    }

    #[test]
    fn what_cannot_be_met_ends_in_range() {
        assert!((temperature(&POOL, 2, 0.1) - RANGE.1).abs() < 1e-5);
        assert!((temperature(&POOL, 2, 1.0) - RANGE.0).abs() < 1e-5);
    }

    proptest! {
        /// Multiplying the logits by a factor is undone by the temperature that is found.
        #[test]
        fn the_temperature_undoes_its_inverse(
            logits in prop::collection::vec(-3f64..3.0, 30),
            factor in 0.5f64..3.0,
        ) {
            let softmax = |scale: f64| -> Vec<f32> {
                let of_row = |row: &[f64]| {
                    let powers: Vec<f64> = row.iter().map(|logit| (logit * scale).exp()).collect();
                    let sum: f64 = powers.iter().sum();
                    powers.into_iter().map(move |power| (power / sum) as f32).collect::<Vec<_>>()
                };
                logits.chunks_exact(3).flat_map(of_row).collect()
            };
            let found = temperature(&softmax(factor), 3, mean(&softmax(1.0), 3, 1.0));
            prop_assert!((found - factor).abs() < 1e-2, "{found} for {factor}");
        }
    }
}
