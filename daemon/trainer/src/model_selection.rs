//! Which of a round's models is deployed: predictions of all candidates for the pool, and a rule that reads no label.
//!
//! N images of the pool, C classes.

use crate::adapt::{Adapted, RoundContext, Student};
use crate::clip::{argmax, places, to_f32};
use crate::error::RoundError;
use crate::fit::TrainContext;
use crate::model::ImageClassifier;
use crate::phase1::ZeroShot;
use crate::pool::Pool;
use coft_core::candidate::{CandidateName, ModelIndex};
use coft_core::decision::energy;
use coft_core::promotion::balance_terms;
use coft_core::report::CandidateMetrics;
use coft_core::shares::Shares;
use coft_core::spec::RoundSpec;
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// Which model a candidate is, and how it is made from the results of adaptation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CandidateSpec {
    ZeroShot,
    /// Phase I of a model.
    Phase1(ModelIndex),
    /// Phase II: the shares of models 1 and 2; the pretrained model makes up the rest (WiSE-FT).
    Phase2([f64; 2]),
}

const AVERAGE: CandidateSpec = CandidateSpec::Phase2([0.5, 0.5]);

/// Every candidate, with its name in the report.
pub const CANDIDATES: [(CandidateName, CandidateSpec); 7] = [
    (CandidateName::ZeroShot, CandidateSpec::ZeroShot),
    (CandidateName::Phase1Model1, CandidateSpec::Phase1(ModelIndex::First)),
    (CandidateName::Phase1Model2, CandidateSpec::Phase1(ModelIndex::Second)),
    (CandidateName::Model1, CandidateSpec::Phase2([1.0, 0.0])),
    (CandidateName::Model2, CandidateSpec::Phase2([0.0, 1.0])),
    (CandidateName::Average, AVERAGE),
    (CandidateName::AverageHalf, CandidateSpec::Phase2([0.25, 0.25])),
];

/// The predictions of a candidate for the pool.
#[derive(Debug)]
pub struct Predictions {
    pub name: CandidateName,
    /// Class probabilities, N × C row-major.
    pub plain: Vec<f32>,
    /// Class probabilities of a shifted crop.
    pub shifted: Vec<f32>,
    /// Normalised input of the head for each image, if the model is one of the [`VIEWS`]. [N, D]
    pub embeddings: Option<Tensor>,
}

impl CandidateSpec {
    /// `adapted` may be missing only for zero-shot.
    pub fn model(self, round: &RoundContext, adapted: Option<&Adapted>) -> ImageClassifier {
        let Student { checkpoint, text, .. } = round.student;
        let adapted = || adapted.expect("an adapted model");
        match self {
            CandidateSpec::ZeroShot => ImageClassifier::zero_shot(checkpoint, text),
            CandidateSpec::Phase1(model) => adapted().prompted(checkpoint, model),
            CandidateSpec::Phase2(shares) => adapted().mixed(checkpoint, shares),
        }
    }
}

/// The candidates of a round. In distillation the models of Phase I are left out, because they are the large CLIP's.
pub fn candidates(spec: &RoundSpec) -> impl Iterator<Item = (CandidateName, CandidateSpec)> {
    let distils = spec.student_dir.is_some();
    CANDIDATES
        .into_iter()
        .filter(move |(_, candidate_spec)| !(distils && matches!(candidate_spec, CandidateSpec::Phase1(_))))
}

/// The models whose embeddings define which images look alike: the pretrained one, and the average of the two that
/// Phase II trained.
const VIEWS: [CandidateSpec; 2] = [CandidateSpec::ZeroShot, AVERAGE];

/// Number of neighbours of each image in each view. 10 [choice], see docs/decisions/0005.
const NEIGHBOURS: usize = 10;

/// In each view, the neighbours of each image of the pool, the most similar first. Fewer than [`NEIGHBOURS`] where the
/// pool has no more images.
pub fn neighbours(
    predictions: &[Predictions],
    pool: &Pool,
    ctx: &mut TrainContext,
) -> Result<Vec<Vec<Vec<usize>>>, RoundError> {
    let views = predictions.iter().filter_map(|candidate| Some((&candidate.name, candidate.embeddings.as_ref()?)));
    views.map(|(name, embeddings)| nearest(&format!("neighbours as {name} sees them"), embeddings, pool, ctx)).collect()
}

