//! What an answer says of an image beyond its probabilities: whether it is one of the classes at all, told from its
//! logits by a threshold that no label has set, and which class is decided for where the user has set thresholds.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Share of the pool that the threshold refuses; 0 to 1. 0.05 [choice]: as many of the images that are of the classes
/// are refused, where the pool holds no others.
pub const REFUSED: f64 = 0.05;
/// Fewest images of a pool that a threshold is taken from. 100 [choice]: five of them lie below it.
pub const MINIMUM_IMAGES: usize = 100;

/// The decision of a generation. See docs/decisions/0012.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NoneOfThese {
    /// An image of less [`energy`] is none of the classes.
    pub least_energy: f64,
}

impl NoneOfThese {
    /// From the energies of the pool's images; none where they are too few.
    pub fn of_pool(mut energies: Vec<f64>) -> Option<Self> {
        if energies.len() < MINIMUM_IMAGES {
            return None;
        }
        energies.sort_by(f64::total_cmp);
        Some(Self { least_energy: energies[(energies.len() as f64 * REFUSED) as usize] })
    }

    /// Whether an image with these logits, one a class, is none of the classes.
    pub fn refuses(&self, logits: &[f32]) -> bool {
        energy(logits) < self.least_energy
    }
}

/// Log of the sum of the exponentials of an image's logits: the negative free energy of Liu et al. 2020, arXiv
/// 2010.03759, at temperature 1. Unlike a probability it tells an image that is near no class from one between two.
pub fn energy(logits: &[f32]) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - most).exp()).sum();
    f64::from(most) + sum.ln()
}

/// Decision thresholds that the user has set for some classes: `thresholds` of `[classifier]`. Each above 0 and below
/// 1; none for a class that is not named. [C]
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds(Vec<Option<f64>>);

impl Thresholds {
    /// For these classes, in the order of the probabilities; what is `named` otherwise has no part in it. None where
    /// nothing is named.
    pub fn of(named: &BTreeMap<String, f64>, classes: &[String]) -> Option<Self> {
        (!named.is_empty()).then(|| Self(classes.iter().map(|class| named.get(class).copied()).collect()))
    }

    /// The class that is decided for, by C probabilities.
    ///
    /// A class with a threshold exactly where its probability is at least that; where several are, the one whose
    /// probability is the largest multiple of its threshold. Where none is: the likeliest class without a threshold,
    /// and where every class has one, the likeliest of all. Of classes that are alike in this, the first.
    pub fn decide(&self, probabilities: &[f32]) -> usize {
        let classes = || self.0.iter().zip(probabilities.iter().map(|&p| f64::from(p))).enumerate();
        let passed = classes().filter_map(|(class, (&threshold, p))| Some((class, p / threshold.filter(|&t| p >= t)?)));
        let free = classes().filter(|(_, (threshold, _))| threshold.is_none()).map(|(class, (_, p))| (class, p));
        let all = classes().map(|(class, (_, p))| (class, p));
        first_of_the_largest(passed)
            .or_else(|| first_of_the_largest(free))
            .or_else(|| first_of_the_largest(all))
            .unwrap_or(0)
    }
}

fn first_of_the_largest(values: impl Iterator<Item = (usize, f64)>) -> Option<usize> {
    values.reduce(|largest, next| if next.1 > largest.1 { next } else { largest }).map(|(class, _)| class)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CLASSES: [&str; 3] = ["full", "empty", "blocked"];

    fn thresholds(named: &[(&str, f64)]) -> Option<Thresholds> {
        let named = named.iter().map(|&(class, threshold)| (class.to_owned(), threshold)).collect();
        Thresholds::of(&named, &CLASSES.map(str::to_owned))
    }

    #[test]
    fn what_is_decided_for() {
        let check = |named: &[(&str, f64)], probabilities: [f32; 3], decided: &str| {
            let found = CLASSES[thresholds(named).unwrap().decide(&probabilities)];
            assert_eq!(found, decided, "{named:?} of {probabilities:?}");
        };
        // A class that is to be doubted: it is not decided for below its threshold, however likely it is.
        let doubted = [("blocked", 0.75)];
        check(&doubted, [0.125, 0.125, 0.75], "blocked");
        check(&doubted, [0.125, 0.25, 0.625], "empty");
        check(&doubted, [0.25, 0.25, 0.5], "full");
        check(&doubted, [0.75, 0.125, 0.125], "full");
        // A class that is not to be missed: it is decided for from its threshold on, whatever is likelier.
        let wanted = [("blocked", 0.25)];
        check(&wanted, [0.5, 0.25, 0.25], "blocked");
        check(&wanted, [0.5, 0.3125, 0.1875], "full");
        // Several that have reached theirs: the largest multiple, and of equal ones the first.
        let both = [("empty", 0.5), ("blocked", 0.125)];
        check(&both, [0.0, 0.75, 0.25], "blocked");
        check(&both, [0.25, 0.625, 0.125], "empty");
        check(&both, [0.25, 0.5, 0.125], "empty");
        check(&both, [0.875, 0.0625, 0.0625], "full");
        // Where every class has one and none has reached it, the likeliest.
        let all = [("full", 0.75), ("empty", 0.75), ("blocked", 0.75)];
        check(&all, [0.25, 0.5, 0.25], "empty");
        check(&all, [0.125, 0.125, 0.75], "blocked");
        // Of other classes than the generation's: as without any, the likeliest.
        check(&[("open", 0.5)], [0.25, 0.5, 0.25], "empty");
        assert_eq!(thresholds(&[]), None, "without any, nothing is decided for");
    }

    proptest! {
        /// A class alone in having a threshold is decided for exactly where it has reached it.
        #[test]
        fn a_threshold_is_kept_exactly(parts in prop::array::uniform3(0.01..1.0f32), threshold in 0.01..0.99f64) {
            let sum: f32 = parts.iter().sum();
            let probabilities = parts.map(|part| part / sum);
            let decided = thresholds(&[("blocked", threshold)]).unwrap().decide(&probabilities);
            prop_assert_eq!(decided == 2, f64::from(probabilities[2]) >= threshold);
        }
    }

    #[test]
    fn energy_is_the_log_of_the_sum_of_exponentials() {
        let expected = (1f64.exp() + 2f64.exp() + 3f64.exp()).ln();
        assert!((energy(&[1.0, 2.0, 3.0]) - expected).abs() < 1e-6);
        assert!((energy(&[1000.0, 1000.0]) - (1000.0 + 2f64.ln())).abs() < 1e-6, "without overflow");
        assert!(energy(&[f32::NAN]).is_nan());
    }

    #[test]
    fn a_twentieth_of_the_pool_is_refused() {
        let pool: Vec<f64> = (0..200).rev().map(f64::from).collect();
        let decision = NoneOfThese::of_pool(pool.clone()).unwrap();
        assert_eq!(pool.iter().filter(|&&energy| energy < decision.least_energy).count(), 10);
        assert!(decision.refuses(&[9.9]) && !decision.refuses(&[10.0]));
        assert_eq!(NoneOfThese::of_pool(pool[..99].to_vec()), None);
    }
}
