//! What an answer says about an image besides its probabilities: whether the image is one of the classes at all, and
//! which class is decided for. The first is a threshold on the logits that is found without labels; the second uses
//! thresholds that the user has set.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Share of the pool that the threshold refuses; 0 to 1. 0.05 [choice]: where the pool holds only images of the
/// classes, this share of them is refused.
pub const REFUSED: f64 = 0.05;
/// Fewest images of a pool from which a threshold is computed. 100 [choice]: then five of them lie below it.
pub const MINIMUM_IMAGES: usize = 100;

/// The threshold of a generation for "none of the classes". See docs/decisions/0012.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NoneOfThese {
    /// An image with a smaller [`energy`] is none of the classes.
    pub least_energy: f64,
}

impl NoneOfThese {
    /// The threshold from the energies of the pool's images; `None` where there are too few.
    pub fn of_pool(mut energies: Vec<f64>) -> Option<Self> {
        if energies.len() < MINIMUM_IMAGES {
            return None;
        }
        energies.sort_by(f64::total_cmp);
        Some(Self { least_energy: energies[(energies.len() as f64 * REFUSED) as usize] })
    }

    /// Whether an image with these logits, one per class, is none of the classes.
    pub fn refuses(&self, logits: &[f32]) -> bool {
        energy(logits) < self.least_energy
    }
}

/// Log of the sum of the exponentials of an image's logits: the negative free energy of Liu et al. 2020, arXiv
/// 2010.03759, at temperature 1. Unlike a probability, it distinguishes an image that is near no class from one that
/// lies between two classes.
pub fn energy(logits: &[f32]) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - most).exp()).sum();
    f64::from(most) + sum.ln()
}

/// The likeliest class, the first of equal ones; none where there is no class.
pub fn likeliest(probabilities: &[f32]) -> Option<usize> {
    (0..probabilities.len()).max_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b]).then(b.cmp(&a)))
}

/// Decision thresholds that the user has set for some classes: `thresholds` of `[classifier]`. Each is above 0 and
/// below 1; `None` for a class without one. [C]
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds(Vec<Option<f64>>);

impl Thresholds {
    /// The thresholds of these classes, in the order of the probabilities. Names in `named` that are no class are
    /// ignored. `None` where no threshold is set.
    pub fn of(named: &BTreeMap<String, f64>, classes: &[String]) -> Option<Self> {
        (!named.is_empty()).then(|| Self(classes.iter().map(|class| named.get(class).copied()).collect()))
    }

    /// The class that is decided for, given C probabilities.
    ///
    /// A class with a threshold qualifies if its probability is at least the threshold. If several qualify, the one
    /// whose probability is the largest multiple of its threshold is decided for. If none qualifies, the most likely
    /// class without a threshold is decided for; if every class has a threshold, the most likely class. Ties go to the
    /// first class.
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
        // A high threshold: below it the class is not decided for, however likely it is.
        let doubted = [("blocked", 0.75)];
        check(&doubted, [0.125, 0.125, 0.75], "blocked");
        check(&doubted, [0.125, 0.25, 0.625], "empty");
        check(&doubted, [0.25, 0.25, 0.5], "full");
        check(&doubted, [0.75, 0.125, 0.125], "full");
        // A low threshold: from it on the class is decided for, even if another class is more likely.
        let wanted = [("blocked", 0.25)];
        check(&wanted, [0.5, 0.25, 0.25], "blocked");
        check(&wanted, [0.5, 0.3125, 0.1875], "full");
        // If several have reached their thresholds, the largest multiple decides, and of equal ones the first.
        let both = [("empty", 0.5), ("blocked", 0.125)];
        check(&both, [0.0, 0.75, 0.25], "blocked");
        check(&both, [0.25, 0.625, 0.125], "empty");
        check(&both, [0.25, 0.5, 0.125], "empty");
        check(&both, [0.875, 0.0625, 0.0625], "full");
        // If every class has a threshold and none has reached it, the most likely class is decided for.
        let all = [("full", 0.75), ("empty", 0.75), ("blocked", 0.75)];
        check(&all, [0.25, 0.5, 0.25], "empty");
        check(&all, [0.125, 0.125, 0.75], "blocked");
        // Thresholds for classes that the generation does not have: the most likely class is decided for.
        check(&[("open", 0.5)], [0.25, 0.5, 0.25], "empty");
        assert_eq!(thresholds(&[]), None, "without any, nothing is decided for");
    }

    proptest! {
        /// If one class alone has a threshold, it is decided for exactly when it has reached it.
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
