//! The domain shift: pictures of the same parts by an inspection camera. All effects are defined here, each by a
//! number.

use super::film::Film;
use super::scene::Scene;
use super::{Random, clutter};
use image::RgbImage;
use rand::Rng;
use std::f32::consts::TAU;
use std::ops::RangeInclusive;

/// What a camera does to a scene. From each range, one value is drawn uniformly per picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Camera {
    /// Additional in-plane rotation of the part, ± degrees.
    pub rotation_degrees: f32,
    /// Size of the part, divided by its size in the studio.
    pub size: RangeInclusive<f32>,
    /// Largest number of scraps around the part.
    pub scraps: u32,
    /// Size of a scrap, divided by half the short side.
    pub scrap_size: f32,
    /// Share of the pictures with a cable behind the part.
    pub cable: f64,
    /// Share of the pictures where a cable or an edge covers some of the part.
    pub occlusion: f64,
    /// Light that reaches the sensor, divided by that in the studio.
    pub exposure: RangeInclusive<f32>,
    /// Contrast around the middle, divided by that in the studio.
    pub contrast: RangeInclusive<f32>,
    /// Loss of light towards the corners; 0 none, 1 all of it.
    pub vignette: f32,
    /// Decrease of light from one side to the other; 0 none, 1 down to nothing.
    pub unevenness: f32,
    /// Colour of the lamps, RGB; the largest channel is 1.
    pub lamp: [f32; 3],
    /// How much of the lamps' colour reaches the picture; 0 none, 1 all.
    pub cast: RangeInclusive<f32>,
    /// Share of the pictures with a spot of glare.
    pub glare: f64,
    /// Standard deviation of the defocus, divided by the short side.
    pub defocus: RangeInclusive<f32>,
    /// Share of the pictures with motion blur.
    pub moving: f64,
    /// Length of the motion blur, divided by the short side.
    pub motion: f32,
    /// Standard deviation of the sensor's noise in darkness, and the additional one at full light; pixel values are 0
    /// to 1.
    pub read_noise: f32,
    pub shot_noise: f32,
    /// Sides of a picture: the long side in px, and the short side divided by the long one.
    pub long_side_px: RangeInclusive<u32>,
    pub aspect: RangeInclusive<f32>,
    /// Quality of the JPEG files.
    pub quality: RangeInclusive<u8>,
}

impl Camera {
    /// A fixed camera over a conveyor under sodium lamps at night, with the same effects in every picture. All numbers
    /// [choice], set so that the demo model's zero-shot accuracy is between 45 and 75 %; see
    /// `docs/decisions/0003-camera-and-demo-model.md`.
    pub const NIGHT_SHIFT: Self = Self {
        rotation_degrees: 25.0,
        size: 0.85..=1.0,
        scraps: 2,
        scrap_size: 0.2,
        cable: 0.2,
        occlusion: 0.15,
        exposure: 0.7..=0.8,
        contrast: 0.7..=0.8,
        vignette: 0.5,
        unevenness: 0.45,
        lamp: [1.0, 0.74, 0.42],
        cast: 0.5..=0.6,
        glare: 0.3,
        defocus: 0.012..=0.016,
        moving: 0.4,
        motion: 0.05,
        read_noise: 0.025,
        shot_noise: 0.05,
        long_side_px: 144..=176,
        aspect: 0.72..=0.9,
        quality: 50..=70,
    };

    /// Photographs a scene, in a given size.
    pub fn photograph(&self, scene: &Scene, rng: &mut Random, width: u32, height: u32) -> RgbImage {
        let frame = (width, height);
        let mut pose = scene.pose();
        pose.rotation += symmetric(rng, self.rotation_degrees.to_radians());
        pose.scale *= rng.random_range(self.size.clone());
        let scraps = rng.random_range(0..=self.scraps);
        let cable = rng.random_bool(self.cable);
        let covered = rng.random_bool(self.occlusion);
        let mut below = rng.clone();
        let mut above = rng.clone();
        below.set_stream(rng.get_stream() | BELOW);
        above.set_stream(rng.get_stream() | ABOVE);
        let under = |canvas: &mut _| {
            for _ in 0..scraps {
                clutter::scrap(canvas, frame, self.scrap_size * below.random_range(0.5..1.0), &mut below);
            }
            if cable {
                let distance = below.random_range(0.2..0.9);
                clutter::cable(canvas, frame, distance, 0.09, &mut below);
            }
        };
        let over = |canvas: &mut _| {
            if covered && above.random_bool(0.5) {
                let distance = above.random_range(0.1..0.6);
                clutter::cable(canvas, frame, distance, above.random_range(0.07..0.14), &mut above);
            } else if covered {
                clutter::edge(canvas, frame, above.random_range(0.4..0.8), &mut above);
            }
        };
        let mut film = scene.expose(&pose, width, height, under, over);
        self.light(&mut film, rng);
        self.lens(&mut film, rng);
        film.noise(self.read_noise, self.shot_noise, rng);
        film.develop()
    }

