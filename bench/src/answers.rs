//! Compares the answers that the trainer writes for measurements (see its `diagnostics`) with the labels.

use super::labelled_set::Labelled;
use super::scores::{auroc, calibration_error};
use super::trouble::NO_CLASS;
use coft_core::decision::NoneOfThese;
use coft_core::ids::ClassId;
use coft_core::review::{self, Difference, State};
use coft_core::shares::Shares;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use safetensors::SafeTensors;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Prefix of the names of a model's energies in `test.safetensors`.
const ENERGY: &str = "energy/";

/// The mean of the probabilities of both models of Phase II. It is never deployed, because serving it would need both
/// models.
const ENSEMBLE: &str = "ensemble";

/// Accuracies and other figures of the trainer's answers, in percent; null where the method has no such answer.
///
/// `accuracy` is over the test images as they are. `own` is the accuracy that is expected for test images with the
/// pool's class shares, `even` for equally many of each class; both are weighted means of the accuracies of the
/// classes. What is said of the pool is of its images without near-duplicates, where the method leaves these out.
pub fn measure(
    dir: &Path,
    labels: &[usize],
    test: &[Labelled],
    classes: usize,
    decision: Option<NoneOfThese>,
) -> anyhow::Result<Value> {
    let bytes = fs::read(dir.join("pool.safetensors"))?;
    let pool = SafeTensors::deserialize(&bytes)?;
    let bytes = fs::read(dir.join("test.safetensors"))?;
    let tested = SafeTensors::deserialize(&bytes)?;
    let own = test.iter().take_while(|image| image.label != NO_CLASS).count();
    let truth: Vec<usize> = test[..own].iter().map(|image| image.label).collect();

    let believed = |name: &str| pool.tensor(name).ok().map(|view| integers(&view));
    let shares: Vec<f64> = (0..classes).map(|class| share(labels, class)).collect();
    let labels = &distinct(&pool, labels);
    let zero_shot_pool = believed("zero-shot-label").map(|found| percent(&distinct(&pool, &found), labels));
    let (mut label_accuracy, mut confirmed_precision) = (Vec::new(), Vec::new());
    let (mut precision, mut fraction) = (Vec::new(), Vec::new());
    for model in ["1", "2"] {
        let (Some(found), Ok(clean)) = (believed(&format!("label{model}")), pool.tensor(&format!("clean{model}")))
        else {
            continue;
        };
        label_accuracy.push(percent(&found, labels));
        let margins = rows(&pool.tensor(&format!("margin{model}"))?).concat();
        let right = |images: &[usize]| {
            let pick = |from: &[usize]| images.iter().map(|&i| from[i]).collect::<Vec<_>>();
            (!images.is_empty()).then(|| percent(&pick(&found), &pick(labels)))
        };
        let confirmed: Vec<usize> = (0..labels.len()).filter(|&i| coft_core::selection::confirms(margins[i])).collect();
        let kept: Vec<usize> = (0..labels.len()).filter(|&i| clean.data()[i] == 1).collect();
        confirmed_precision.extend(right(&confirmed));
        precision.extend(right(&kept));
        fraction.push(kept.len() as f64 / labels.len() as f64);
    }
    let (mut accuracies, mut ece, mut apart) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let (mut by_shares, mut evenly) = (BTreeMap::new(), BTreeMap::new());
    if let (Ok(one), Ok(two)) = (tested.tensor("model1"), tested.tensor("model2")) {
        let sums =
            rows(&one).into_iter().zip(rows(&two)).map(|(one, two)| one.iter().zip(two).map(|(a, b)| a + b).collect());
        let found: Vec<usize> = sums.take(own).map(|row: Vec<f32>| best(&row)).collect();
        accuracies.insert(ENSEMBLE, percent(&found, &truth));
    }
    for name in tested.names().into_iter().filter(|name| !name.starts_with(ENERGY)) {
        let probabilities = rows(&tested.tensor(name)?);
        let found: Vec<usize> = probabilities[..own].iter().map(|row| best(row)).collect();
        let confidence: Vec<f32> = probabilities.iter().map(|row| row[best(row)]).collect();
        let right = found.iter().zip(&truth).map(|(found, truth)| found == truth);
        let answers: Vec<(f32, bool)> = confidence.iter().copied().zip(right).collect();
        accuracies.insert(name, percent(&found, &truth));
        by_shares.insert(name, weighted(&found, &truth, &shares));
        evenly.insert(name, weighted(&found, &truth, &vec![1.0; classes]));
        ece.insert(name, in_percent(calibration_error(&answers)));
        if own < test.len() {
            let energies = rows(&tested.tensor(&format!("{ENERGY}{name}"))?).concat();
            let told = |scores: &[f32]| in_percent(auroc(&scores[..own], &scores[own..]));
            apart.insert(name, json!({ "energy": told(&energies), "max-softmax": told(&confidence) }));
        }
    }
    let refused = decision.filter(|_| own < test.len()).map(|decision| -> anyhow::Result<Value> {
        let energies = rows(&tested.tensor(&format!("{ENERGY}deployed"))?).concat();
        let share = |energies: &[f32]| {
            let below = energies.iter().filter(|&&energy| f64::from(energy) < decision.least_energy).count();
            in_percent(below as f64 / energies.len() as f64)
        };
        Ok(json!({ "test": share(&energies[..own]), "outliers": share(&energies[own..]) }))
    });
    let mean = |values: &[f64]| (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
    Ok(json!({
        "accuracy": accuracies, "own": by_shares, "even": evenly, "shares": shares, "ece": ece, "auroc": apart, "refused": refused.transpose()?,
        "label_accuracies": label_accuracy, "confirmed_precisions": confirmed_precision, "precisions": precision,
        "zero_shot_pool": zero_shot_pool,
        "pool_label_accuracy": mean(&label_accuracy).or(zero_shot_pool),
        "confirmed_precision": mean(&confirmed_precision), "clean_precision": mean(&precision),
        "clean_fraction": mean(&fraction),
    }))
}

/// Number of reviews that are simulated for each candidate.
const REVIEWS: usize = 400;

/// What a person who knows every label would decide between the pretrained model and what is deployed, labelling the
/// same kind of pictures as in `coftctl review`: those of the pool on which the two differ, one of near-duplicates.
pub fn reviewed(dir: &Path, labels: &[usize], shares: Option<&Shares>) -> anyhow::Result<Value> {
    let bytes = fs::read(dir.join("pool.safetensors"))?;
    let pool = SafeTensors::deserialize(&bytes)?;
    let served = |row: &Vec<f32>| shares.map_or_else(|| best(row), |shares| best(&shares.applied(row)));
    let present: Vec<usize> = rows(&pool.tensor("plain/zero-shot")?).iter().map(served).collect();
    let candidate = integers(&pool.tensor("deployed-label")?);
    let standing = standing(&pool, labels.len());
    let mut pictures: Vec<usize> = (0..labels.len()).filter(|&image| present[image] != candidate[image]).collect();
    let class = |class: usize| ClassId(class as u32);
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let (mut states, mut counts) = (BTreeMap::new(), Vec::new());
    for _ in 0..REVIEWS {
        pictures.shuffle(&mut rng);
        let mut scenes = BTreeSet::new();
        let mut differing: Vec<usize> =
            pictures.iter().copied().filter(|&picture| scenes.insert(standing[picture])).collect();
        differing.shuffle(&mut rng);
        let label = |&image: &usize| {
            let difference = Difference { present: class(present[image]), candidate: class(candidate[image]) };
            (difference, class(labels[image]))
        };
        let given = |count: usize| differing[..count].iter().map(label);
        let state = |count: usize| review::decide(given(count), (differing.len() - count) as u64);
        let asked = (0..=differing.len()).find(|&count| state(count) != State::Asking).unwrap_or(differing.len());
        *states.entry(state(asked).as_str()).or_insert(0) += 1;
        counts.push(asked);
    }
    counts.sort_unstable();
    let shares: BTreeMap<&str, f64> =
        states.into_iter().map(|(state, times)| (state, in_percent(f64::from(times) / REVIEWS as f64))).collect();
    Ok(json!({ "differing": pictures.len(), "decided": shares, "median-labels": counts[REVIEWS / 2] }))
}

/// Of the `labels` of all images, those of the images that are no near-duplicates, which the adapted models' answers
/// are for.
pub fn distinct(pool: &SafeTensors, labels: &[usize]) -> Vec<usize> {
    let standing = standing(pool, labels.len());
    labels.iter().enumerate().filter(|(image, _)| standing[*image] == *image).map(|(_, &label)| label).collect()
}

/// For each image the position of the one that stands for it: itself, unless it is a near-duplicate. [N]
fn standing(pool: &SafeTensors, images: usize) -> Vec<usize> {
    pool.tensor("standing").map_or_else(|_| (0..images).collect(), |positions| integers(&positions))
}

pub fn rows(view: &safetensors::tensor::TensorView) -> Vec<Vec<f32>> {
    let floats: Vec<f32> = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    floats.chunks_exact(view.shape()[1]).map(<[f32]>::to_vec).collect()
}

pub fn integers(view: &safetensors::tensor::TensorView) -> Vec<usize> {
    let integer = |b: &[u8]| i64::from_le_bytes(b.try_into().expect("eight bytes")) as usize;
    view.data().chunks_exact(8).map(integer).collect()
}

fn best(row: &[f32]) -> usize {
    row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(class, _)| class)
}