/// For each row, the [`NEIGHBOURS`] other rows with the largest dot product.
fn nearest(
    name: &str,
    embeddings: &Tensor,
    pool: &Pool,
    ctx: &mut TrainContext,
) -> Result<Vec<Vec<usize>>, RoundError> {
    let count = NEIGHBOURS.min(pool.len() - 1);
    let [places] = ctx.predict(name, pool, |chunk| {
        let first = chunk[0] as i64; // a chunk is contiguous in the pool
        let rows = embeddings.narrow(0, first, chunk.len() as i64);
        // One more, because the most similar row is the image itself or a copy of it.
        [rows.matmul(&embeddings.tr()).topk(count as i64 + 1, -1, true, true).1] // [B, count + 1]
    })?;
    let places: Vec<Vec<i64>> = places.to_device(Device::Cpu).try_into().expect("two dimensions of integers");
    let others = |(own, places): (usize, Vec<i64>)| {
        places.into_iter().map(|place| place as usize).filter(|&place| place != own).take(count).collect()
    };
    Ok(places.into_iter().enumerate().map(others).collect())
}

/// The predictions of every candidate for the pool.
pub fn predictions(
    round: &RoundContext,
    adapted: &Adapted,
    ctx: &mut TrainContext,
) -> Result<Vec<Predictions>, RoundError> {
    let Student { pool, zero_shot, .. } = round.student;
    let mut predictions = Vec::with_capacity(CANDIDATES.len());
    for (name, candidate_spec) in candidates(round.spec) {
        let model = candidate_spec.model(round, Some(adapted));
        let work = format!("answers of {name}");
        let (plain, embeddings) = if candidate_spec == CandidateSpec::ZeroShot {
            (zero_shot.labels.probabilities.clone(), Some(zero_shot.embeddings.shallow_clone()))
        } else if VIEWS.contains(&candidate_spec) {
            let [probabilities, embeddings] = ctx.predict(&work, pool, |chunk| {
                let (_, probabilities, embeddings) = model.answers(&pool.batch(chunk));
                [probabilities, embeddings]
            })?;
            (to_f32(&probabilities), Some(embeddings))
        } else {
            let [probabilities] = ctx.predict(&work, pool, |chunk| [model.answers(&pool.batch(chunk)).1])?;
            (to_f32(&probabilities), None)
        };
        let answers = |chunk: &[usize]| [model.answers(&pool.shifted(chunk)).1];
        let [shifted] = ctx.predict(&format!("{work} to shifted crops"), pool, answers)?;
        predictions.push(Predictions { name, plain, shifted: to_f32(&shifted), embeddings });
    }
    Ok(predictions)
}

/// Least share of the area that is kept by the crops that mirroring is compared with; 0 to 1. 0.8 [choice], the default
/// of training.
const CROP: f64 = 0.8;

/// Whether training images may be mirrored: yes if mirroring changes the answers of the pretrained `model` no more
/// often than a training crop does.
pub fn mirrors(
    model: &ImageClassifier,
    zero_shot: &ZeroShot,
    pool: &Pool,
    ctx: &mut TrainContext,
) -> Result<bool, RoundError> {
    let classes = |pixels: Tensor| [model.logits(&pixels).argmax(-1, false)];
    let [cropped] = ctx.predict("zero-shot classes of crops", pool, |chunk| classes(pool.cropped(chunk, CROP)))?;
    let [mirrored] =
        ctx.predict("zero-shot classes of mirrored images", pool, |chunk| classes(pool.mirrored(chunk)))?;
    let same = |found: &Tensor| share(&zero_shot.answers, &places(found));
    Ok(same(&mirrored) >= same(&cropped))
}

/// Predictions of the deployed model for the pool.
#[derive(Default)]
pub struct Served {
    /// The class of each image. [N]
    pub classes: Vec<usize>,
    /// The energy of each image. [N]
    pub energies: Vec<f64>,
    /// Mean probability of each class; empty where there is no image. [C]
    pub shares: Vec<f64>,
}

