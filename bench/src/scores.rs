//! Figures that compare a model's scores with the truth: calibration error, and how well a score separates two kinds of
//! images.

/// Bins of [`calibration_error`]. 15, as in Guo et al. 2017, arXiv 1706.04599.
const BINS: usize = 15;

/// Expected calibration error, 0 to 1: the mean distance between confidence and accuracy in bins of equal width.
/// `answers` holds for each image its largest probability, and whether its class was right.
pub fn calibration_error(answers: &[(f32, bool)]) -> f64 {
    let mut gaps = [0f64; BINS];
    for &(confidence, right) in answers {
        let bin = ((f64::from(confidence) * BINS as f64) as usize).min(BINS - 1);
        gaps[bin] += f64::from(confidence) - f64::from(u8::from(right));
    }
    gaps.iter().map(|gap| gap.abs()).sum::<f64>() / answers.len() as f64
}

/// Area under the ROC curve, 0 to 1: the probability that one of `inside` scores above one of `outside`; a tie counts
/// as a half.
pub fn auroc(inside: &[f32], outside: &[f32]) -> f64 {
    let mut outside = outside.to_vec();
    outside.sort_by(f32::total_cmp);
    let wins = inside.iter().map(|score| {
        let (below, up_to) = (outside.partition_point(|o| o < score), outside.partition_point(|o| o <= score));
        (below + up_to) as f64 / 2.0
    });
    wins.sum::<f64>() / (inside.len() * outside.len()) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calibration_is_by_bin() {
        assert_eq!(calibration_error(&[(1.0, true), (1.0, true)]), 0.0);
        assert_eq!(calibration_error(&[(1.0, true), (1.0, false)]), 0.5);
        // Too high a confidence in one bin and too low a confidence in another do not cancel out.
        assert!((calibration_error(&[(0.8, false), (0.2, true)]) - 0.8).abs() < 1e-6);
        // Within one bin they do.
        assert!((calibration_error(&[(0.51, true), (0.51, false)]) - 0.01).abs() < 1e-6);
    }

    #[test]
    fn auroc_counts_pairs() {
        assert_eq!(auroc(&[3.0, 4.0], &[1.0, 2.0]), 1.0);
        assert_eq!(auroc(&[1.0, 2.0], &[3.0]), 0.0);
        assert_eq!(auroc(&[1.0, 3.0], &[2.0]), 0.5);
        assert_eq!(auroc(&[1.0], &[1.0]), 0.5);
    }
}
