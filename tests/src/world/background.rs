//! The surfaces that parts lie on.

use super::finish::luminance;
use rand::Rng;

#[derive(Clone, Debug)]
pub struct Background {
    kind: Kind,
    colour: [f32; 3],
    /// The phrase for captions: `on a white background`.
    pub phrase: &'static str,
    /// Direction of grain and gradients, rad.
    angle: f32,
    /// Size of the texture; 1 is usual.
    grain: f32,
    seed: u32,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Plain,
    Gradient,
    Wood,
    Brushed,
    Speckled,
}

const PLAIN: [([f32; 3], &str); 6] = [
    ([0.93, 0.93, 0.92], "on a white background"),
    ([0.62, 0.63, 0.64], "on a grey background"),
    ([0.12, 0.12, 0.13], "on a dark background"),
    ([0.30, 0.45, 0.66], "on a blue background"),
    ([0.35, 0.55, 0.40], "on a green background"),
    ([0.80, 0.72, 0.58], "on a beige background"),
];

impl Background {
    pub fn random(rng: &mut impl Rng) -> Self {
        let kind = match rng.random_range(0..10) {
            0..3 => Kind::Plain,
            3..5 => Kind::Gradient,
            5..7 => Kind::Wood,
            7 => Kind::Brushed,
            _ => Kind::Speckled,
        };
        let (colour, phrase) = match kind {
            Kind::Plain | Kind::Gradient => PLAIN[rng.random_range(0..PLAIN.len())],
            Kind::Wood => ([0.58, 0.42, 0.27], "on a wooden table"),
            Kind::Brushed => ([0.60, 0.61, 0.62], "on brushed metal"),
            Kind::Speckled => {
                let dark = rng.random_bool(0.5);
                (if dark { [0.30, 0.30, 0.31] } else { [0.68, 0.66, 0.63] }, "on a concrete floor")
            }
        };
        let change = rng.random_range(0.85..1.1);
        Self {
            kind,
            colour: colour.map(|channel| (channel * change).min(0.97)),
            phrase,
            angle: rng.random_range(0.0..std::f32::consts::TAU),
            grain: rng.random_range(0.7..1.5),
            seed: rng.random(),
        }
    }

    pub fn luminance(&self) -> f32 {
        luminance(self.colour)
    }

    /// The colour at a position. The frame's short side goes from −1 to 1.
    pub fn at(&self, x: f32, y: f32) -> [f32; 3] {
        let (sin, cos) = self.angle.sin_cos();
        let (along, across) = (x * cos + y * sin, y * cos - x * sin);
        let level = match self.kind {
            Kind::Plain => 1.0,
            Kind::Gradient => 1.0 + 0.28 * across,
            Kind::Wood => {
                let place = across * 1.6 * self.grain;
                let plank = place.floor();
                let wave = (across * 17.0 * self.grain + 1.6 * (along * 2.1 + plank * 5.0).sin()).sin();
                let joint = (1.0 - (place - plank) / 0.08).max(0.0);
                0.95 + 0.11 * wave + 0.14 * (self.hash(plank as i32, 7) - 0.5) - 0.5 * joint
            }
            Kind::Brushed => {
                let place = across * 34.0 * self.grain;
                let (row, part) = (place.floor() as i32, place - place.floor());
                let line = self.hash(row, 0) * (1.0 - part) + self.hash(row + 1, 0) * part;
                0.9 + 0.24 * line
            }
            Kind::Speckled => {
                let cell = 26.0 / self.grain;
                let fine = self.hash((along * cell).floor() as i32, (across * cell).floor() as i32);
                0.9 + 0.2 * fine
                    + if fine > 0.93 {
                        0.25
                    } else if fine < 0.06 {
                        -0.3
                    } else {
                        0.0
                    }
            }
        };
        self.colour.map(|channel| (channel * level).clamp(0.0, 1.0))
    }

    /// The random number of a cell, 0 to 1, always the same.
    fn hash(&self, column: i32, row: i32) -> f32 {
        let mut h = self.seed ^ (column as u32).wrapping_mul(0x9e37_79b1) ^ (row as u32).wrapping_mul(0x85eb_ca77);
        h = (h ^ (h >> 15)).wrapping_mul(0x2c1b_3c6d);
        h = (h ^ (h >> 12)).wrapping_mul(0x297a_2d39);
        (h ^ (h >> 15)) as f32 / u32::MAX as f32
    }
}