/// Predicts the pool with the `model` that is deployed.
pub fn served(model: &ImageClassifier, pool: &Pool, ctx: &mut TrainContext) -> Result<Served, RoundError> {
    let [logits] = ctx.predict("answers of what is deployed", pool, |chunk| [model.logits(&pool.batch(chunk))])?;
    if pool.len() == 0 {
        return Ok(Served::default());
    }
    let probabilities = model.probabilities(&logits);
    let shares = probabilities.mean_dim([0i64].as_slice(), false, Kind::Double);
    Ok(Served {
        classes: argmax(&probabilities),
        energies: to_f32(&logits).chunks_exact(logits.numel() / pool.len()).map(energy).collect(),
        shares: Vec::try_from(shares.to_device(Device::Cpu)).expect("a row of numbers"),
    })
}

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

/// From how many standard errors on a candidate's lead over zero-shot is not taken for chance. 2 [choice], a margin, not
/// the level of a test: see docs/decisions/0026.
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
    use crate::fixture::Bench;
    use crate::phase1;
    use coft_core::spec::Method;
    use image::RgbImage;
    use rand::Rng;
    use std::path::{Path, PathBuf};

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

    /// Whether mirroring is allowed for a pool of copies of one picture.
    fn mirrored(path: &Path) -> bool {
        let bench = Bench::new(1);
        let pool = Pool::load(&[path; 8], &bench.checkpoint.preprocess, Device::Cpu).unwrap();
        let (text, mut ctx) = (bench.text(), bench.train_context());
        let zero_shot = phase1::zero_shot("model", &bench.checkpoint, &text, &pool, &mut ctx.borrow()).unwrap();
        mirrors(&ImageClassifier::zero_shot(&bench.checkpoint, &text), &zero_shot, &pool, &mut ctx.borrow()).unwrap()
    }

    #[test]
    fn images_are_mirrored_where_that_changes_no_more_than_a_crop_does() {
        let bench = Bench::new(10);
        let pool = bench.pool();
        let paths: Vec<PathBuf> = bench.spec(Method::Coft).images.into_iter().map(|image| image.path).collect();
        let model = ImageClassifier::zero_shot(&bench.checkpoint, &bench.text());
        let classes = |pixels: Tensor| argmax(&model.logits(&pixels));
        let everything = pool.everything();
        let (plain, turned) = (classes(pool.batch(&everything)), classes(pool.mirrored(&everything)));
        let told_apart =
            (0..pool.len()).find(|&i| plain[i] != turned[i]).expect("a picture that has a left and a right");
        assert!(!mirrored(&paths[told_apart]));
        let symmetric = paths[0].with_file_name("symmetric.png");
        let picture = image::open(&paths[0]).unwrap().to_rgb8();
        let width = picture.width();
        RgbImage::from_fn(width, picture.height(), |x, y| *picture.get_pixel(x.min(width - 1 - x), y))
            .save(&symmetric)
            .unwrap();
        assert!(mirrored(&symmetric));
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

    #[test]
    fn neighbours_are_of_the_same_part_and_never_the_image_itself() {
        let bench = Bench::new(4);
        let (pool, zero_shot) = (bench.pool(), bench.zero_shot());
        let (plain, embeddings) = (&zero_shot.labels.probabilities, Some(zero_shot.embeddings));
        let candidates = [
            Predictions { embeddings, ..predictions(CandidateName::ZeroShot, plain) },
            predictions(CandidateName::Model1, plain),
        ];
        let views = neighbours(&candidates, &pool, &mut bench.train_context().borrow()).unwrap();
        assert_eq!(views.len(), 1);
        assert!(views[0].iter().enumerate().all(|(own, of)| of.len() == 10 && !of.contains(&own)));
        // The fixture has four pictures of each part, one part after the other.
        let same = views[0].iter().enumerate().filter(|(own, of)| of[0] / 4 == own / 4).count();
        assert!(2 * same > pool.len(), "{same} of {}", pool.len());
    }
}
