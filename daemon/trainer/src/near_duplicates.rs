//! Which images of a pool are near-duplicates: a still camera sends the same scene again and again.
//!
//! N images of the pool, D embedding width.

use crate::clip::to_f32;
use crate::error::RoundError;
use crate::fit::TrainContext;
use crate::predict::SCORING_BATCH;
use tch::Tensor;

/// Images whose embeddings have at least this cosine are near-duplicates; −1 to 1. 0.995 [measurement,
/// docs/decisions/0026].
const NEAR: f32 = 0.995;

/// The positions of the images that are left, in order, where of near-duplicates the first alone is kept. Images that
/// the user labelled are all kept, and stand for those that look like them.
///
/// `embeddings` are normalised [N, D]; `given` are the user's own labels [N].
pub fn distinct(
    embeddings: &Tensor,
    given: &[Option<usize>],
    ctx: &mut TrainContext,
) -> Result<Vec<usize>, RoundError> {
    let (mut kept, others): (Vec<usize>, Vec<usize>) = (0..given.len()).partition(|&image| given[image].is_some());
    for chunk in others.chunks(SCORING_BATCH) {
        let rows = rows(embeddings, chunk);
        let near_kept = match &kept[..] {
            [] => vec![false; chunk.len()],
            kept => nearest(&rows.matmul(&self::rows(embeddings, kept).tr())),
        };
        let among = to_f32(&rows.matmul(&rows.tr()));
        let mut new: Vec<usize> = Vec::new();
        for place in (0..chunk.len()).filter(|&place| !near_kept[place]) {
            if new.iter().all(|other| among[place * chunk.len() + other] < NEAR) {
                new.push(place);
            }
        }
        kept.extend(new.into_iter().map(|place| chunk[place]));
        ctx.reporter.advance(0, None)?; // a cancelled round stops here
    }
    kept.sort_unstable();
    Ok(kept)
}

/// For each row of `cosines`, whether one of them is a near-duplicate's.
fn nearest(cosines: &Tensor) -> Vec<bool> {
    to_f32(&cosines.amax([-1i64].as_slice(), false)).into_iter().map(|cosine| cosine >= NEAR).collect()
}

/// The rows of `tensor` at these positions.
pub fn rows(tensor: &Tensor, positions: &[usize]) -> Tensor {
    let positions: Vec<i64> = positions.iter().map(|&position| position as i64).collect();
    tensor.index_select(0, &Tensor::from_slice(&positions).to_device(tensor.device()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Bench;

    /// Points on the unit circle at these angles, radians.
    fn circle(angles: &[f32]) -> Tensor {
        let points: Vec<f32> = angles.iter().flat_map(|angle| [angle.cos(), angle.sin()]).collect();
        Tensor::from_slice(&points).view([-1, 2])
    }

    fn kept(angles: &[f32], given: &[Option<usize>]) -> Vec<usize> {
        distinct(&circle(angles), given, &mut Bench::new(1).train_context().borrow()).unwrap()
    }

    #[test]
    fn the_first_of_near_duplicates_is_kept() {
        let near = NEAR.acos() * 0.9;
        assert_eq!(kept(&[0.0, near, 2.0 * near, 2.0, near], &[None; 5]), [0, 2, 3]);
        assert_eq!(kept(&[], &[]), [0usize; 0]);
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
}
