//! What a camera does to all its pictures: the shifts of `bench adapt`.
//!
//! All numbers are [choice]; they were fixed before anything was measured with them, and are the same for every set.

use anyhow::Context;
use image::{Rgb, RgbImage, imageops};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shift {
    /// The pictures as they are.
    Clean,
    /// A third of the light, under warm lamps, with the noise of a small sensor.
    Night,
    /// Out of focus: a Gaussian of 1/32 of the short side.
    Blur,
}

/// Light that reaches the sensor at night, divided by that in daylight, by channel.
const NIGHT_LIGHT: [f32; 3] = [0.35, 0.3, 0.22];
/// Standard deviation of the noise in darkness, and variance per unit of light; in linear light, where white is 1.
const READ_NOISE: f32 = 0.004;
const SHOT_NOISE: f32 = 0.003;
/// Standard deviation of the defocus, divided by the short side.
const DEFOCUS: f32 = 1.0 / 32.0;

impl Shift {
    pub fn name(self) -> &'static str {
        match self {
            Shift::Clean => "clean",
            Shift::Night => "night",
            Shift::Blur => "blur",
        }
    }

    /// Reads the picture at `from`, and writes it as this camera sees it to `to`, a PNG. The noise depends only on the
    /// picture and `copy`, which is 0 for the picture itself; other numbers give pictures of the same scene a moment
    /// later.
    pub fn photograph(self, from: &Path, copy: u32, to: &Path) -> anyhow::Result<()> {
        let bytes = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
        let mut picture =
            image::load_from_memory(&bytes).with_context(|| format!("decoding {}", from.display()))?.into_rgb8();
        let mut seed = Sha256::new_with_prefix(&bytes);
        if copy > 0 {
            seed.update(copy.to_le_bytes());
        }
        let mut rng = ChaCha8Rng::from_seed(seed.finalize().into());
        if copy > 0 {
            picture = a_moment_later(&picture, &mut rng);
        }
        let seen = match self {
            Shift::Clean => picture,
            Shift::Night => night(&picture, &mut rng),
            Shift::Blur => {
                let short = picture.width().min(picture.height()) as f32;
                imageops::blur(&picture, short * DEFOCUS)
            }
        };
        seen.save(to).with_context(|| format!("writing {}", to.display()))
    }
}

/// The same scene in light that differs by up to 3 %, with sensor noise of its own: standard deviation 2 of 255.
fn a_moment_later(picture: &RgbImage, rng: &mut ChaCha8Rng) -> RgbImage {
    let noise = Normal::new(0.0f32, 2.0).expect("a positive deviation");
    let light = rng.random_range(0.97..1.03f32);
    let mut seen = picture.clone();
    for value in seen.iter_mut() {
        *value = (f32::from(*value) * light + noise.sample(rng)).round().clamp(0.0, 255.0) as u8;
    }
    seen
}

fn night(picture: &RgbImage, rng: &mut ChaCha8Rng) -> RgbImage {
    let noise = Normal::new(0.0f32, 1.0).expect("a positive deviation");
    let mut seen = picture.clone();
    for Rgb(channels) in seen.pixels_mut() {
        for (value, light) in channels.iter_mut().zip(NIGHT_LIGHT) {
            let light = to_linear(f32::from(*value) / 255.0) * light;
            let deviation = (READ_NOISE * READ_NOISE + SHOT_NOISE * light).sqrt();
            let sensed = (light + deviation * noise.sample(rng)).clamp(0.0, 1.0);
            *value = (to_srgb(sensed) * 255.0).round() as u8;
        }
    }
    seen
}

/// The inverse transfer function of sRGB (IEC 61966-2-1).
fn to_linear(v: f32) -> f32 {
    if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
}

fn to_srgb(v: f32) -> f32 {
    if v <= 0.0031308 { v * 12.92 } else { 1.055 * v.powf(1.0 / 2.4) - 0.055 }
}

#[cfg(test)]
mod tests;
