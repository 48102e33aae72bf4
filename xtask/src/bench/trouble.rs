//! Pools with trouble: what `bench adapt --pool` does to the unlabelled images, by the seed alone.

use super::labelled_set::{Labelled, LabelledSet};
use anyhow::Context;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// What no class is called: an outlier's label.
pub const NO_CLASS: usize = usize::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Trouble {
    None,
    /// 30 % of the images show none of the classes: they come from the set of --outliers.
    Outliers,
    /// The first class has twenty times the images of the last, in even steps between.
    Imbalance,
    /// The last two classes have no image.
    Missing,
    /// 200 images.
    Small,
}

/// Share of the pool that shows none of the classes.
const OUTLIERS: f64 = 0.3;
/// Images of the first class over those of the last.
const IMBALANCE: f64 = 20.0;
const SMALL: usize = 200;

impl Trouble {
    pub fn make(self, set: &mut LabelledSet, others: Option<&LabelledSet>, seed: u64) -> anyhow::Result<()> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let classes = set.classes.len();
        set.adapt.shuffle(&mut rng);
        match self {
            Trouble::None => {}
            Trouble::Small => set.adapt.truncate(SMALL),
            Trouble::Missing => set.adapt.retain(|image| image.label + 2 < classes),
            Trouble::Imbalance => {
                let mut seen = vec![0usize; classes];
                let most = set.adapt.len() as f64 / classes as f64;
                set.adapt.retain(|image| {
                    seen[image.label] += 1;
                    let share = IMBALANCE.powf(-(image.label as f64) / (classes - 1) as f64);
                    seen[image.label] as f64 <= (most * share).max(1.0)
                });
            }
            Trouble::Outliers => {
                let mut strange = others.context("--pool outliers needs --outliers SET")?.adapt.clone();
                strange.shuffle(&mut rng);
                strange.truncate((set.adapt.len() as f64 * OUTLIERS / (1.0 - OUTLIERS)).round() as usize);
                set.adapt.extend(strange.into_iter().map(|image| Labelled { label: NO_CLASS, ..image }));
                set.adapt.shuffle(&mut rng);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
