//! Canonical pixels to the normalised input tensor of a model: [3, S, S] of `f32`, S = `crop`.

use crate::canonical::{Crop, resize};
use crate::decode::Decoded;
use crate::preprocess::Preprocess;
use image::RgbImage;
use std::cell::RefCell;

/// A part of a canonical image, px; it lies inside the image and is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Columns to the left of the window.
    pub x: u32,
    /// Rows above the window.
    pub y: u32,
    /// Width of the window; 1 or more.
    pub width: u32,
    /// Height of the window; 1 or more.
    pub height: u32,
}

impl Preprocess {
    /// Number of values in one image's tensor: 3·crop².
    pub fn tensor_len(&self) -> usize {
        3 * self.crop as usize * self.crop as usize
    }

    /// The centre window of a canonical image, crop × crop px. If a margin is odd, the extra pixel is right or below,
    /// as in `transformers` (in torchvision it is left or above where that makes the offset even).
    pub fn centre(&self, width: u32, height: u32) -> Window {
        let crop = self.crop;
        assert!(width >= crop && height >= crop, "{width}×{height} px is no canonical image of crop {crop}");
        Window { x: (width - crop) / 2, y: (height - crop) / 2, width: crop, height: crop }
    }

    /// Writes the model's input for an image to `out` [3, crop, crop], normalised: (value/255 − mean) / std.
    ///
    /// Panics where `out` has another length.
    pub fn whole(&self, decoded: &Decoded, out: &mut [f32]) {
        match self.squash {
            true => self.tensor(&decoded.pixels, out),
            false => self.tensor(&self.canonical(decoded), out),
        }
    }

    /// Writes the model's input for a canonical image. Squashing then needs a second resize, because canonical images
    /// keep their proportions.
    ///
    /// Panics where `out` has another length or the image is smaller than the crop.
    pub fn tensor(&self, image: &RgbImage, out: &mut [f32]) {
        let edge = self.shortest_edge;
        if self.squash && image.dimensions() != (edge, edge) {
            let mut square = RgbImage::new(edge, edge);
            let (width, height) = (image.width().into(), image.height().into());
            resize(image, Crop { left: 0.0, top: 0.0, width, height }, self.filter, &mut square, (edge, edge));
            return self.augmented(&square, self.centre(edge, edge), false, out);
        }
        self.augmented(image, self.centre(image.width(), image.height()), false, out);
    }

