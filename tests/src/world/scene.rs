//! One part in some place: everything that is visible, before a picture is taken.

use super::background::Background;
use super::canvas::{Canvas, View};
use super::film::Film;
use super::finish::Finish;
use super::parts::{self, Piece, Point};
use super::{PARTS, Random};
use image::RgbImage;
use rand::Rng;
use std::f32::consts::{PI, TAU};

/// In-plane rotation of a part in the studio, ± rad. [choice]
const ROTATION: f32 = 35.0 * PI / 180.0;
/// Radius of a part, divided by half the short side. [choice]
const SCALE: std::ops::Range<f32> = 0.6..0.92;
/// Foreshortening of the plane that a part lies in; 1 is a view from above. [choice]
const FLATTENING: std::ops::Range<f32> = 0.68..1.0;
/// Least difference in brightness between a part and its background. [choice]
const CONTRAST: f32 = 0.14;

#[derive(Clone, Debug)]
pub struct Scene {
    /// Position in [`PARTS`].
    pub part: usize,
    pieces: Vec<Piece>,
    finish: Finish,
    background: Background,
    pose: Pose,
    /// Direction of the light, rad.
    light: f32,
    /// Darkness of the shadow, 0 to 1.
    shadow: f32,
}

/// Position of a part in the frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pose {
    /// In-plane rotation, rad.
    pub rotation: f32,
    /// Radius of the part, divided by half the frame's short side.
    pub scale: f32,
    /// Centre of the part, divided by half the frame's short side.
    pub offset: Point,
    /// Foreshortening across `tilt`, rad.
    pub flattening: f32,
    pub tilt: f32,
}

impl Scene {
    /// A random specimen of a part in a random position.
    pub fn random(part: usize, rng: &mut Random) -> Self {
        let pieces = parts::build(part, rng);
        let background = Background::random(rng);
        let mut finish = Finish::random(rng);
        while (finish.luminance() - background.luminance()).abs() < CONTRAST {
            finish = Finish::random(rng);
        }
        let scale = rng.random_range(SCALE);
        let room = (1.0 - scale) * 0.9;
        let pose = Pose {
            rotation: rng.random_range(-ROTATION..ROTATION),
            scale,
            offset: [rng.random_range(-room..room), rng.random_range(-room..room)].map(|shift| shift * 0.7),
            flattening: rng.random_range(FLATTENING),
            tilt: rng.random_range(0.0..TAU),
        };
        // The light comes from above, to the left or right: with light from below, holes look like bumps.
        let light = -PI / 2.0 + rng.random_range(-1.1..1.1);
        Self { part, pieces, finish, background, pose, light, shadow: rng.random_range(0.25..0.6) }
    }

    /// The clean picture: even light, sharp, at most a little blurred, dark or grainy.
    pub fn studio(&self, rng: &mut Random, size: u32) -> RgbImage {
        let mut film = self.expose(&self.pose, size, size, |_| {}, |_| {});
        let brightness = rng.random_range(0.88..1.1);
        let contrast = rng.random_range(0.9..1.1);
        film.values.iter_mut().for_each(|value| *value = (0.5 + (*value - 0.5) * contrast) * brightness);
        if rng.random_bool(0.4) {
            film.defocus(rng.random_range(0.2..0.7) * size as f32 / 64.0);
        }
        film.noise(rng.random_range(0.0..0.015), 0.0, rng);
        film.develop()
    }

    /// A short caption, as in a catalogue or by a person.
    pub fn caption(&self, rng: &mut Random) -> String {
        let part = PARTS[self.part];
        let finish = self.finish.name;
        let place = self.background.phrase;
        match rng.random_range(0..12) {
            0..3 => format!("a photo of a {part}."),
            3 => format!("a photo of a {finish} {part}."),
            4 => format!("a photo of a {part} {place}."),
            5 => format!("a photo of a {finish} {part} {place}."),
            6 => format!("a {part}"),
            7 => format!("a {finish} {part}"),
            8 => format!("a picture of a {part}."),
            9 => format!("a close-up of a {finish} {part}."),
            10 => format!("a {finish} {part} {place}"),
            _ => part.to_owned(),
        }
    }

    pub(super) fn pose(&self) -> Pose {
        self.pose
    }

    /// Draws the part in a pose, with other objects under and over it.
    pub(super) fn expose(
        &self,
        pose: &Pose,
        width: u32,
        height: u32,
        under: impl FnOnce(&mut Canvas),
        over: impl FnOnce(&mut Canvas),
    ) -> Film {
        let mut canvas = Canvas::new(width, height, &self.background);
        under(&mut canvas);
        canvas.draw(&self.pieces, &self.view(pose, width, height));
        over(&mut canvas);
        Film { width, height, values: canvas.into_values() }
    }

