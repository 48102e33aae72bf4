//! Pictures to send: noise of several octaves, smooth where it is coarse, for which a JPEG needs as many bytes as for a
//! photograph. They are computed from numbers, so every run sends the same.

use anyhow::Context;
use clap::ValueEnum;
use coft_harness::world;
use image::RgbImage;
use rand::Rng;
use rayon::prelude::*;
use serde::Serialize;
use std::fs::{self, File};
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
pub enum Input {
    /// As large as the model reads it, at most: hardly anything to decode.
    #[value(name = "tiny")]
    #[serde(rename = "tiny")]
    Tiny,
    #[value(name = "640x480")]
    #[serde(rename = "640x480")]
    Vga,
    #[value(name = "1080p")]
    #[serde(rename = "1080p")]
    FullHd,
    #[value(name = "12mp")]
    #[serde(rename = "12mp")]
    TwelveMegapixels,
}

impl Input {
    pub fn name(self) -> &'static str {
        match self {
            Self::Tiny => "tiny",
            Self::Vga => "640x480",
            Self::FullHd => "1080p",
            Self::TwelveMegapixels => "12mp",
        }
    }

    /// Width and height, px.
    fn size(self) -> (u32, u32) {
        match self {
            Self::Tiny => (64, 64),
            Self::Vga => (640, 480),
            Self::FullHd => (1920, 1080),
            Self::TwelveMegapixels => (4032, 3024),
        }
    }
}

/// A file, and its bytes.
#[derive(Debug)]
pub struct Picture {
    pub file: File,
    pub bytes: Vec<u8>,
}

/// Number of distinct pictures of each size.
const PICTURES: u64 = 4;
const QUALITY: u8 = 88;

/// Draws the pictures of a size into `dir`.
pub fn draw(input: Input, dir: &Path) -> anyhow::Result<Vec<Picture>> {
    (0..PICTURES)
        .map(|number| {
            let bytes = world::jpeg(&photograph(input.size(), number), QUALITY);
            let path = dir.join(format!("{}-{number}.jpg", input.name()));
            fs::write(&path, &bytes).with_context(|| format!("writing {}", path.display()))?;
            Ok(Picture { file: File::open(&path)?, bytes })
        })
        .collect()
}

/// Cell of the finest octave, px.
const FINEST: usize = 2;
/// Contrast of an octave, divided by that of the next finer one.
const ROUGHNESS: f32 = 1.25;
/// Standard deviation of the brightness, on the scale 0 to 255.
const CONTRAST: f32 = 50.0;

/// Brightness contains every octave, colour only the coarse ones.
fn photograph((width, height): (u32, u32), number: u64) -> RgbImage {
    let (w, h) = (width as usize, height as usize);
    let octaves = (w.max(h) / FINEST).ilog2() as usize;
    let mut rng = world::random(0x5e12e, number);
    let mut noise = |finest: usize| -> Vec<Lattice> {
        (finest..octaves)
            .map(|octave| {
                let cell = FINEST << octave;
                let (columns, rows) = (w / cell + 2, h / cell + 2);
                let contrast = ROUGHNESS.powi(octave as i32);
                let values = (0..columns * rows).map(|_| rng.random_range(-contrast..contrast)).collect();
                Lattice { cell, columns, values }
            })
            .collect()
    };
    let coarse = octaves.saturating_sub(4);
    let (brightness, colour) = (noise(0), [noise(coarse), noise(coarse), noise(coarse)]);
    // A value of an octave has the variance c²/3; after linear interpolation it is 4/9 of that.
    let variance = (0..octaves).map(|octave| ROUGHNESS.powi(2 * octave as i32)).sum::<f32>() * 4.0 / 27.0;
    let scale = CONTRAST / variance.sqrt();
    let mut pixels = vec![0; w * h * 3];
    pixels.par_chunks_exact_mut(w * 3).enumerate().for_each(|(y, row)| {
        for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
            let sum = |octaves: &[Lattice]| octaves.iter().map(|octave| octave.at(x, y)).sum::<f32>();
            let grey = sum(&brightness);
            for (value, colour) in pixel.iter_mut().zip(&colour) {
                *value = (118.0 + scale * (grey + 0.5 * sum(colour))) as u8; // saturates like a sensor
            }
        }
    });
    RgbImage::from_raw(width, height, pixels).expect("three values a pixel")
}

/// Random values on a grid, interpolated linearly.
struct Lattice {
    /// Distance between grid points, px.
    cell: usize,
    columns: usize,
    values: Vec<f32>,
}

impl Lattice {
    fn at(&self, x: usize, y: usize) -> f32 {
        let (column, row) = (x / self.cell, y / self.cell);
        let part = |position: usize| (position % self.cell) as f32 / self.cell as f32;
        let (right, down) = (part(x), part(y));
        let corner = row * self.columns + column;
        let along = |i: usize| self.values[i] + right * (self.values[i + 1] - self.values[i]);
        let (above, below) = (along(corner), along(corner + self.columns));
        above + down * (below - above)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes per pixel of a camera's JPEG: 0.15 to 0.5 at this quality.
    #[test]
    fn a_picture_weighs_what_a_photograph_does_and_is_the_same_every_time() {
        for input in [Input::Vga, Input::FullHd] {
            let (w, h) = input.size();
            let picture = photograph((w, h), 1);
            let weight = world::jpeg(&picture, QUALITY).len() as f64 / f64::from(w * h);
            assert!((0.15..0.5).contains(&weight), "{input:?} has {weight} bytes a pixel");
            assert_eq!(picture, photograph((w, h), 1));
            assert_ne!(picture, photograph((w, h), 2));
        }
    }
}