    /// Writes a window of a canonical image to `out` [3, crop, crop]: resized (antialiased) where it is not
    /// crop × crop px already, mirrored if `flip`, normalised.
    ///
    /// Panics where `out` has another length or the window leaves the image.
    pub fn augmented(&self, image: &RgbImage, window: Window, flip: bool, out: &mut [f32]) {
        thread_local! {
            // Buffer for resized pixels; as large as the largest crop of the thread.
            static PIXELS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        assert_eq!(out.len(), self.tensor_len(), "a tensor of crop {}", self.crop);
        let inside =
            |start: u32, length: u32, whole: u32| length > 0 && u64::from(start) + u64::from(length) <= whole.into();
        assert!(
            inside(window.x, window.width, image.width()) && inside(window.y, window.height, image.height()),
            "{window:?} leaves an image of {}×{} px",
            image.width(),
            image.height()
        );
        let side = self.crop as usize;
        if (window.width, window.height) == (self.crop, self.crop) {
            let stride = 3 * image.width() as usize;
            let start = window.y as usize * stride + 3 * window.x as usize;
            return self.normalise(&image.as_raw()[start..], stride, flip, out);
        }
        PIXELS.with_borrow_mut(|pixels| {
            pixels.resize(3 * side * side, 0);
            let (left, top) = (window.x.into(), window.y.into());
            let crop = Crop { left, top, width: window.width.into(), height: window.height.into() };
            resize(image, crop, self.filter, pixels, (self.crop, self.crop));
            self.normalise(pixels, 3 * side, flip, out);
        });
    }

    /// `rows` starts with the first pixel of the crop; the rows are `stride` bytes apart.
    fn normalise(&self, rows: &[u8], stride: usize, flip: bool, out: &mut [f32]) {
        let side = self.crop as usize;
        for (channel, plane) in out.chunks_exact_mut(side * side).enumerate() {
            let (mean, std) = (self.mean[channel], self.std[channel]);
            for (row, line) in rows.chunks(stride).zip(plane.chunks_exact_mut(side)) {
                for (to, pixel) in line.iter_mut().zip(row[..3 * side].chunks_exact(3)) {
                    *to = (f32::from(pixel[channel]) / 255.0 - mean) / std;
                }
                if flip {
                    line.reverse();
                }
            }
        }
    }
}

/// A random part of an image of width × height px, of at least `scale_min` of its area (0 < scale_min ≤ 1) and an
/// aspect ratio of 3/4 to 4/3, as torchvision's `RandomResizedCrop` draws it.
///
/// `u` has four independent draws from [0, 1): area, aspect ratio, left, top. torchvision draws again if a part does
/// not fit. Here the side that is too long is cut to the image instead, and the other side grows to keep the area, so
/// that four draws always suffice.
pub fn random_resized_crop(width: u32, height: u32, scale_min: f64, u: [f32; 4]) -> Window {
    assert!(width > 0 && height > 0, "an image has pixels");
    let [area, aspect, left, top] = u.map(f64::from);
    let area = f64::from(width) * f64::from(height) * (scale_min + (1.0 - scale_min) * area);
    let log_limit = (4.0f64 / 3.0).ln();
    let aspect = (log_limit * (2.0 * aspect - 1.0)).exp();
    let cut_width = (area * aspect).sqrt();
    let cut_height = (area / aspect).sqrt();
    let fit = |side: f64, other: f64, other_limit: u32| {
        let other_limit = f64::from(other_limit);
        if other > other_limit { area / other_limit } else { side }
    };
    let side = |side: f64, limit: u32| (side.round() as u32).clamp(1, limit);
    let window_width = side(fit(cut_width, cut_height, height), width);
    let window_height = side(fit(cut_height, cut_width, width), height);
    let place = |u: f64, room: u32| ((u * f64::from(room + 1)) as u32).min(room);
    Window {
        x: place(left, width - window_width),
        y: place(top, height - window_height),
        width: window_width,
        height: window_height,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn preprocess(crop: u32) -> Preprocess {
        Preprocess {
            shortest_edge: crop,
            squash: false,
            crop,
            mean: [0.5, 0.25, 0.0],
            std: [0.5, 0.25, 1.0],
            filter: Default::default(),
        }
    }

    #[test]
    fn the_centre_is_normalised_channel_by_channel() {
        // 4×2 px; red counts columns, green rows, blue is full.
        let image = RgbImage::from_fn(4, 2, |x, y| image::Rgb([(x * 51) as u8, (y * 51) as u8, 255]));
        let mut out = vec![0.0; 12];
        preprocess(2).tensor(&image, &mut out);
        let expected = [-0.6, -0.2, -0.6, -0.2, -1.0, -1.0, -0.2, -0.2, 1.0, 1.0, 1.0, 1.0];
        for (index, (value, expected)) in out.iter().zip(expected).enumerate() {
            assert!((value - expected).abs() < 1e-6, "value {index}: {value}, expected {expected}");
        }
    }

    #[test]
    fn a_squashed_image_keeps_its_ends() {
        // 40×10 px: black, with white ends of 10 px.
        let pixels = RgbImage::from_fn(40, 10, |x, _| image::Rgb([if (10..30).contains(&x) { 0 } else { 255 }; 3]));
        let squash = Preprocess { mean: [0.0; 3], std: [1.0; 3], squash: true, ..preprocess(8) };
        let (mut whole, mut kept, mut cut) = (vec![0.0; 192], vec![0.0; 192], vec![0.0; 192]);
        let decoded = Decoded { pixels, ..crate::decode(&png(40, 10)).unwrap() };
        squash.whole(&decoded, &mut whole);
        assert!(whole[0] > 0.9 && whole[7] > 0.9 && whole[4] < 0.1, "{:?}", &whole[..8]);
        // The input from canonical pixels, which are resized once more, is nearly the same.
        squash.tensor(&squash.canonical(&decoded), &mut kept);
        assert!(whole.iter().zip(&kept).all(|(a, b)| (a - b).abs() < 0.2), "{:?} and {:?}", &whole[..8], &kept[..8]);
        Preprocess { squash: false, ..squash }.whole(&decoded, &mut cut);
        assert!(cut.iter().all(|&value| value < 0.1), "the middle alone: {:?}", &cut[..8]);
    }

    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        RgbImage::new(width, height).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn a_flip_mirrors_left_and_right() {
        let image = RgbImage::from_fn(9, 9, |x, y| image::Rgb([(x * 20) as u8, (y * 20) as u8, (x * y) as u8]));
        let preprocess = preprocess(6);
        let mirrored = image::imageops::flip_horizontal(&image);
        for window in [Window { x: 1, y: 2, width: 6, height: 6 }, Window { x: 0, y: 0, width: 8, height: 5 }] {
            let (mut flipped, mut plain) = (vec![0.0; 108], vec![0.0; 108]);
            preprocess.augmented(&image, window, true, &mut flipped);
            let opposite = Window { x: 9 - window.x - window.width, ..window };
            preprocess.augmented(&mirrored, opposite, false, &mut plain);
            assert_eq!(flipped, plain, "{window:?}");
        }
    }

    #[test]
    fn a_window_fills_the_tensor() {
        let image = RgbImage::from_fn(40, 40, |x, y| {
            let inside = (10..30).contains(&x) && (12..32).contains(&y);
            image::Rgb(if inside { [0, 0, 0] } else { [255, 255, 255] })
        });
        let preprocess = preprocess(7);
        let mut out = vec![0.0; preprocess.tensor_len()];
        preprocess.augmented(&image, Window { x: 10, y: 12, width: 20, height: 20 }, false, &mut out);
        // The kernel reads beyond the border, so the outermost values are not quite black.
        assert!((1..6).all(|row| (1..6).all(|column| out[row * 7 + column] < -0.8)), "{out:?}");
        assert!(out[..49].iter().all(|&value| value < 0.0), "{out:?}");
    }

    #[test]
    #[should_panic(expected = "leaves an image")]
    fn a_window_outside_the_image_is_a_bug() {
        let window = Window { x: 1, y: 0, width: 8, height: 8 };
        preprocess(8).augmented(&RgbImage::new(8, 8), window, false, &mut [0.0; 192]);
    }

    #[test]
    fn the_whole_image_is_drawn_at_scale_one() {
        for aspect in [0.0, 0.5, 0.999] {
            let window = random_resized_crop(64, 64, 1.0, [0.3, aspect, 0.7, 0.1]);
            assert_eq!(window, Window { x: 0, y: 0, width: 64, height: 64 });
        }
    }

    proptest! {
        #[test]
        fn a_random_window_lies_inside_and_is_large_enough(
            width in 1u32..400, height in 1u32..400, scale in 0.05f64..1.0,
            u in proptest::array::uniform4(0.0f32..1.0),
        ) {
            let window = random_resized_crop(width, height, scale, u);
            prop_assert!(window.width >= 1 && window.x + window.width <= width);
            prop_assert!(window.height >= 1 && window.y + window.height <= height);
            // Rounding changes each side by half a pixel at most.
            let area = f64::from(window.width + 1) * f64::from(window.height + 1);
            prop_assert!(area >= scale * f64::from(width) * f64::from(height), "{window:?}");
        }
    }
}
