//! Which of a round's models is deployed: predictions of all candidates for the pool; [`metrics`] has the rule that
//! chooses among them without a label.
//!
//! N images of the pool, C classes.

mod metrics;

pub use metrics::{choose, classes, label_free_metrics, share};

use crate::adapt::{Adapted, RoundContext, Student};
use crate::clip::{argmax, places, to_f32};
use crate::error::RoundError;
use crate::fit::TrainContext;
use crate::model::ImageClassifier;
use crate::phase1::ZeroShot;
use crate::pool::Pool;
use coft_core::candidate::{CandidateName, ModelIndex};
use coft_core::decision::energy;
use coft_core::spec::RoundSpec;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Bench;
    use crate::phase1;
    use coft_core::spec::Method;
    use image::RgbImage;
    use std::path::{Path, PathBuf};

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
    fn neighbours_are_of_the_same_part_and_never_the_image_itself() {
        let bench = Bench::new(4);
        let (pool, zero_shot) = (bench.pool(), bench.zero_shot());
        let (plain, embeddings) = (&zero_shot.labels.probabilities, Some(zero_shot.embeddings));
        let of = |name, embeddings| Predictions { name, plain: plain.clone(), shifted: plain.clone(), embeddings };
        let candidates = [of(CandidateName::ZeroShot, embeddings), of(CandidateName::Model1, None)];
        let views = neighbours(&candidates, &pool, &mut bench.train_context().borrow()).unwrap();
        assert_eq!(views.len(), 1);
        assert!(views[0].iter().enumerate().all(|(own, of)| of.len() == 10 && !of.contains(&own)));
        // The fixture has four pictures of each part, one part after the other.
        let same = views[0].iter().enumerate().filter(|(own, of)| of[0] / 4 == own / 4).count();
        assert!(2 * same > pool.len(), "{same} of {}", pool.len());
    }
}