    /// A random picture size of this camera, px, wider than high.
    pub fn size_px(&self, rng: &mut Random) -> (u32, u32) {
        let long = rng.random_range(self.long_side_px.clone());
        (long, (long as f32 * rng.random_range(self.aspect.clone())).round() as u32)
    }

    fn light(&self, film: &mut Film, rng: &mut Random) {
        let exposure = rng.random_range(self.exposure.clone());
        let contrast = rng.random_range(self.contrast.clone());
        let vignette = self.vignette * rng.random_range(0.5..1.0);
        let fall = self.unevenness * rng.random_range(0.3..1.0);
        let (sin, cos) = rng.random_range(0.0..TAU).sin_cos();
        let cast = rng.random_range(self.cast.clone());
        let lamp = self.lamp.map(|channel| exposure * (1.0 + (channel - 1.0) * cast));
        let glare = rng.random_bool(self.glare).then(|| {
            let place = [symmetric(rng, 0.9), symmetric(rng, 0.9)];
            (place, rng.random_range(0.12..0.35), rng.random_range(0.2..0.5))
        });
        film.each(|[x, y], pixel| {
            let corner = 1.0 - vignette * ((x * x + y * y) / 2.0).min(1.0);
            let side = 1.0 - fall * (0.5 + 0.5 * (x * cos + y * sin)).clamp(0.0, 1.0);
            let spot = glare.map_or(0.0, |([left, top], radius, strength): ([f32; 2], f32, f32)| {
                strength * (-((x - left).powi(2) + (y - top).powi(2)) / (radius * radius)).exp()
            });
            let mut out = pixel;
            for (channel, lamp) in out.iter_mut().zip(lamp) {
                *channel = (0.45 + (*channel - 0.45) * contrast) * corner * side * lamp + spot * lamp;
            }
            out
        });
    }

    fn lens(&self, film: &mut Film, rng: &mut Random) {
        let short = film.short_side();
        film.defocus(short * rng.random_range(self.defocus.clone()));
        if rng.random_bool(self.moving) {
            let length = short * self.motion * rng.random_range(0.4..1.0);
            film.motion(length, rng.random_range(0.0..TAU));
        }
    }
}

/// Separate random streams for clutter below and above the part, so that more clutter below does not change the clutter
/// above.
const BELOW: u64 = 1 << 62;
const ABOVE: u64 = 1 << 63;

fn symmetric(rng: &mut Random, reach: f32) -> f32 {
    if reach > 0.0 { rng.random_range(-reach..reach) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{PARTS, jpeg, random};

    #[test]
    fn a_seed_is_a_photograph_that_decodes() {
        let camera = Camera::NIGHT_SHIFT;
        for part in 0..PARTS.len() {
            let photograph = || {
                let mut rng = random(3, part as u64);
                let scene = Scene::random(part, &mut rng);
                let (width, height) = camera.size_px(&mut rng);
                jpeg(&camera.photograph(&scene, &mut rng, width, height), 60)
            };
            let file = photograph();
            assert_eq!(file, photograph());
            let decoded = coft_vision::decode(&file).unwrap();
            assert_eq!(decoded.format, "JPEG");
            assert!(decoded.pixels.width() > decoded.pixels.height());
        }
    }

    #[test]
    fn the_night_is_darker_and_warmer_than_the_studio() {
        let (mut studio, mut night) = ([0.0f64; 3], [0.0f64; 3]);
        for stream in 0..60 {
            let mut rng = random(4, stream);
            let scene = Scene::random(stream as usize % PARTS.len(), &mut rng);
            for (sum, picture) in [
                (&mut studio, scene.studio(&mut rng, 96)),
                (&mut night, Camera::NIGHT_SHIFT.photograph(&scene, &mut rng, 96, 96)),
            ] {
                for pixel in picture.pixels() {
                    sum.iter_mut().zip(pixel.0).for_each(|(sum, value)| *sum += f64::from(value));
                }
            }
        }
        assert!(night[0] < 0.8 * studio[0], "{night:?} {studio:?}");
        assert!(night[2] / night[0] < 0.95 * studio[2] / studio[0], "{night:?} {studio:?}");
    }
}
