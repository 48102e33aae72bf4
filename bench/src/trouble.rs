//! Pools with problems: what `bench adapt --pool` does to the unlabelled images. It depends only on the seed.

use super::labelled_set::{Labelled, LabelledSet};
use anyhow::Context;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// The label of an outlier, which is no class.
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
    /// Two classes of the set alone, drawn by the seed: 97 images of the first for 3 of the second.
    Skew,
    /// The first class has two hundred times the images of the last, in even steps between, the order drawn by the
    /// seed.
    Tail,
    /// A still camera: 90 % of the images are near-duplicates of 20 of them, which are spread over the classes.
    Still,
    /// Images of one class alone, drawn by the seed; the others are known to the classifier and never come.
    OneClass,
}

/// Share of the pool that shows none of the classes.
const OUTLIERS: f64 = 0.3;
/// Images of the first class, divided by those of the last.
const IMBALANCE: f64 = 20.0;
const SMALL: usize = 200;
/// Images of the common class for each of the rare one.
const SKEW: f64 = 97.0 / 3.0;
/// Images of the most frequent class over those of the rarest.
const TAIL: f64 = 200.0;
/// Number of pictures that a still camera shows again and again; then the share of the pool that these are.
const SCENES: usize = 20;
const STILL: f64 = 0.9;
/// Most images in these pools, so that they cost as much as the balanced ones.
const MOST: usize = 1000;
/// Most images of one class.
const MOST_OF_A_CLASS: usize = 500;

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
                let most = set.adapt.len() as f64 / classes as f64;
                keep(&mut set.adapt, &falling(most, IMBALANCE, &(0..classes).collect::<Vec<_>>()));
            }
            Trouble::Tail => {
                let order = drawn(classes, &mut rng);
                let shares = falling(1.0, TAIL, &order);
                let all: f64 = shares.iter().sum();
                let most = (MOST as f64 / all).min(counts(set)[order[0]] as f64);
                keep(&mut set.adapt, &falling(most, TAIL, &order));
            }
            Trouble::Skew => {
                let pair = &drawn(classes, &mut rng)[..2];
                set.keep_classes(pair);
                let most = counts(set)[0].min(MOST_OF_A_CLASS * 97 / 100) as f64;
                keep(&mut set.adapt, &[most, (most / SKEW).round()]);
            }
            Trouble::OneClass => {
                let mut most = vec![0.0; classes];
                most[drawn(classes, &mut rng)[0]] = MOST_OF_A_CLASS as f64;
                set.adapt.retain(|image| most[image.label] > 0.0);
                set.adapt.truncate(MOST_OF_A_CLASS);
            }
            Trouble::Still => {
                set.adapt.truncate(MOST);
                let shown: Vec<Labelled> = spread(&set.adapt, &drawn(classes, &mut rng));
                let again = (set.adapt.len() as f64 * STILL) as usize;
                set.adapt.truncate(set.adapt.len() - again);
                let copies = shown.into_iter().cycle().take(again).enumerate();
                set.adapt.extend(copies.map(|(number, image)| Labelled { copy: number as u32 + 1, ..image }));
                set.adapt.shuffle(&mut rng);
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

/// The classes in an order that depends on the seed.
fn drawn(classes: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..classes).collect();
    order.shuffle(rng);
    order
}

fn counts(set: &LabelledSet) -> Vec<usize> {
    let mut counts = vec![0; set.classes.len()];
    set.adapt.iter().for_each(|image| counts[image.label] += 1);
    counts
}

/// `most` for the first class of `order`, `most` / `ratio` for the last, with logarithmically even steps between.
fn falling(most: f64, ratio: f64, order: &[usize]) -> Vec<f64> {
    let mut of_class = vec![0.0; order.len()];
    for (place, &class) in order.iter().enumerate() {
        of_class[class] = most * ratio.powf(-(place as f64) / (order.len() - 1) as f64);
    }
    of_class
}

/// Keeps the first images of each class, at most `most`, but at least one.
fn keep(images: &mut Vec<Labelled>, most: &[f64]) {
    let mut seen = vec![0usize; most.len()];
    images.retain(|image| {
        seen[image.label] += 1;
        seen[image.label] as f64 <= most[image.label].max(1.0)
    });
}

/// [`SCENES`] images, taken from the classes in turn, so that as many classes as possible are included.
fn spread(images: &[Labelled], order: &[usize]) -> Vec<Labelled> {
    let mut of_class: Vec<_> =
        order.iter().map(|&class| images.iter().filter(move |image| image.label == class)).collect();
    let mut shown = Vec::new();
    while shown.len() < SCENES.min(images.len()) {
        shown.extend(of_class.iter_mut().filter_map(Iterator::next).take(SCENES - shown.len()).cloned());
    }
    shown
}

#[cfg(test)]
mod tests;