    fn view(&self, pose: &Pose, width: u32, height: u32) -> View {
        let half = width.min(height) as f32 / 2.0;
        let (sin, cos) = pose.tilt.sin_cos();
        let flat = pose.flattening;
        // The visible part of one unit of thickness. The whole body, not its face, fills the frame and is centred.
        let seen = (1.0 - flat * flat).sqrt();
        let thickness = self.pieces.iter().map(Piece::thickness).fold(0.0, f32::max);
        let scale = pose.scale * half / (1.0 + 0.5 * thickness * seen);
        // Rotates by −tilt, shrinks across it, and rotates back.
        let tilted = [
            [cos * cos + flat * sin * sin, (1.0 - flat) * sin * cos],
            [(1.0 - flat) * sin * cos, sin * sin + flat * cos * cos],
        ];
        let turned = rotated(pose.rotation, tilted);
        let (sin, cos) = (pose.tilt + pose.rotation).sin_cos();
        let depth = [-sin * seen * scale, cos * seen * scale];
        let middle =
            |axis: usize, side: u32| side as f32 / 2.0 + pose.offset[axis] * half - 0.5 * thickness * depth[axis];
        View {
            linear: turned.map(|row| row.map(|value| value * scale)),
            centre: [middle(0, width), middle(1, height)],
            scale,
            depth,
            light: [self.light.cos(), self.light.sin()],
            shadow: self.shadow,
            finish: self.finish,
        }
    }
}

fn rotated(angle: f32, [first, second]: [[f32; 2]; 2]) -> [[f32; 2]; 2] {
    let (sin, cos) = angle.sin_cos();
    let combine = |a: f32, b: f32| [a * first[0] + b * second[0], a * first[1] + b * second[1]];
    [combine(cos, -sin), combine(sin, cos)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::random;

    #[test]
    fn a_seed_is_a_scene() {
        let picture = |stream| {
            let mut rng = random(7, stream);
            let scene = Scene::random(3, &mut rng);
            (scene.studio(&mut rng, 48), scene.caption(&mut rng))
        };
        assert_eq!(picture(1), picture(1));
        assert_ne!(picture(1).0, picture(2).0);
    }

    /// How much each pixel differs from the empty background, 0 to 1, without the shadow.
    fn silhouette(scene: Scene, size: u32) -> Vec<f32> {
        let empty = Canvas::new(size, size, &scene.background).into_values();
        let unlit = Scene { shadow: 0.0, ..scene };
        let film = unlit.expose(&unlit.pose, size, size, |_| {}, |_| {});
        let apart = |(a, b): (&[f32], &[f32])| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        film.values.chunks(3).zip(empty.chunks(3)).map(apart).collect()
    }

    #[test]
    fn every_part_is_in_the_frame_and_to_be_seen() {
        let size = 64;
        for (part, name) in PARTS.iter().enumerate() {
            for stream in 0..40 {
                let seen = silhouette(Scene::random(part, &mut random(8, stream)), size);
                let drawn: Vec<u32> = (0..size * size).filter(|&at| seen[at as usize] > 0.05).collect();
                let border = |at: &u32| (at % size).min(at / size) == 0 || (at % size).max(at / size) == size - 1;
                assert!(!drawn.iter().any(border), "{name} {stream} touches the border");
                assert!((200..3000).contains(&drawn.len()), "{name} {stream} covers {} px", drawn.len());
            }
        }
    }

    /// With only the mean silhouettes of the parts, new parts are recognised far better than by chance (10 %).
    #[test]
    fn parts_differ_in_shape() {
        let seen = |part: usize, stream: u64| -> Vec<f32> {
            let scene = Scene::random(part, &mut random(9, stream));
            silhouette(scene, 24).into_iter().map(|value| if value > 0.05 { 1.0 } else { 0.0 }).collect()
        };
        let (learned, tested) = (80, 20);
        let means: Vec<Vec<f32>> = (0..PARTS.len())
            .map(|part| {
                let mut mean = vec![0.0; 24 * 24];
                for stream in 0..learned {
                    mean.iter_mut().zip(seen(part, stream)).for_each(|(sum, value)| *sum += value / learned as f32);
                }
                mean
            })
            .collect();
        let mut right = 0;
        for part in 0..PARTS.len() {
            for stream in learned..learned + tested {
                let picture = seen(part, stream);
                let apart = |mean: &[f32]| mean.iter().zip(&picture).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
                let nearest = (0..PARTS.len()).min_by(|&a, &b| apart(&means[a]).total_cmp(&apart(&means[b])));
                right += u64::from(nearest == Some(part));
            }
        }
        let share = right as f64 / (tested * PARTS.len() as u64) as f64;
        assert!(share > 0.3, "mean silhouettes recognise {share} of the parts");
    }

    #[test]
    fn captions_name_the_part() {
        for (part, name) in PARTS.iter().enumerate() {
            let mut rng = random(10, part as u64);
            let scene = Scene::random(part, &mut rng);
            let captions: std::collections::BTreeSet<_> = (0..100).map(|_| scene.caption(&mut rng)).collect();
            assert!(captions.iter().all(|caption| caption.contains(name)), "{captions:?}");
            assert!(captions.len() >= 8, "{captions:?}");
        }
    }
}
