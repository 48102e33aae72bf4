//! Whether an image is one of the classes at all, told from its logits by a threshold that no label has set.

use serde::{Deserialize, Serialize};

/// Share of the pool that the threshold refuses; 0 to 1. 0.05 [choice]: as many of the images that are of the classes are
/// refused, where the pool holds no others.
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

    pub fn refuses(&self, logits: &[f32]) -> bool {
        energy(logits) < self.least_energy
    }
}

/// Log of the sum of the exponentials of an image's logits: the negative free energy of Liu et al. 2020, arXiv 2010.03759,
/// at temperature 1. Unlike a probability it tells an image that is near no class from one between two.
pub fn energy(logits: &[f32]) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - most).exp()).sum();
    f64::from(most) + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

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
