//! Which images of a pool are near-duplicates: a still camera sends the same scene again and again.
//!
//! Images are compared as small grey thumbnails, which have little of a sensor's noise and are no model's opinion. N
//! images of the pool, D pixels of a thumbnail.

use crate::clip::{places, rows, to_f32};
use crate::error::RoundError;
use crate::fit::TrainContext;
use crate::pool::Pool;
use crate::predict::SCORING_BATCH;
use coft_core::near_duplicates::NearDuplicates;
use coft_core::spec::PoolImage;
use tch::{Kind, Tensor, no_grad};

/// Images whose thumbnails have at least this correlation are near-duplicates; −1 to 1. 0.99 [measurement,
/// docs/decisions/0028].
const NEAR: f32 = 0.99;
/// Side of a thumbnail, pixels. 12 [measurement, docs/decisions/0028].
const SIDE: i64 = 12;
/// Least length of a thumbnail about its mean, in the units of normalised pixels, of which a grey level of 255 has
/// 0.015: below it are rounding errors.
const CONTRAST: f64 = 1e-3;
/// Weights of red, green and blue in grey (ITU-R BT.601).
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];
/// Name of the result in the journal, and of its tensor.
const STANDING: &str = "standing";

/// Which images of a pool stand for which.
#[derive(Debug, PartialEq)]
pub struct Standing(Vec<usize>);

impl Standing {
    /// Finds the near-duplicates. The first of them stands for the others, unless the user labelled one: images that
    /// the user labelled all stand for themselves, and for those that look like them.
    ///
    /// `given` are the user's own labels [N]. The result is kept in the journal: all that the round saves later is of
    /// the images that stand, and another processor may round a correlation differently.
    pub fn of(pool: &Pool, given: &[Option<usize>], ctx: &mut TrainContext) -> Result<Self, RoundError> {
        if let Some(saved) = ctx.journal.result(STANDING).and_then(|mut named| named.remove(STANDING)) {
            return Ok(Self(places(&saved)));
        }
        let found = found(&thumbnails(pool), given);
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

/// The images as grey thumbnails less their mean, of length 1: the product of two is their correlation, which does not
/// depend on exposure. An image of a single colour has a thumbnail of zeros, or of rounding errors. [N, D]
fn thumbnails(pool: &Pool) -> Tensor {
    no_grad(|| {
        let grey = |chunk: &[usize]| {
            let images = pool.batch(chunk).to_kind(Kind::Float);
            let luma = Tensor::from_slice(&LUMA).to_device(images.device()).view([1, 3, 1, 1]);
            (images * luma).sum_dim_intlist(1, true, Kind::Float).adaptive_avg_pool2d([SIDE, SIDE]).flatten(1, -1)
        };
        let grey: Vec<Tensor> = pool.everything().chunks(SCORING_BATCH).map(grey).collect();
        if grey.is_empty() {
            return Tensor::zeros([0, SIDE * SIDE], (Kind::Float, tch::Device::Cpu));
        }
        let grey = Tensor::cat(&grey, 0);
        let about_mean = &grey - grey.mean_dim(-1, true, Kind::Float);
        let length = about_mean.norm_scalaropt_dim(2.0, -1, true);
        about_mean / length.clamp_min(CONTRAST)
    })
}

/// For each image the position of the one that stands for it. `thumbnails` are those of [`thumbnails`]. [N]
fn found(thumbnails: &Tensor, given: &[Option<usize>]) -> Vec<usize> {
    let mut standing: Vec<usize> = (0..given.len()).collect();
    let (mut kept, others): (Vec<usize>, Vec<usize>) = (0..given.len()).partition(|&image| given[image].is_some());
    for chunk in others.chunks(SCORING_BATCH) {
        let of_chunk = rows(thumbnails, chunk);
        let near_kept = match &kept[..] {
            [] => vec![None; chunk.len()],
            kept => nearest(&of_chunk.matmul(&rows(thumbnails, kept).tr())),
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

/// For each row of `correlations` the position of the largest, if it is a near-duplicate's.
fn nearest(correlations: &Tensor) -> Vec<Option<usize>> {
    let (largest, positions) = correlations.nan_to_num(-1.0, None, None).max_dim(-1, false);
    to_f32(&largest)
        .into_iter()
        .zip(places(&positions))
        .map(|(correlation, at)| (correlation >= NEAR).then_some(at))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Bench;
    use image::{Rgb, RgbImage};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, Normal};

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
        assert_eq!(
            standing(&[f32::NAN, 0.0, f32::NAN, 1.0], &[None; 4]),
            [0, 1, 2, 3],
            "what no correlation tells stays"
        );
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
    fn a_scene_is_known_in_other_light_and_under_the_noise_of_a_sensor() {
        const NOISE: f32 = 12.0; // standard deviation, of 255
        let mut bench = Bench::new(1);
        let count = bench.images.len();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let noise = Normal::new(0.0, NOISE).unwrap();
        for (number, light) in (0..count).zip([0.6f32, 1.3].into_iter().cycle()) {
            let mut image = bench.images[number].clone();
            let mut picture = image::open(&image.path).unwrap().into_rgb8();
            picture.iter_mut().for_each(|value| *value = (f32::from(*value) * light + noise.sample(&mut rng)) as u8);
            image.path = image.path.with_extension("later.png");
            picture.save(&image.path).unwrap();
            bench.images.push(image);
        }
        let found = found(&thumbnails(&bench.pool()), &vec![None; 2 * count]);
        assert_eq!(found, (0..count).chain(0..count).collect::<Vec<_>>());
    }

    #[test]
    fn pictures_of_a_single_colour_look_like_no_others() {
        let mut bench = Bench::new(1);
        for (image, level) in bench.images.iter().zip([0, 0, 90, 255].into_iter().cycle()) {
            RgbImage::from_pixel(40, 30, Rgb([level; 3])).save(&image.path).unwrap();
        }
        bench.images.truncate(4);
        assert_eq!(found(&thumbnails(&bench.pool()), &[None; 4]), [0, 1, 2, 3]);
    }

    #[test]
    fn a_round_that_goes_on_has_the_images_that_it_had() {
        let bench = Bench::new(1);
        let (mut ctx, pool) = (bench.train_context(), bench.pool());
        let first = Standing::of(&pool.only(&[0, 0, 1]), &[None; 3], &mut ctx.borrow()).unwrap();
        let again = Standing::of(&pool.only(&[0, 1, 2]), &[None; 3], &mut ctx.borrow());
        assert_eq!((first, again.unwrap()), (Standing(vec![0, 0, 2]), Standing(vec![0, 0, 2])));
    }
}
