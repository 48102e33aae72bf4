//! How often each class occurs, as the user expects it: `shares` of `[classifier]`.
//!
//! Without shares, a classifier assumes that all classes are equally likely. If nearly all images of a camera show one
//! class, that assumption costs accuracy. With the shares π, the class probabilities p(k|x) of such a classifier become
//! p(k|x)·π(k), normalised again (Saerens, Latinne and Decaestecker 2002, "Adjusting the outputs of a classifier to new
//! a priori probabilities", eq. 2.4). For logits, this is the addition of ln π(k) + ln C, which is 0 for every class
//! where all shares are equal.
//!
//! C classes.

use crate::shown::shown;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thiserror::Error;

/// The share of each class in the images, in label order: each above 0, their sum 1. [C]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shares(Vec<f64>);

/// Why the shares of the configuration are refused.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum SharesError {
    /// A share is set for a class that does not exist.
    #[error("there is no class \"{}\"; it has to be named as in the label file", shown(class.as_bytes()))]
    Class {
        /// The name in the configuration.
        class: String,
    },
    /// A share is not above 0 and below 1.
    #[error("the share of \"{}\" is {share}; use a number above 0 and below 1", shown(class.as_bytes()))]
    Range {
        /// Name of the class.
        class: String,
        /// The share in the configuration.
        share: f64,
    },
    /// Some classes have no share, and the others leave nothing for them.
    #[error(
        "the shares add up to {sum:.3}, which leaves nothing for the classes that are not named; use less than 1 in all"
    )]
    NothingLeft {
        /// Sum of the shares in the configuration.
        sum: f64,
    },
    /// Every class has a share, and their sum differs from 1 by more than rounding.
    #[error("the shares of all classes add up to {sum:.3}; they have to be 1 in all")]
    Sum {
        /// The sum.
        sum: f64,
    },
}

/// How far the sum of the shares of all classes may differ from 1, for users who round. 0.02 [choice].
const ROUNDING: f64 = 0.02;

impl Shares {
    /// The shares of the classes that are `named`; the other classes divide the rest evenly.
    ///
    /// # Errors
    /// A name is not a class, a share is not above 0 and below 1, or the shares cannot have the sum 1.
    pub fn new(named: &BTreeMap<String, f64>, classes: &[String]) -> Result<Self, SharesError> {
        for (class, &share) in named {
            if !classes.contains(class) {
                return Err(SharesError::Class { class: class.clone() });
            }
            if !(share > 0.0 && share < 1.0) {
                return Err(SharesError::Range { class: class.clone(), share });
            }
        }
        let sum: f64 = named.values().sum();
        let others = classes.len() - named.len();
        if others == 0 && (sum - 1.0).abs() > ROUNDING {
            return Err(SharesError::Sum { sum });
        }
        if others > 0 && sum >= 1.0 {
            return Err(SharesError::NothingLeft { sum });
        }
        let rest = (1.0 - sum) / others.max(1) as f64;
        let shares = classes.iter().map(|class| named.get(class).copied().unwrap_or(rest));
        let all = if others == 0 { sum } else { 1.0 };
        Ok(Self(shares.map(|share| share / all).collect()))
    }

    /// The numbers to add to the logits of a classifier that assumes equally likely classes: ln π + ln C. [C]
    pub fn log_ratios(&self) -> Vec<f64> {
        let count = self.0.len() as f64;
        self.0.iter().map(|share| (share * count).ln()).collect()
    }

    /// N × C `probabilities`, row-major, corrected by these shares.
    pub fn applied(&self, probabilities: &[f32]) -> Vec<f32> {
        let row = |row: &[f32]| {
            let joint: Vec<f64> = row.iter().zip(&self.0).map(|(&p, share)| f64::from(p) * share).collect();
            let sum: f64 = joint.iter().sum();
            joint.into_iter().map(|joint| (joint / sum) as f32).collect::<Vec<f32>>()
        };
        probabilities.chunks_exact(self.0.len()).flat_map(row).collect()
    }

    /// Divides `all` things among the classes in proportion to the shares, at least one for each class. [C]
    pub fn dealt(&self, all: usize) -> Vec<usize> {
        self.0.iter().map(|share| ((share * all as f64).round() as usize).max(1)).collect()
    }

    /// The shares in label order: each above 0, their sum 1. [C]
    pub fn as_slice(&self) -> &[f64] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(named: &[(&str, f64)]) -> Result<Shares, SharesError> {
        let classes = ["empty", "full", "blocked"].map(str::to_owned);
        Shares::new(&named.iter().map(|&(class, share)| (class.to_owned(), share)).collect(), &classes)
    }

    #[track_caller]
    fn refused(named: &[(&str, f64)], why: &str) {
        assert_eq!(shares(named).unwrap_err().to_string(), why);
    }

    #[test]
    fn who_is_not_named_shares_the_rest() {
        assert_eq!(shares(&[("full", 0.5)]).unwrap().as_slice(), [0.25, 0.5, 0.25]);
        let all = shares(&[("empty", 0.3), ("full", 0.6), ("blocked", 0.09)]).unwrap();
        assert!((all.as_slice().iter().sum::<f64>() - 1.0).abs() < 1e-12, "rounded shares add up to 1 again: {all:?}");
    }

    #[test]
    fn things_are_dealt_out_in_proportion_and_nobody_goes_without() {
        assert_eq!(shares(&[("empty", 0.98)]).unwrap().dealt(100), [98, 1, 1]);
        assert_eq!(shares(&[("empty", 0.999)]).unwrap().dealt(100), [100, 1, 1]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        refused(&[("ful", 0.5)], "there is no class \"ful\"; it has to be named as in the label file");
        for share in [0.0, 1.0, -0.1, f64::NAN, f64::INFINITY] {
            let why = format!("the share of \"full\" is {share}; use a number above 0 and below 1");
            refused(&[("full", share)], &why);
        }
        let why = "the shares add up to 1.100, which leaves nothing for the classes that are not named; use less than 1 in all";
        refused(&[("full", 0.5), ("empty", 0.6)], why);
        let why = "the shares of all classes add up to 0.900; they have to be 1 in all";
        refused(&[("full", 0.5), ("empty", 0.3), ("blocked", 0.1)], why);
    }

    /// Computed by hand: 0.5·0.8 against 0.5·0.1 and 0·0.1.
    #[test]
    fn probabilities_are_weighted_by_the_shares() {
        let shares = shares(&[("empty", 0.8)]).unwrap();
        let found = shares.applied(&[0.5, 0.5, 0.0]);
        let expected = [8.0 / 9.0, 1.0 / 9.0, 0.0];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
        // The same result by adding to the logits.
        let logits: Vec<f64> = [0.5f64.ln(), 0.5f64.ln()].iter().zip(shares.log_ratios()).map(|(a, b)| a + b).collect();
        assert!(((logits[0] - logits[1]).exp() - 8.0).abs() < 1e-9);
    }
}
