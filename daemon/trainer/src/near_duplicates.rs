//! Which images of a pool are near-duplicates: a still camera sends the same scene again and again.
//!
//! N images of the pool, D embedding width.

use crate::clip::{places, rows, to_f32};
use crate::error::RoundError;
use crate::fit::TrainContext;
use crate::predict::SCORING_BATCH;
use coft_core::near_duplicates::NearDuplicates;
use coft_core::spec::PoolImage;
use tch::Tensor;

/// Images whose embeddings have at least this cosine are near-duplicates; −1 to 1. 0.995 [measurement,
/// docs/decisions/0026].
const NEAR: f32 = 0.995;
/// Name of the result in the journal, and of its tensor.
const STANDING: &str = "standing";

/// Which images of a pool stand for which.
#[derive(Debug, PartialEq)]
pub struct Standing(Vec<usize>);

impl Standing {
    /// Finds the near-duplicates. The first of them stands for the others, unless the user labelled one: images that
    /// the user labelled all stand for themselves, and for those that look like them.
    ///
    /// `embeddings` are normalised [N, D]; `given` are the user's own labels [N]. The result is kept in the journal:
    /// all that the round saves later is of the images that stand, and another processor may round a cosine
    /// differently.
    pub fn of(embeddings: &Tensor, given: &[Option<usize>], ctx: &mut TrainContext) -> Result<Self, RoundError> {
        if let Some(saved) = ctx.journal.result(STANDING).and_then(|mut named| named.remove(STANDING)) {
            return Ok(Self(places(&saved)));
        }
        let found = found(embeddings, given);
        let positions: Vec<i64> = found.iter().map(|&position| position as i64).collect();
        ctx.keep_result(STANDING, vec![(STANDING.to_owned(), Tensor::from_slice(&positions))])?;
        Ok(Self(found))
    }

    /// For each image the position of the one that stands for it. [N]
    pub fn positions(&self) -> &[usize] {
        &self.0
    }

    /// The positions of the images that stand for themselves, in order.
    pub fn distinct(&self) -> Vec<usize> {
        self.0.iter().enumerate().filter(|(image, standing)| image == *standing).map(|(image, _)| image).collect()
    }

    /// The images that do not stand for themselves, each with the one that does, by their ids.
    pub fn by_id(&self, images: &[PoolImage]) -> NearDuplicates {
        let left_out = self.0.iter().enumerate().filter(|(image, standing)| image != *standing);
        NearDuplicates(
            left_out.map(|(image, &standing)| (images[image].id.clone(), images[standing].id.clone())).collect(),
        )
    }
}

/// For each image the position of the one that stands for it. [N]
fn found(embeddings: &Tensor, given: &[Option<usize>]) -> Vec<usize> {
    let mut standing: Vec<usize> = (0..given.len()).collect();
    let (mut kept, others): (Vec<usize>, Vec<usize>) = (0..given.len()).partition(|&image| given[image].is_some());
    for chunk in others.chunks(SCORING_BATCH) {
        let of_chunk = rows(embeddings, chunk);
        let near_kept = match &kept[..] {
            [] => vec![None; chunk.len()],
            kept => nearest(&of_chunk.matmul(&rows(embeddings, kept).tr())),
        };
        let among = to_f32(&of_chunk.matmul(&of_chunk.tr()));
        let mut new: Vec<usize> = Vec::new();
        for (place, &image) in chunk.iter().enumerate() {
            let near_new = || new.iter().find(|&&other| among[place * chunk.len() + other] >= NEAR);
            match near_kept[place].map(|near| kept[near]).or_else(|| near_new().map(|&other| chunk[other])) {
                Some(near) => standing[image] = near,
                None => new.push(place),
            }
        }
        kept.extend(new.into_iter().map(|place| chunk[place]));
    }
    standing
}

/// For each row of `cosines` the position of the largest, if it is a near-duplicate's.
fn nearest(cosines: &Tensor) -> Vec<Option<usize>> {
    let (largest, positions) = cosines.nan_to_num(-1.0, None, None).max_dim(-1, false);
    to_f32(&largest).into_iter().zip(places(&positions)).map(|(cosine, at)| (cosine >= NEAR).then_some(at)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Bench;
    use tch::Kind;

    /// Points on the unit circle at these angles, radians.
    fn circle(angles: &[f32]) -> Tensor {
        let points: Vec<f32> = angles.iter().flat_map(|angle| [angle.cos(), angle.sin()]).collect();
        Tensor::from_slice(&points).view([-1, 2])
    }

    fn standing(angles: &[f32], given: &[Option<usize>]) -> Vec<usize> {
        found(&circle(angles), given)
    }

    #[test]
    fn the_first_of_near_duplicates_stands_for_them() {
        let near = NEAR.acos() * 0.9;
        assert_eq!(standing(&[0.0, near, 2.0 * near, 2.0, near], &[None; 5]), [0, 0, 2, 3, 0]);
        assert_eq!(standing(&[], &[]), [0usize; 0]);
        assert_eq!(standing(&[f32::NAN, 0.0, f32::NAN, 1.0], &[None; 4]), [0, 1, 2, 3], "what no cosine tells stays");
    }

    #[test]
    fn near_duplicates_are_found_over_all_chunks() {
        let count = 3 * SCORING_BATCH + 1;
        let mut angles: Vec<f32> = (0..count).map(|image| (image % 5) as f32).collect();
        let mut expected: Vec<usize> = (0..count).map(|image| image % 5).collect();
        (angles[7], expected[7]) = (f32::NAN, 7);
        assert_eq!(standing(&angles, &vec![None; count]), expected);
    }

    #[test]
    fn labelled_images_stand_for_those_that_look_like_them() {
        let (angles, given) = ([0.0, 0.0, 0.0, 1.0, 1.0], [None, Some(1), Some(0), None, None]);
        let found = standing(&angles, &given);
        assert!([1, 2].contains(&found[0]), "{found:?}");
        assert_eq!(found[1..], [1, 2, 3, 3]);
        assert_eq!(Standing(found).distinct(), [1, 2, 3]);
    }

    #[test]
    fn a_round_that_goes_on_has_the_images_that_it_had() {
        let bench = Bench::new(1);
        let mut ctx = bench.train_context();
        let first = Standing::of(&circle(&[0.0, 0.0, 1.0]), &[None; 3], &mut ctx.borrow()).unwrap();
        let again =
            Standing::of(&Tensor::zeros([3, 2], (Kind::Float, tch::Device::Cpu)), &[None; 3], &mut ctx.borrow());
        assert_eq!((first, again.unwrap()), (Standing(vec![0, 0, 2]), Standing(vec![0, 0, 2])));
    }
}
