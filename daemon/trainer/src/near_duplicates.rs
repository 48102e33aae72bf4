//! Which images of a pool are near-duplicates: a still camera sends the same scene again and again.
//!
//! N images of the pool, D embedding width.

use crate::clip::{places, rows, to_f32};
use crate::error::RoundError;
use crate::fit::TrainContext;
use crate::predict::SCORING_BATCH;
use tch::Tensor;

/// Images whose embeddings have at least this cosine are near-duplicates; −1 to 1. 0.995 [measurement,
/// docs/decisions/0026].
const NEAR: f32 = 0.995;
/// Name of the result in the journal, and of its tensor.
const DISTINCT: &str = "distinct";

/// The positions of the images that are left, in order, where of near-duplicates the first alone is kept. Images that
/// the user labelled are all kept, and stand for those that look like them.
///
/// `embeddings` are normalised [N, D]; `given` are the user's own labels [N]. The result is kept in the journal: all
/// that the round saves later is of the images at these positions, and another processor may round a cosine
/// differently.
pub fn distinct(
    embeddings: &Tensor,
    given: &[Option<usize>],
    ctx: &mut TrainContext,
) -> Result<Vec<usize>, RoundError> {
    if let Some(saved) = ctx.journal.result(DISTINCT).and_then(|mut named| named.remove(DISTINCT)) {
        return Ok(places(&saved));
    }
    let kept = found(embeddings, given);
    let positions: Vec<i64> = kept.iter().map(|&position| position as i64).collect();
    ctx.keep_result(DISTINCT, vec![(DISTINCT.to_owned(), Tensor::from_slice(&positions))])?;
    Ok(kept)
}

fn found(embeddings: &Tensor, given: &[Option<usize>]) -> Vec<usize> {
    let (mut kept, others): (Vec<usize>, Vec<usize>) = (0..given.len()).partition(|&image| given[image].is_some());
    for chunk in others.chunks(SCORING_BATCH) {
        let of_chunk = rows(embeddings, chunk);
        let near_kept = match &kept[..] {
            [] => vec![false; chunk.len()],
            kept => has_near(&of_chunk.matmul(&rows(embeddings, kept).tr())),
        };
        let among = to_f32(&of_chunk.matmul(&of_chunk.tr()));
        let mut new: Vec<usize> = Vec::new();
        for place in (0..chunk.len()).filter(|&place| !near_kept[place]) {
            if !new.iter().any(|other| among[place * chunk.len() + other] >= NEAR) {
                new.push(place);
            }
        }
        kept.extend(new.into_iter().map(|place| chunk[place]));
    }
    kept.sort_unstable();
    kept
}

/// For each row of `cosines`, whether one of them is a near-duplicate's.
fn has_near(cosines: &Tensor) -> Vec<bool> {
    to_f32(&cosines.amax([-1i64].as_slice(), false)).into_iter().map(|cosine| cosine >= NEAR).collect()
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

    fn kept(angles: &[f32], given: &[Option<usize>]) -> Vec<usize> {
        found(&circle(angles), given)
    }

    #[test]
    fn the_first_of_near_duplicates_is_kept() {
        let near = NEAR.acos() * 0.9;
        assert_eq!(kept(&[0.0, near, 2.0 * near, 2.0, near], &[None; 5]), [0, 2, 3]);
        assert_eq!(kept(&[], &[]), [0usize; 0]);
        assert_eq!(kept(&[f32::NAN, 0.0, f32::NAN, 1.0], &[None; 4]), [0, 1, 2, 3], "what no cosine tells stays");
    }

    #[test]
    fn near_duplicates_are_found_over_all_chunks() {
        let count = 3 * SCORING_BATCH + 1;
        let angles: Vec<f32> = (0..count).map(|image| (image % 5) as f32).collect();
        assert_eq!(kept(&angles, &vec![None; count]), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn labelled_images_are_kept_in_place_of_those_that_look_like_them() {
        assert_eq!(kept(&[0.0, 0.0, 0.0, 1.0, 1.0], &[None, Some(1), Some(0), None, None]), [1, 2, 3]);
    }

    #[test]
    fn a_round_that_goes_on_has_the_images_that_it_had() {
        let bench = Bench::new(1);
        let mut ctx = bench.train_context();
        let first = distinct(&circle(&[0.0, 0.0, 1.0]), &[None; 3], &mut ctx.borrow()).unwrap();
        let again = distinct(&Tensor::zeros([3, 2], (Kind::Float, tch::Device::Cpu)), &[None; 3], &mut ctx.borrow());
        assert_eq!((first, again.unwrap()), (vec![0, 2], vec![0, 2]));
    }
}
