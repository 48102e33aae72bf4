//! The surfaces of parts: colour, gloss and their name.

use rand::Rng;

/// A surface and its shading.
#[derive(Clone, Copy, Debug)]
pub struct Finish {
    pub name: &'static str,
    /// Colour in even light, RGB 0 to 1.
    base: [f32; 3],
    /// How close highlights are to white; 0 to 1.
    gloss: f32,
}

const FINISHES: [Finish; 9] = [
    Finish { name: "steel", base: [0.50, 0.53, 0.57], gloss: 0.9 },
    Finish { name: "zinc", base: [0.72, 0.73, 0.74], gloss: 0.6 },
    Finish { name: "brass", base: [0.74, 0.58, 0.22], gloss: 0.8 },
    Finish { name: "copper", base: [0.72, 0.41, 0.26], gloss: 0.8 },
    Finish { name: "black", base: [0.15, 0.15, 0.17], gloss: 0.4 },
    Finish { name: "red", base: [0.70, 0.14, 0.12], gloss: 0.5 },
    Finish { name: "blue", base: [0.13, 0.28, 0.62], gloss: 0.5 },
    Finish { name: "green", base: [0.13, 0.45, 0.26], gloss: 0.5 },
    Finish { name: "yellow", base: [0.88, 0.70, 0.10], gloss: 0.5 },
];

impl Finish {
    /// A random finish; metal is twice as frequent as paint.
    pub fn random(rng: &mut impl Rng) -> Self {
        let metals = 5;
        let at =
            if rng.random_bool(0.67) { rng.random_range(0..metals) } else { rng.random_range(metals..FINISHES.len()) };
        let mut finish = FINISHES[at];
        let change = rng.random_range(0.88..1.12);
        finish.base = finish.base.map(|channel| (channel * change + rng.random_range(-0.02..0.02)).clamp(0.03, 0.95));
        finish
    }

    /// A finish of a given colour, for objects that are not parts.
    pub fn plain(base: [f32; 3]) -> Self {
        Self { name: "plain", base, gloss: 0.3 }
    }

    /// The colour at a tone: −1 is black, 0 the colour in even light, 1 the brightest highlight.
    pub fn shade(&self, tone: f32) -> [f32; 3] {
        let tone = tone.clamp(-1.0, 1.0);
        self.base.map(|base| if tone < 0.0 { base * (1.0 + tone) } else { base + (1.0 - base) * tone * self.gloss })
    }

    pub fn luminance(&self) -> f32 {
        luminance(self.base)
    }
}

/// Perceived brightness of a colour, 0 to 1 (Rec. 709 weights).
pub fn luminance([red, green, blue]: [f32; 3]) -> f32 {
    0.2126 * red + 0.7152 * green + 0.0722 * blue
}
