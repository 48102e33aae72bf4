//! A picture between drawing and saving, and the effects of optics and sensors on it.

use image::RgbImage;
use rand::RngCore;

/// RGB values, row by row, 0 to 1 when the film is finished.
pub struct Film {
    pub width: u32,
    pub height: u32,
    pub values: Vec<f32>,
}

impl Film {
    pub fn short_side(&self) -> f32 {
        self.width.min(self.height) as f32
    }

    /// Replaces every pixel. `change` gets its position, from −1 to 1 over the short side, and its colour.
    pub fn each(&mut self, mut change: impl FnMut([f32; 2], [f32; 3]) -> [f32; 3]) {
        let unit = 2.0 / self.short_side();
        let (left, top) = (self.width as f32 / 2.0, self.height as f32 / 2.0);
        for (index, pixel) in self.values.chunks_exact_mut(3).enumerate() {
            let (x, y) = (index % self.width as usize, index / self.width as usize);
            let place = [(x as f32 + 0.5 - left) * unit, (y as f32 + 0.5 - top) * unit];
            pixel.copy_from_slice(&change(place, [pixel[0], pixel[1], pixel[2]]));
        }
    }

    /// Gaussian blur with standard deviation `sigma`, px.
    pub fn defocus(&mut self, sigma: f32) {
        if sigma < 0.2 {
            return;
        }
        let reach = (2.5 * sigma).ceil() as i32;
        let weights: Vec<f32> = (-reach..=reach).map(|i| (-0.5 * (i as f32 / sigma).powi(2)).exp()).collect();
        let sum: f32 = weights.iter().sum();
        let kernel = |dx: f32, dy: f32| -> Vec<(f32, f32, f32)> {
            weights.iter().zip(-reach..=reach).map(|(w, i)| (i as f32 * dx, i as f32 * dy, w / sum)).collect()
        };
        self.convolve(&kernel(1.0, 0.0));
        self.convolve(&kernel(0.0, 1.0));
    }

    /// Motion blur along a straight line of `length` px.
    pub fn motion(&mut self, length: f32, angle: f32) {
        let steps = length.round() as i32;
        if steps < 2 {
            return;
        }
        let (sin, cos) = angle.sin_cos();
        let at = |step: i32| (step as f32 / (steps - 1) as f32 - 0.5) * length;
        let weight = 1.0 / steps as f32;
        let kernel: Vec<_> = (0..steps).map(|step| (at(step) * cos, at(step) * sin, weight)).collect();
        self.convolve(&kernel);
    }

    /// Adds up shifted copies (dx, dy in px, weight); pixels beyond the border repeat it.
    fn convolve(&mut self, kernel: &[(f32, f32, f32)]) {
        let (width, height) = (self.width as i32, self.height as i32);
        let mut out = vec![0.0; self.values.len()];
        for &(dx, dy, weight) in kernel {
            let (dx, dy) = (dx.round() as i32, dy.round() as i32);
            // Columns whose source is inside the row; the others repeat the row's ends.
            let (from, to) = ((-dx).clamp(0, width), (width - dx).clamp(0, width));
            for y in 0..height {
                let source = (y + dy).clamp(0, height - 1) * width;
                let row = &self.values[3 * source as usize..3 * (source + width) as usize];
                let line = &mut out[3 * (y * width) as usize..3 * ((y + 1) * width) as usize];
                let (begin, end) = (3 * from as usize, 3 * to as usize);
                let shifted = &row[3 * (from + dx).max(0) as usize..];
                for (to, value) in line[begin..end].iter_mut().zip(shifted) {
                    *to += weight * value;
                }
                for (index, to) in line[..begin].iter_mut().enumerate() {
                    *to += weight * row[index % 3];
                }
                for (index, to) in line[end..].iter_mut().enumerate() {
                    *to += weight * row[3 * (width as usize - 1) + index % 3];
                }
            }
        }
        self.values = out;
    }

    /// Adds sensor noise with two standard deviations: `read` everywhere, and `shot` times the square root of the
    /// light.
    pub fn noise(&mut self, read: f32, shot: f32, rng: &mut impl RngCore) {
        for value in &mut self.values {
            // The sum of four random bytes is close enough to a normal draw; its own standard deviation is 147.8.
            let sum: u16 = rng.next_u32().to_le_bytes().into_iter().map(u16::from).sum();
            let normal = (f32::from(sum) - 510.0) / 147.8;
            *value += normal * (read * read + shot * shot * value.max(0.0)).sqrt();
        }
    }

    pub fn develop(self) -> RgbImage {
        let bytes = self.values.into_iter().map(|value| (value * 255.0 + 0.5).clamp(0.0, 255.0) as u8).collect();
        RgbImage::from_raw(self.width, self.height, bytes).expect("three values a pixel")
    }
}
