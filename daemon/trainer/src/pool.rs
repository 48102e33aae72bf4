//! The images of a round, delivered as batches. They are decoded once and held as 8-bit pixels, or read from their
//! files each time where memory is too small. The batches are the same.
//!
//! If a file cannot be read in the middle of a training, the thread unwinds with its [`PoolError`], and
//! [`crate::error::RoundError::of_panic`] turns that into an error. A panic is the only way out of the closures of
//! libtorch and rayon.
//!
//! This module knows nothing of labels. B images of a batch, S image side.

use crate::random;
use coft_vision::{Preprocess, random_resized_crop};
use image::RgbImage;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rand::Rng;
use rand::seq::SliceRandom;
use rayon::prelude::*;
use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use tch::{Device, Kind, Tensor};
use thiserror::Error;

#[derive(Debug, Error)]
pub enum PoolError {
    #[error("{path}: {cause}")]
    Read { path: PathBuf, cause: std::io::Error },
    #[error("{path}: {cause}")]
    Decode { path: PathBuf, cause: coft_vision::DecodeError },
}

/// Number of a training's batches in memory at a time: one in the current step, one that waits, one that is being made.
pub const BATCHES: usize = 3;

#[derive(Debug)]
pub struct Pool<'a> {
    images: Arc<Images>,
    /// Where each image of the pool is in `images`.
    places: Vec<usize>,
    preprocess: &'a Preprocess,
    device: Device,
}

#[derive(Debug)]
enum Images {
    /// Canonical pixels of each image.
    Held(Vec<RgbImage>),
    Read(Vec<ImageFile>),
}

/// An image's file. It stays open as far as the process may have so many files open, so that the round can still read
/// an image that the daemon has evicted.
#[derive(Debug)]
struct ImageFile {
    path: PathBuf,
    file: Option<File>,
}

impl ImageFile {
    fn open(path: &Path) -> Result<Self, PoolError> {
        let path = path.to_owned();
        match File::open(&path) {
            Ok(file) => Ok(Self { path, file: Some(file) }),
            Err(cause) if cause.raw_os_error() == Some(Errno::EMFILE as i32) => Ok(Self { path, file: None }),
            Err(cause) => Err(PoolError::Read { path, cause }),
        }
    }

    fn pixels(&self, preprocess: &Preprocess) -> Result<RgbImage, PoolError> {
        let read = || -> io::Result<Vec<u8>> {
            let Some(file) = &self.file else { return std::fs::read(&self.path) };
            let mut bytes = vec![0; file.metadata()?.len() as usize];
            file.read_exact_at(&mut bytes, 0)?;
            Ok(bytes)
        };
        let bytes = read().map_err(|cause| PoolError::Read { path: self.path.clone(), cause })?;
        let decoded =
            coft_vision::decode(&bytes).map_err(|cause| PoolError::Decode { path: self.path.clone(), cause })?;
        Ok(preprocess.canonical(&decoded))
    }
}

/// Draws the batches of a training from some images of the pool. Batch k depends only on these fields and k, so that a
/// training can begin in the middle.
#[derive(Clone, Debug)]
pub struct BatchSampler<'a> {
    /// Positions in the pool.
    pub images: &'a [usize],
    pub batch: usize,
    pub crop_scale: f64,
    pub flip: bool,
    /// Augmented views per image.
    pub views: usize,
    pub seed: u64,
    /// Prefix of the names of its random streams.
    pub name: String,
}

/// One training batch.
#[derive(Debug)]
pub struct Batch {
    pub step: u32,
    /// Positions in the pool. [B]
    pub positions: Vec<usize>,
    /// One tensor per view: [B, 3, S, S].
    pub views: Vec<Tensor>,
}

impl BatchSampler<'_> {
    /// Number of images in a batch. All batches are full.
    pub fn size(&self) -> usize {
        self.batch.min(self.images.len()).max(1)
    }

    /// The epoch, from 0, in which batch `step` begins.
    pub fn epoch(&self, step: u32) -> usize {
        step as usize * self.size() / self.images.len().max(1)
    }

    /// The images of batch `step`. Every epoch visits them in its own order. The last batch of an epoch is filled up
    /// from the next epoch.
    fn positions(&self, step: u32, order: &mut Option<(usize, Vec<usize>)>) -> Vec<usize> {
        let first = step as usize * self.size();
        (first..first + self.size())
            .map(|visit| {
                let epoch = visit / self.images.len();
                if order.as_ref().is_none_or(|(of, _)| *of != epoch) {
                    let mut images = self.images.to_vec();
                    images.shuffle(&mut random::stream(self.seed, &format!("{}, order of epoch {epoch}", self.name)));
                    *order = Some((epoch, images));
                }
                order.as_ref().expect("it was just made").1[visit % self.images.len()]
            })
            .collect()
    }
}

/// Bytes that the pixels of these files take in a pool, computed from their headers. A file whose header cannot be read
/// counts as 0; loading it reports the error.
pub fn bytes(paths: &[&Path], preprocess: &Preprocess) -> u64 {
    let size = |path: &&Path| image::ImageReader::open(path).ok()?.with_guessed_format().ok()?.into_dimensions().ok();
    paths.par_iter().filter_map(size).map(|(width, height)| preprocess.canonical_bytes(width, height)).sum()
}

/// Raises this process's limit of open files to the maximum: the usual 1024 are fewer than the images of a pool.
fn allow_open_files() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

impl<'a> Pool<'a> {
    /// Decodes all images and holds their pixels.
    pub fn load(paths: &[&Path], preprocess: &'a Preprocess, device: Device) -> Result<Self, PoolError> {
        let load = |path: &&Path| ImageFile { path: path.to_path_buf(), file: None }.pixels(preprocess);
        let images = paths.par_iter().map(load).collect::<Result<_, _>>()?;
        Ok(Self::of(Images::Held(images), paths.len(), preprocess, device))
    }

