//! Tests the cameras with pictures for which the result is known.

use super::*;
use std::f32::consts::TAU;
use tempfile::TempDir;

/// The files that the camera makes of `picture` in two runs.
fn twice(shift: Shift, picture: &RgbImage) -> [Vec<u8>; 2] {
    photographs(shift, picture, [0, 0])
}

/// The files that the camera makes of these copies of `picture`.
fn photographs(shift: Shift, picture: &RgbImage, copies: [u32; 2]) -> [Vec<u8>; 2] {
    let dir = TempDir::new().unwrap();
    let from = dir.path().join("from.png");
    picture.save(&from).unwrap();
    copies.map(|copy| {
        let to = dir.path().join("to.png");
        shift.photograph(&from, copy, &to).unwrap();
        fs::read(to).unwrap()
    })
}

fn seen(shift: Shift, picture: &RgbImage) -> RgbImage {
    image::load_from_memory(&twice(shift, picture)[0]).unwrap().into_rgb8()
}

fn flat(level: u8) -> RgbImage {
    RgbImage::from_pixel(64, 64, Rgb([level; 3]))
}

/// Vertical stripes with a sine profile.
fn stripes(width: u32, height: u32, period_px: f32) -> RgbImage {
    let level = |x: u32| (127.5 + AMPLITUDE * (TAU * x as f32 / period_px).sin()).round() as u8;
    RgbImage::from_fn(width, height, |x, _| Rgb([level(x); 3]))
}

const AMPLITUDE: f32 = 100.0;

#[test]
fn a_picture_is_always_seen_alike() {
    for shift in [Shift::Clean, Shift::Night, Shift::Blur] {
        let [first, second] = twice(shift, &stripes(40, 30, 8.0));
        assert!(first == second, "{shift:?}");
    }
}

#[test]
fn two_pictures_have_noise_of_their_own() {
    let (one, other) = (seen(Shift::Night, &flat(128)), seen(Shift::Night, &flat(129)));
    // With the same noise in both, the difference would be a level or two.
    assert!(one.iter().zip(other.iter()).any(|(a, b)| a.abs_diff(*b) > 10));
}

#[test]
fn clean_leaves_every_pixel() {
    let picture = stripes(40, 30, 8.0);
    assert_eq!(seen(Shift::Clean, &picture), picture);
}

/// Mean and variance of one channel in linear light.
fn mean_and_variance(picture: &RgbImage, channel: usize) -> [f32; 2] {
    let light: Vec<f32> = picture.pixels().map(|pixel| to_linear(f32::from(pixel[channel]) / 255.0)).collect();
    let mean = |values: &[f32]| values.iter().sum::<f32>() / values.len() as f32;
    let around = mean(&light);
    [around, mean(&light.iter().map(|value| (value - around).powi(2)).collect::<Vec<_>>())]
}

#[test]
fn a_moment_later_the_sensor_has_other_noise() {
    let [first, second] =
        photographs(Shift::Night, &flat(200), [1, 2]).map(|file| image::load_from_memory(&file).unwrap().into_rgb8());
    // With the same noise of the sensor in both, they would differ by the light, up to 7 levels, and a little noise.
    assert!(first.iter().zip(second.iter()).any(|(a, b)| a.abs_diff(*b) > 25));
}

#[test]
fn night_takes_light_and_brings_noise() {
    // Computed by hand: grey 128 is 0.2159 in linear light; the night leaves 0.35, 0.3 and 0.22 of it. The variances
    // are 0.004² + 0.003 times that light.
    let white = [[0.35, 1.066e-3], [0.3, 9.16e-4], [0.22, 6.76e-4]];
    let grey = [[0.07556, 2.427e-4], [0.06477, 2.103e-4], [0.0475, 1.585e-4]];
    // At least three standard errors of 4096 draws.
    const OF_MEAN: f32 = 0.015;
    const OF_VARIANCE: f32 = 0.1;
    const OF_DARKNESS: f32 = 0.1;
    for (level, expected) in [(255, white), (128, grey)] {
        let night = seen(Shift::Night, &flat(level));
        for (channel, [mean, variance]) in expected.into_iter().enumerate() {
            let [of_mean, of_variance] = mean_and_variance(&night, channel);
            assert!((of_mean / mean - 1.0).abs() < OF_MEAN, "{level} {channel}: mean {of_mean}");
            assert!((of_variance / variance - 1.0).abs() < OF_VARIANCE, "{level} {channel}: variance {of_variance}");
        }
    }
    // Only the brighter half of the noise in darkness is visible; its mean is 0.004/√(2π).
    let darkness = seen(Shift::Night, &flat(0));
    for channel in 0..3 {
        let [mean, _] = mean_and_variance(&darkness, channel);
        assert!((mean / 1.596e-3 - 1.0).abs() < OF_DARKNESS, "{channel}: darkness {mean}");
    }
}

#[test]
fn blur_takes_fine_stripes_and_leaves_broad_ones() {
    // The share of a sine's amplitude after a Gaussian: exp(−2π²σ²/period²), with σ = 2 px for a short side of 64.
    const TOLERANCE: f32 = 0.03;
    for (period_px, left) in [(4.0, 0.007), (8.0, 0.291), (16.0, 0.735), (32.0, 0.926)] {
        let blurred = seen(Shift::Blur, &stripes(128, 64, period_px));
        // One row, away from the edges.
        let row: Vec<f32> = (32..96).map(|x| f32::from(blurred.get_pixel(x, 32)[0])).collect();
        let ends = row.iter().copied().fold([f32::MAX, f32::MIN], |[low, high], v| [low.min(v), high.max(v)]);
        let found = (ends[1] - ends[0]) / (2.0 * AMPLITUDE);
        assert!((found - left).abs() < TOLERANCE, "a period of {period_px} px: {found}");
    }
    assert_eq!(seen(Shift::Blur, &flat(128)), flat(128));
}
