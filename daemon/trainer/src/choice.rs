//! Which of a round's models is deployed: all of them over the pool, and a rule that reads no label.
//!
//! N images of the pool, C classes.

use crate::adapt::{Adapted, Material};
use crate::clip::to_f32;
use crate::failure::Failure;
use crate::model::Model;
use crate::phase1::SCORING_BATCH;
use crate::pool::Pool;
use crate::progress::Reporter;
use coft_core::report::CandidateSigns;
use tch::{Kind, Tensor, no_grad};

/// How a candidate is made from what adaptation left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Recipe {
    ZeroShot,
    /// Phase I of model 1 or 2.
    Phase1(usize),
    /// Phase II: the shares of model 1 and 2, the rest pretrained (WiSE-FT).
    Phase2([f64; 2]),
}

/// Every candidate, by its name in the report.
pub const CANDIDATES: [(&str, Recipe); 12] = [
    ("zero-shot", Recipe::ZeroShot),
    ("phase1-model1", Recipe::Phase1(1)),
    ("phase1-model2", Recipe::Phase1(2)),
    ("model1", Recipe::Phase2([1.0, 0.0])),
    ("model2", Recipe::Phase2([0.0, 1.0])),
    ("model1-half", Recipe::Phase2([0.5, 0.0])),
    ("model2-half", Recipe::Phase2([0.0, 0.5])),
    ("average", Recipe::Phase2([0.5, 0.5])),
    ("average-three-quarters", Recipe::Phase2([0.375, 0.375])),
    ("average-half", Recipe::Phase2([0.25, 0.25])),
    ("average-quarter", Recipe::Phase2([0.125, 0.125])),
    ("start", Recipe::Phase2([0.0, 0.0])),
];

/// A candidate's answers on the pool.
#[derive(Debug)]
pub struct Answered {
    pub name: &'static str,
    /// N × C row-major.
    pub plain: Vec<f32>,
    /// The same of a shifted crop.
    pub shifted: Vec<f32>,
}

impl Recipe {
    pub fn model(self, material: &Material, text: &Tensor, adapted: &Adapted) -> Model {
        match self {
            Recipe::ZeroShot => Model::zero_shot(material.teacher, text),
            Recipe::Phase1(model) => adapted.prompted(material.teacher, model),
            Recipe::Phase2(shares) => adapted.mixed(material.student.checkpoint, shares),
        }
    }

    fn pool<'a>(self, material: &Material<'a>) -> &'a Pool<'a> {
        if matches!(self, Recipe::Phase2(_)) { material.student.pool } else { material.pool }
    }
}

/// Lets every candidate answer on the pool.
pub fn answer(
    material: &Material,
    text: &Tensor,
    adapted: &Adapted,
    reporter: &mut Reporter,
) -> Result<Vec<Answered>, Failure> {
    let flip = material.spec.settings.phase2.flip;
    let mut answered = Vec::with_capacity(CANDIDATES.len());
    for (name, recipe) in CANDIDATES {
        let (model, pool) = (recipe.model(material, text, adapted), recipe.pool(material));
        let plain = probabilities(&model, pool, reporter, |chunk| pool.batch(chunk))?;
        let shifted = probabilities(&model, pool, reporter, |chunk| pool.shifted(chunk, flip))?;
        answered.push(Answered { name, plain, shifted });
    }
    Ok(answered)
}

fn probabilities(
    model: &Model,
    pool: &Pool,
    reporter: &mut Reporter,
    pixels: impl Fn(&[usize]) -> Tensor,
) -> Result<Vec<f32>, Failure> {
    let mut all = Vec::new();
    for chunk in pool.everything().chunks(SCORING_BATCH) {
        all.extend(to_f32(&no_grad(|| model.logits(&pixels(chunk)).softmax(-1, Kind::Float))));
        reporter.advance(chunk.len() as u64, None)?;
    }
    Ok(all)
}

/// The class of each row of `probabilities`.
pub fn classes(probabilities: &[f32], classes: usize) -> Vec<usize> {
    probabilities.chunks_exact(classes).map(|row| best(row).0).collect()
}

/// Position of the largest value, and how far the next one lies below it.
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

/// The signs of each candidate; the first is zero-shot.
pub fn signs(answered: &[Answered], count: usize) -> Vec<CandidateSigns> {
    let zero_shot = classes(&answered[0].plain, count);
    let of = |candidate: &Answered| {
        let found = classes(&candidate.plain, count);
        let margins: f64 = candidate.plain.chunks_exact(count).map(|row| f64::from(best(row).1)).sum();
        CandidateSigns {
            name: candidate.name.to_owned(),
            stability: share(&found, &classes(&candidate.shifted, count)),
            margin: margins / found.len().max(1) as f64,
            kept: share(&found, &zero_shot),
            shift: shift(&found, &zero_shot, count),
        }
    };
    answered.iter().map(of).collect()
}

/// The name of the candidate to deploy.
pub fn choose(_signs: &[CandidateSigns]) -> &str {
    "average-half"
}

/// Share of positions at which both say the same.
pub fn share(a: &[usize], b: &[usize]) -> f64 {
    a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / a.len().max(1) as f64
}

/// Total variation distance of the class shares.
fn shift(a: &[usize], b: &[usize], count: usize) -> f64 {
    let mut difference = vec![0i64; count];
    a.iter().for_each(|&class| difference[class] += 1);
    b.iter().for_each(|&class| difference[class] -= 1);
    difference.iter().map(|d| d.unsigned_abs()).sum::<u64>() as f64 / (2 * a.len().max(1)) as f64
}