    /// Prepares to read images from their files when a batch needs them. Each is decoded once here, so that a damaged
    /// one is found before the round begins.
    pub fn open(paths: &[&Path], preprocess: &'a Preprocess, device: Device) -> Result<Self, PoolError> {
        let open = |path: &&Path| {
            let image = ImageFile::open(path)?;
            image.pixels(preprocess)?;
            Ok(image)
        };
        allow_open_files();
        let images = paths.par_iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self::of(Images::Read(images), paths.len(), preprocess, device))
    }

    fn of(images: Images, count: usize, preprocess: &'a Preprocess, device: Device) -> Self {
        Self { images: Arc::new(images), places: (0..count).collect(), preprocess, device }
    }

    /// The pool of the images at these positions. It shares their pixels with this pool.
    pub fn only(&self, positions: &[usize]) -> Self {
        let places = positions.iter().map(|&position| self.places[position]).collect();
        Self { images: self.images.clone(), places, ..*self }
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    fn image(&self, position: usize) -> Cow<'_, RgbImage> {
        let place = self.places[position];
        match &*self.images {
            Images::Held(images) => Cow::Borrowed(&images[place]),
            Images::Read(files) => match files[place].pixels(self.preprocess) {
                Ok(pixels) => Cow::Owned(pixels),
                Err(error) => resume_unwind(Box::new(error)), // unwinds like a panic, without its message
            },
        }
    }

    /// All positions of the pool.
    pub fn everything(&self) -> Vec<usize> {
        (0..self.len()).collect()
    }

    /// The images as the server reads them: centre crop, normalised. → [B, 3, S, S]
    pub fn batch(&self, positions: &[usize]) -> Tensor {
        self.filled(positions.len(), |i, out| self.preprocess.tensor(&self.image(positions[i]), out))
    }

    /// Slightly different views of the images: a crop of the upper left nine tenths [choice]. → [B, 3, S, S]
    pub fn shifted(&self, positions: &[usize]) -> Tensor {
        self.filled(positions.len(), |i, out| {
            let image = &*self.image(positions[i]);
            let side = |n: u32| (n * 9 / 10).max(1);
            let window = coft_vision::Window { x: 0, y: 0, width: side(image.width()), height: side(image.height()) };
            self.preprocess.augmented(image, window, false, out);
        })
    }

    /// The images with training's random crop and without mirroring: each a random part of at least `scale` of its
    /// area, the same at every call. → [B, 3, S, S]
    pub fn cropped(&self, positions: &[usize], scale: f64) -> Tensor {
        self.filled(positions.len(), |i, out| {
            let image = &*self.image(positions[i]);
            let draws = random::stream(positions[i] as u64, "crop").random();
            let window = random_resized_crop(image.width(), image.height(), scale, draws);
            self.preprocess.augmented(image, window, false, out);
        })
    }

    /// The images of [`Pool::batch`], mirrored left to right. → [B, 3, S, S]
    pub fn mirrored(&self, positions: &[usize]) -> Tensor {
        self.batch(positions).flip([3])
    }

    /// Calls `step` with the batches `steps` in turn. A thread of its own makes them ahead and moves them to the
    /// device.
    pub fn train<E>(
        &self,
        sampler: &BatchSampler,
        steps: std::ops::Range<u32>,
        mut step: impl FnMut(Batch) -> Result<(), E>,
    ) -> Result<(), E> {
        std::thread::scope(|scope| {
            let (send, receive) = sync_channel(BATCHES - 2);
            let maker = scope.spawn(move || {
                let mut order = None;
                for step in steps {
                    let positions = sampler.positions(step, &mut order);
                    let mut rng = random::stream(sampler.seed, &format!("{}, step {step}", sampler.name));
                    let view = |_| {
                        let draws: Vec<([f32; 4], bool)> = positions.iter().map(|_| rng.random()).collect();
                        self.filled(positions.len(), |i, out| {
                            let (image, (crop, mirrored)) = (&*self.image(positions[i]), draws[i]);
                            let window = random_resized_crop(image.width(), image.height(), sampler.crop_scale, crop);
                            self.preprocess.augmented(image, window, mirrored && sampler.flip, out);
                        })
                    };
                    let views = (0..sampler.views).map(view).collect();
                    if send.send(Batch { step, positions, views }).is_err() {
                        return; // the training stopped early
                    }
                }
            });
            let done = receive.into_iter().try_for_each(&mut step);
            let made = maker.join();
            done?;
            // For example, a batch did not fit into memory.
            made.unwrap_or_else(|panic| resume_unwind(panic));
            Ok(())
        })
    }

    fn filled(&self, count: usize, fill: impl Fn(usize, &mut [f32]) + Sync) -> Tensor {
        let side = self.preprocess.crop as usize;
        // Uninitialised: if libtorch zeroed it, its threads would then wait beside those of the training.
        let images = Tensor::empty([count as i64, 3, side as i64, side as i64], (Kind::Float, Device::Cpu));
        // A GPU copies the images from pinned memory asynchronously. From any other memory, this thread and the driver
        // would wait for the copy. tch can pin memory only by copying to it.
        let images = if self.device.is_cuda() { images.internal_pin_memory(self.device) } else { images };
        // SAFETY: the tensor was just made, is contiguous, and nothing else uses it. `fill` writes every value of its
        // image and reads none.
        let pixels = unsafe { std::slice::from_raw_parts_mut(images.data_ptr().cast::<f32>(), images.numel()) };
        pixels.par_chunks_exact_mut(3 * side * side).enumerate().for_each(|(i, out)| fill(i, out));
        images.to_device_(self.device, Kind::Float, true, false)
    }
}
