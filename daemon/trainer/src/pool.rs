//! The images of a round: decoded once, kept as 8-bit pixels, handed out as batches.
//!
//! Knows nothing of labels. B images of a batch, S image side.

use crate::random;
use coft_vision::{Preprocess, random_resized_crop};
use image::RgbImage;
use rand::Rng;
use rand::seq::SliceRandom;
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use tch::{Device, Tensor};
use thiserror::Error;

#[derive(Debug, Error)]
pub enum PoolError {
    #[error("{path}: {cause}")]
    Read { path: PathBuf, cause: std::io::Error },
    #[error("{path}: {cause}")]
    Decode { path: PathBuf, cause: coft_vision::DecodeError },
}

#[derive(Debug)]
pub struct Pool<'a> {
    images: Vec<RgbImage>,
    preprocess: &'a Preprocess,
    device: Device,
}

/// A training run over some of the pool.
#[derive(Debug)]
pub struct Visits<'a> {
    /// Positions in the pool.
    pub images: &'a [usize],
    pub batch: usize,
    pub steps: u32,
    pub crop_scale: f64,
    pub flip: bool,
    pub seed: u64,
    /// Names the random stream.
    pub name: &'a str,
}

impl<'a> Pool<'a> {
    pub fn load(paths: &[&Path], preprocess: &'a Preprocess, device: Device) -> Result<Self, PoolError> {
        let load = |path: &&Path| {
            let bytes = std::fs::read(path).map_err(|cause| PoolError::Read { path: path.to_path_buf(), cause })?;
            let decoded =
                coft_vision::decode(&bytes).map_err(|cause| PoolError::Decode { path: path.to_path_buf(), cause })?;
            Ok(preprocess.canonical(&decoded))
        };
        Ok(Self { images: paths.par_iter().map(load).collect::<Result<_, _>>()?, preprocess, device })
    }

    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// The images as the server will see them: centre crop, normalised. → [B, 3, S, S]
    pub fn batch(&self, positions: &[usize]) -> Tensor {
        self.filled(positions.len(), |i, out| self.preprocess.tensor(&self.images[positions[i]], out))
    }

    /// The images seen a little differently: a crop of the upper left nine tenths, mirrored if `flip`. → [B, 3, S, S]
    pub fn shifted(&self, positions: &[usize], flip: bool) -> Tensor {
        self.filled(positions.len(), |i, out| {
            let image = &self.images[positions[i]];
            let side = |n: u32| (n * 9 / 10).max(1);
            let window = coft_vision::Window { x: 0, y: 0, width: side(image.width()), height: side(image.height()) };
            self.preprocess.augmented(image, window, flip, out);
        })
    }

    /// Calls `step` with each batch in turn: positions in the pool, and augmented pixels [B, 3, S, S].
    ///
    /// Every epoch visits the images in a new order; the last batch of an epoch is filled up from the next, so that all
    /// batches are full. Batches are made ahead on a thread of their own.
    pub fn train<E>(&self, visits: &Visits, mut step: impl FnMut(&[usize], Tensor) -> Result<(), E>) -> Result<(), E> {
        let side = self.preprocess.crop as usize;
        let size = visits.batch.min(visits.images.len()).max(1);
        std::thread::scope(|scope| {
            let (send, receive) = sync_channel::<(Vec<usize>, Vec<f32>)>(2);
            scope.spawn(move || {
                let mut rng = random::stream(visits.seed, visits.name);
                let mut order: Vec<usize> = Vec::new();
                for _ in 0..visits.steps {
                    let mut chosen = Vec::with_capacity(size);
                    while chosen.len() < size {
                        if order.is_empty() {
                            order = visits.images.to_vec();
                            order.shuffle(&mut rng);
                        }
                        chosen.extend(order.pop());
                    }
                    let mut pixels = vec![0f32; size * 3 * side * side];
                    for (&position, out) in chosen.iter().zip(pixels.chunks_exact_mut(3 * side * side)) {
                        let image = &self.images[position];
                        let draws: [f32; 4] = rng.random();
                        let mirrored = rng.random::<bool>() && visits.flip;
                        let window = random_resized_crop(image.width(), image.height(), visits.crop_scale, draws);
                        self.preprocess.augmented(image, window, mirrored, out);
                    }
                    if send.send((chosen, pixels)).is_err() {
                        return; // the training stopped early
                    }
                }
            });
            for (positions, pixels) in receive {
                let side = side as i64;
                let pixels = Tensor::from_slice(&pixels).view([-1, 3, side, side]).to_device(self.device);
                step(&positions, pixels)?;
            }
            Ok(())
        })
    }

    fn filled(&self, count: usize, fill: impl Fn(usize, &mut [f32]) + Sync) -> Tensor {
        let side = self.preprocess.crop as usize;
        let mut pixels = vec![0f32; count * 3 * side * side];
        pixels.par_chunks_exact_mut(3 * side * side).enumerate().for_each(|(i, out)| fill(i, out));
        let side = side as i64;
        Tensor::from_slice(&pixels).view([-1, 3, side, side]).to_device(self.device)
    }
}
