//! The label-free metrics of a round's candidates, and the rule that chooses by them, as functions of predictions.
//!
//! N images without near-duplicates, C classes.

use super::Predictions;
use coft_core::candidate::CandidateName;
use coft_core::promotion::balance_terms;
use coft_core::report::CandidateMetrics;
use coft_core::shares::Shares;
use std::collections::BTreeMap;

/// The class of each row of `probabilities`.
pub fn classes(probabilities: &[f32], classes: usize) -> Vec<usize> {
    probabilities.chunks_exact(classes).map(|row| best(row).0).collect()
}

/// Index of the largest value, and its distance to the second largest.
fn best(row: &[f32]) -> (usize, f32) {
    let (mut first, mut second) = (0, f32::NEG_INFINITY);
    for (class, &value) in row.iter().enumerate().skip(1) {
        if value > row[first] {
            (first, second) = (class, row[first]);
        } else {
            second = second.max(value);
        }
    }
    (first, row[first] - second)
}

/// The label-free metrics of each candidate; the first is zero-shot. `neighbours` are those of each image of the pool,
/// in each view. Where the `shares` of the classes are known, the predictions are corrected by them.
pub fn label_free_metrics(
    predictions: &[Predictions],
    neighbours: &[Vec<Vec<usize>>],
    count: usize,
    shares: Option<&Shares>,
) -> Vec<CandidateMetrics> {
    let expecting = |plain: &[f32]| shares.map_or_else(|| plain.to_vec(), |shares| shares.applied(plain));
    let zero_shot = classes(&expecting(&predictions[0].plain), count);
    let mut zero_shots_terms = None;
    let mut of = |candidate: &Predictions| {
        let plain = expecting(&candidate.plain);
        let found = classes(&plain, count);
        let views: Vec<Vec<f64>> = neighbours.iter().map(|by| coherence_terms(&found, by, count)).collect();
        let coherences = |image: usize| views.iter().map(|view| view[image]).sum::<f64>() / views.len() as f64;
        let coherences: Vec<f64> = (0..found.len()).map(coherences).collect();
        let balances = balance_terms(&plain, count, shares);
        let terms: Vec<f64> = balances.iter().zip(&coherences).map(|(a, b)| a + b).collect();
        let z_score = z_score(&terms, zero_shots_terms.get_or_insert_with(|| terms.clone()));
        let margins: f64 = plain.chunks_exact(count).map(|row| f64::from(best(row).1)).sum();
        CandidateMetrics {
            name: candidate.name.clone(),
            stability: share(&found, &classes(&expecting(&candidate.shifted), count)),
            margin: margins / found.len().max(1) as f64,
            agreement_with_zero_shot: share(&found, &zero_shot),
            tv_distance: tv_distance(&found, &zero_shot, count),
            balance: mean(&balances),
            coherence: mean(&coherences).max(0.0), // a rounding error may be negative
            z_score,
        }
    };
    predictions.iter().map(&mut of).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The mean of `a` − `b`, divided by its standard error; 0 where all differences are the same, or where there is one
/// image.
fn z_score(a: &[f64], b: &[f64]) -> f64 {
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let (count, mean) = (differences.len() as f64, mean(&differences));
    let variance = differences.iter().map(|difference| (difference - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let error = (variance / count).sqrt();
    if error > 0.0 { mean / error } else { 0.0 } // NaN where there is one image
}

/// From how many standard errors on a candidate's lead over zero-shot is not taken for chance. 2 [choice], which is a
/// margin, not the level of a test: see docs/decisions/0026.
const BEYOND_CHANCE: f64 = 2.0;

/// The candidate to deploy: the one with the largest sum of `balance` and `coherence`, of those whose lead over
/// zero-shot is [`BEYOND_CHANCE`]. The earlier one wins a tie, and zero-shot stays where nothing is better. See
/// docs/decisions/0005 and 0026.
///
/// Right answers are spread over the classes, and are the same for images that look alike. Adaptation that goes wrong
/// breaks one or the other: for an unfamiliar camera, a model gives most answers to a few classes; and a model that
/// learnt wrong labels separates images that belong together. Which images look alike is decided in equal parts by the
/// pretrained model, whose embedding decides zero-shot's answers, and by the adapted model, whose embedding decides its
/// own.
pub fn choose(metrics: &[CandidateMetrics]) -> &CandidateName {
    let sum = |metrics: &CandidateMetrics| metrics.balance + metrics.coherence;
    let (zero_shot, others) = metrics.split_first().expect("zero-shot is always a candidate");
    let ahead = others.iter().filter(|candidate| candidate.z_score >= BEYOND_CHANCE);
    &ahead.fold(zero_shot, |best, next| if sum(next) > sum(best) { next } else { best }).name
}

/// What each image adds to the coherence, which is the mean of these terms: the mutual information between the class of
/// an image and the class of one of its neighbours, divided by the logarithm of the number of classes. 0 for images
/// without neighbours. [N]
///
/// All images have equally many neighbours.
fn coherence_terms(found: &[usize], neighbours: &[Vec<usize>], count: usize) -> Vec<f64> {
    let mut pairs = BTreeMap::new();
    let (mut own, mut other) = (vec![0u64; count], vec![0u64; count]);
    for (&class, neighbours) in found.iter().zip(neighbours) {
        for &neighbour in neighbours {
            *pairs.entry((class, found[neighbour])).or_insert(0u64) += 1;
            own[class] += 1;
            other[found[neighbour]] += 1;
        }
    }
    let all = own.iter().sum::<u64>() as f64;
    let information = |a: usize, b: usize| (pairs[&(a, b)] as f64 * all / (own[a] as f64 * other[b] as f64)).ln();
    let term = |(&class, neighbours): (&usize, &Vec<usize>)| {
        let sum: f64 = neighbours.iter().map(|&neighbour| information(class, found[neighbour])).sum();
        sum / neighbours.len().max(1) as f64 / (count as f64).ln()
    };
    found.iter().zip(neighbours).map(term).collect()
}

/// Share of positions at which both are equal.
pub fn share(a: &[usize], b: &[usize]) -> f64 {
    a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / a.len().max(1) as f64
}

/// Total variation distance between the class shares of both.
fn tv_distance(a: &[usize], b: &[usize], count: usize) -> f64 {
    let mut difference = vec![0i64; count];
    a.iter().for_each(|&class| difference[class] += 1);
    b.iter().for_each(|&class| difference[class] -= 1);
    difference.iter().map(|d| d.unsigned_abs()).sum::<u64>() as f64 / (2 * a.len().max(1)) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn the_margin_is_over_the_second_best() {
        assert_eq!(best(&[0.1, 0.6, 0.3]), (1, 0.3));
        assert_eq!(best(&[0.5, 0.5]), (0, 0.0));
        assert_eq!(best(&[0.2, 0.3, 0.5]).0, 2);
    }

    fn predictions(name: CandidateName, plain: &[f32]) -> Predictions {
        Predictions { name, plain: plain.to_vec(), shifted: plain.to_vec(), embeddings: None }
    }

    #[test]
    fn the_most_even_and_coherent_candidate_is_deployed_and_zero_shot_on_a_tie() {
        let [a, b] = [[0.9, 0.1], [0.2, 0.8]];
        // In one view, two pairs of images look alike. In the other, each image looks like its partner and like one of
        // the other pair. There are so many such fours.
        let metrics = |fours: usize| {
            let of = |name, four: [[f32; 2]; 4]| predictions(name, &four.concat().repeat(fours));
            let seen = |four: [&[usize]; 4]| -> Vec<Vec<usize>> {
                let at = |i: usize| four[i % 4].iter().map(|other| i / 4 * 4 + other).collect();
                (0..4 * fours).map(at).collect()
            };
            let candidates = [
                of(CandidateName::ZeroShot, [a, b, b, b]),
                of(CandidateName::Model1, [a, a, b, b]),
                of(CandidateName::Model2, [a, a, a, a]),
            ];
            let views = [seen([&[1], &[0], &[3], &[2]]), seen([&[1, 2], &[0, 3], &[3, 0], &[2, 1]])];
            label_free_metrics(&candidates, &views, 2, None)
        };
        assert_eq!(*choose(&metrics(1)), CandidateName::ZeroShot, "with four images it may be chance");
        let metrics = metrics(10);
        assert_eq!(*choose(&metrics), CandidateName::Model1);
        assert_eq!(*choose(&[metrics[0].clone(), metrics[2].clone()]), CandidateName::ZeroShot);
        let same = CandidateMetrics { name: CandidateName::Average, ..metrics[0].clone() };
        assert_eq!(*choose(&[metrics[0].clone(), same]), CandidateName::ZeroShot);
        // In each pair, one of the metrics alone would choose the other candidate.
        let with = |name: CandidateName, balance, coherence| CandidateMetrics {
            name,
            balance,
            coherence,
            z_score: BEYOND_CHANCE,
            ..metrics[0].clone()
        };
        assert_eq!(
            *choose(&[with(CandidateName::ZeroShot, 0.9, 0.3), with(CandidateName::Average, 0.8, 0.5)]),
            CandidateName::Average
        );
        assert_eq!(
            *choose(&[with(CandidateName::ZeroShot, 0.9, 0.3), with(CandidateName::Average, 0.7, 0.4)]),
            CandidateName::ZeroShot
        );
        assert_eq!(
            *choose(&[with(CandidateName::ZeroShot, 0.8, 0.5), with(CandidateName::Average, 0.9, 0.3)]),
            CandidateName::ZeroShot
        );
        assert_eq!(
            *choose(&[with(CandidateName::ZeroShot, 0.7, 0.4), with(CandidateName::Average, 0.9, 0.3)]),
            CandidateName::Average
        );
        assert!((metrics[1].coherence - 0.5).abs() < 1e-12, "{:?}", metrics[1]);
        assert_eq!(
            (metrics[1].agreement_with_zero_shot, metrics[1].tv_distance, metrics[2].coherence),
            (0.75, 0.25, 0.0)
        );
    }

    #[test]
    fn a_z_score_is_in_standard_errors() {
        // Differences of 1, 2 and 3: their mean is 2, their deviation 1, and the error of the mean 1/√3.
        assert!((z_score(&[1.0, 2.0, 3.0], &[0.0; 3]) - 2.0 * 3f64.sqrt()).abs() < 1e-12);
        let found = [z_score(&[1.0, 2.0], &[1.0, 2.0]), z_score(&[1.0], &[0.0]), z_score(&[], &[])];
        assert_eq!(found, [0.0; 3], "equal, and too few");
    }

    #[test]
    fn a_candidates_metrics_are_of_its_own_predictions() {
        let [a, b] = [[0.9, 0.1], [0.4, 0.6]];
        let zero_shot = predictions(CandidateName::ZeroShot, &[a, a, a, b].concat());
        let moved = Predictions {
            shifted: [a, a, b, a].concat(),
            ..predictions(CandidateName::Model1, &[a, b, b, b].concat())
        };
        let alone = vec![Vec::new(); 4];
        let [first, second] = &label_free_metrics(&[zero_shot, moved], &[alone], 2, None)[..] else {
            panic!("two candidates")
        };
        assert_eq!((first.stability, first.agreement_with_zero_shot, first.tv_distance), (1.0, 1.0, 0.0));
        // Two of its four answers stay the same in a shifted crop, and two agree with zero-shot. It moves two images to
        // the other class.
        assert_eq!((second.stability, second.agreement_with_zero_shot, second.tv_distance), (0.5, 0.5, 0.5));
        assert!((first.margin - 0.65).abs() < 1e-6 && (second.margin - 0.35).abs() < 1e-6, "{first:?} {second:?}");
    }

    #[test]
    fn classes_that_the_neighbours_do_not_share_are_incoherent() {
        let (classes, ring): (Vec<usize>, Vec<Vec<usize>>) = (0..900).map(|i| (i % 2, vec![(i + 1) % 900])).unzip();
        let coherence = |classes: &[usize]| mean(&coherence_terms(classes, &ring, 2));
        assert!((coherence(&classes) - 1.0).abs() < 1e-12, "the neighbour's class tells the own");
        let mut rng = crate::random::stream(1, "test");
        let drawn: Vec<usize> = (0..900).map(|_| rng.random_range(0..2)).collect();
        assert!(coherence(&drawn) < 0.01, "{}", coherence(&drawn));
        assert_eq!(coherence_terms(&[0], &[Vec::new()], 2), [0.0]);
    }
}