fn percent(found: &[usize], truth: &[usize]) -> f64 {
    let right = found.iter().zip(truth).filter(|(a, b)| a == b).count();
    in_percent(right as f64 / truth.len() as f64)
}

fn share(labels: &[usize], class: usize) -> f64 {
    labels.iter().filter(|&&label| label == class).count() as f64 / labels.len() as f64
}

/// Weighted mean of the classes' accuracies; classes without a test image are left out.
fn weighted(found: &[usize], truth: &[usize], weights: &[f64]) -> f64 {
    let (mut right, mut all) = (0.0, 0.0);
    for (class, weight) in weights.iter().enumerate() {
        let own = |(_, truth): &(&usize, &usize)| **truth == class;
        let images = found.iter().zip(truth).filter(own).count();
        if images > 0 {
            let hits = found.iter().zip(truth).filter(own).filter(|(found, truth)| found == truth).count();
            right += weight * hits as f64 / images as f64;
            all += weight;
        }
    }
    in_percent(right / all)
}

fn in_percent(share: f64) -> f64 {
    (10_000.0 * share).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_of_the_images_that_are_no_near_duplicates() {
        let positions: Vec<u8> = [0i64, 0, 2].iter().flat_map(|position| position.to_le_bytes()).collect();
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::I64, vec![3], &positions).unwrap();
        let of = |tensors: Vec<(&str, _)>| {
            let bytes = safetensors::serialize(tensors, None).unwrap();
            distinct(&SafeTensors::deserialize(&bytes).unwrap(), &[5, 6, 7])
        };
        assert_eq!(of(vec![("standing", view.clone())]), [5, 7]);
        assert_eq!(of(vec![("other", view)]), [5, 6, 7], "the method leaves none out");
    }

    /// One of two images of class 0 is right, and one of one of class 1. Class 2 has no test image.
    #[test]
    fn classes_are_weighted_as_they_come() {
        let (found, truth) = ([0, 1, 1], [0, 0, 1]);
        assert_eq!(weighted(&found, &truth, &[1.0; 3]), 75.0);
        assert_eq!(weighted(&found, &truth, &[0.9, 0.1, 0.0]), 55.0);
        assert_eq!(share(&[0, 0, 1, NO_CLASS], 0), 0.5);
    }
}
