//! A part of a picture that is used instead of the whole.

use image::{RgbImage, imageops};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A rectangle in an upright picture, as shares of its width and height, 0 to 1: the distance from the left and from
/// the top, the width and the height.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// Share of the width to the left of the rectangle.
    pub x: f64,
    /// Share of the height above the rectangle.
    pub y: f64,
    /// Share of the width that the rectangle takes; above 0.
    pub width: f64,
    /// Share of the height that the rectangle takes; above 0.
    pub height: f64,
}

/// How much a sum of shares may exceed 1, because of rounding: 0.9 + 0.1 need not be 1.
const ROUNDING: f64 = 1e-9;

impl Region {
    /// Checks that the region lies in the picture and has an area.
    ///
    /// # Errors
    /// The mistake, in words.
    pub fn validate(&self) -> Result<(), &'static str> {
        let Self { x, y, width, height } = *self;
        let is_within = |begin: f64, length: f64| begin >= 0.0 && begin + length <= 1.0 + ROUNDING;
        // Written with `!`, because every comparison with NaN is false.
        if !(width > 0.0 && height > 0.0) {
            return Err("use a width and a height above 0");
        }
        if !(is_within(x, width) && is_within(y, height)) {
            return Err("it leaves the picture; use 0 to 1, with x + width and y + height at most 1");
        }
        Ok(())
    }

    /// This part of a picture, rounded to whole pixels; at least one.
    pub fn of(&self, pixels: &RgbImage) -> RgbImage {
        let (left, width) = part(self.x, self.width, pixels.width());
        let (top, height) = part(self.y, self.height, pixels.height());
        imageops::crop_imm(pixels, left, top, width, height).to_image()
    }
}

/// `crop x=0.1 y=0.2 width=0.5 height=0.4`. The id of an image contains this text.
impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { x, y, width, height } = self;
        write!(f, "crop x={x} y={y} width={width} height={height}")
    }
}

/// Begin and length of a part of a side, px.
fn part(begin: f64, length: f64, side: u32) -> (u32, u32) {
    let to_px = |share: f64| (share * f64::from(side)).round() as u32;
    let first = to_px(begin).min(side - 1);
    (first, to_px(begin + length).clamp(first + 1, side) - first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    fn region(x: f64, y: f64, width: f64, height: f64) -> Region {
        Region { x, y, width, height }
    }

    #[test]
    fn a_part_has_the_pixels_that_lie_in_it() {
        let picture = RgbImage::from_fn(10, 20, |x, y| Rgb([x as u8, y as u8, 0]));
        let of = |region: Region| {
            let part = region.of(&picture);
            (part.get_pixel(0, 0).0, part.dimensions())
        };
        assert_eq!(of(region(0.0, 0.0, 1.0, 1.0)), ([0, 0, 0], (10, 20)));
        assert_eq!(of(region(0.1, 0.2, 0.5, 0.4)), ([1, 4, 0], (5, 8)));
        assert_eq!(of(region(0.9, 0.9, 0.1, 0.1)), ([9, 18, 0], (1, 2)));
        assert_eq!(of(region(0.999, 0.5, 0.001, 0.001)), ([9, 10, 0], (1, 1)), "at least a pixel");
    }

    #[test]
    fn what_is_no_part_is_said() {
        for right in [region(0.0, 0.0, 1.0, 1.0), region(0.7, 0.9, 0.3, 0.1), region(0.1, 0.2, 0.5, 0.4)] {
            assert_eq!(right.validate(), Ok(()), "{right}");
        }
        for empty in [region(0.0, 0.0, 0.0, 1.0), region(0.0, 0.0, 1.0, -0.5), region(0.0, 0.0, f64::NAN, 1.0)] {
            assert!(empty.validate().unwrap_err().contains("above 0"), "{empty}");
        }
        for outside in [region(0.6, 0.0, 0.5, 1.0), region(-0.1, 0.0, 0.5, 1.0), region(0.0, f64::NAN, 1.0, 1.0)] {
            assert!(outside.validate().unwrap_err().contains("leaves the picture"), "{outside}");
        }
        assert!(region(0.0, 0.0, f64::INFINITY, 1.0).validate().is_err());
    }
}
