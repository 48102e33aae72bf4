//! How many images a run of the model takes, from the times that such runs take.

use std::time::Duration;

/// Most images of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batches {
    /// Beyond this number, the images per second do not increase.
    pub alone: usize,
    /// A run of so many images takes at most twice as long as a run of one. Used where several users send images,
    /// because each waits for the others' batch.
    pub shared: usize,
}

/// Doubling the images of a run must make each image faster by at least this share of its time; otherwise the longer
/// wait is not worth it. [choice]
const GAIN: f64 = 0.03;

/// The largest number of images per run that still makes each image faster: nobody should wait for other images without
/// a gain. `time` runs the model on a number of images.
pub fn batches_of<E>(most: usize, mut time: impl FnMut(usize) -> Result<Duration, E>) -> Result<Batches, E> {
    let mut least_of_two = |images: usize| -> Result<f64, E> { Ok(time(images)?.min(time(images)?).as_secs_f64()) };
    let one = least_of_two(1)?;
    let (mut batches, mut least) = (Batches { alone: 1, shared: 1 }, one);
    let mut images = 1;
    // Stops after two steps without gain, because a large model takes seconds for many images.
    while images < most && images < 4 * batches.alone {
        images = (2 * images).min(most);
        let found = least_of_two(images)?;
        let each = found / images as f64;
        if each < (1.0 - GAIN) * least {
            (batches.alone, least) = (images, each);
            if found <= 2.0 * one {
                batches.shared = images;
            }
        }
    }
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    #[test]
    fn a_batch_is_as_large_as_is_worth_it() {
        let batches = |most, milliseconds: fn(f64) -> f64| {
            let mut asked = Vec::new();
            let batches = batches_of::<Infallible>(most, |images| {
                asked.push(images);
                Ok(Duration::from_secs_f64(milliseconds(images as f64) / 1e3))
            });
            let Batches { alone, shared } = batches.unwrap();
            (alone, shared, asked.into_iter().max().unwrap())
        };
        assert_eq!(batches(16, |images| 120.0 * images), (1, 1, 4), "a large model on a CPU");
        assert_eq!(batches(16, |images| 10.0 + images), (16, 8, 16));
        assert_eq!(batches(12, |images| 10.0 + images), (12, 12, 12));
        assert_eq!(batches(1, |images| 10.0 + images), (1, 1, 1));
        assert_eq!(batches(64, |images| (5.0 * images).max(20.0)), (4, 4, 16), "a processor that is full with four");
        assert_eq!(batches(16, |images| 1.0 + 9.0 * images), (8, 2, 16), "and one that gains little");
    }
}
