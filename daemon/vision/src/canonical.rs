//! Canonical pixels: an image at the size for a model, before cropping. Made once, then kept, and never resized again.

use crate::decode::Decoded;
use crate::preprocess::{Filter, Preprocess};
use fast_image_resize as fir;
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{InnerPixel, U16x3};
use image::codecs::qoi::QoiEncoder;
use image::{ExtendedColorType, ImageEncoder, ImageError, RgbImage};
use std::cell::RefCell;
use std::io::{self, Write};

/// Longest side over shortest side of canonical pixels; > 1. The ends of a longer image are cut off. 4 fits every
/// camera and panorama format, and keeps a 1×10000 px strip from growing a hundredfold. [choice]
const MAX_ASPECT: u32 = 4;

impl Preprocess {
    /// Resizes an image so that its short side is `shortest_edge`, keeping the aspect ratio.
    ///
    /// Antialiased as Pillow computes it. The long side is `shortest_edge · long / short` rounded down, as the
    /// `transformers` image processors do it (torchvision agrees; Pillow's `thumbnail` rounds to nearest). If it is
    /// longer than [`MAX_ASPECT`] allows, only its middle is kept. The canonical image of a canonical image is itself.
    pub fn canonical(&self, decoded: &Decoded) -> RgbImage {
        let source = &decoded.pixels;
        let (width, height) = source.dimensions();
        let [columns, lines] = self.kept_of(width, height);
        if (columns.whole, lines.whole) == (width.into(), height.into()) && columns.is_all() && lines.is_all() {
            return source.clone();
        }
        let mut out = RgbImage::new(columns.count, lines.count);
        let (left, width) = columns.of(width);
        let (top, height) = lines.of(height);
        resize(source, Crop { left, top, width, height }, self.filter, &mut out, (columns.count, lines.count));
        out
    }

    /// Bytes of the canonical pixels of an image of this size, px.
    pub fn canonical_bytes(&self, width: u32, height: u32) -> u64 {
        let [columns, lines] = self.kept_of(width, height);
        3 * u64::from(columns.count) * u64::from(lines.count)
    }

    /// The kept parts of the width and of the height.
    fn kept_of(&self, width: u32, height: u32) -> [Kept; 2] {
        [width, height].map(|side| self.kept(side, width.min(height)))
    }

    /// The kept part of a side. The number of pixels left out is a multiple of four, so that a centred crop of the kept
    /// part is also a centred crop of the whole side, however an odd margin is rounded.
    fn kept(&self, side: u32, short: u32) -> Kept {
        let whole = u64::from(self.shortest_edge) * u64::from(side) / u64::from(short);
        let most = u64::from(MAX_ASPECT) * u64::from(self.shortest_edge);
        let count = if whole > most { most - (most + 4 - whole % 4) % 4 } else { whole };
        Kept { whole, count: u32::try_from(count).expect("at most MAX_ASPECT times the shortest edge") }
    }
}

/// The middle of a resized side, px.
struct Kept {
    /// Length of the whole resized side.
    whole: u64,
    count: u32,
}

impl Kept {
    fn is_all(&self) -> bool {
        self.whole == u64::from(self.count)
    }

    /// Begin and length of this part on the side before resizing.
    fn of(&self, side: u32) -> (f64, f64) {
        if self.is_all() {
            return (0.0, side.into());
        }
        let scale = f64::from(side) / self.whole as f64;
        ((self.whole - u64::from(self.count)) as f64 / 2.0 * scale, f64::from(self.count) * scale)
    }
}

/// Writes canonical pixels losslessly (QOI); [`crate::decode`] reads them back.
///
/// # Errors
/// `out` cannot be written.
pub fn save_canonical(image: &RgbImage, out: impl Write) -> io::Result<()> {
    QoiEncoder::new(out).write_image(image.as_raw(), image.width(), image.height(), ExtendedColorType::Rgb8).map_err(
        |error| match error {
            ImageError::IoError(error) => error,
            other => io::Error::other(other),
        },
    )
}

/// A part of an image, px, not necessarily whole pixels. It lies inside the image and is not empty.
#[derive(Clone, Copy)]
pub(crate) struct Crop {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
}

/// Resizes a part of `source` into `out` (RGB, row by row), antialiased. At the border of the part the kernel reads the
/// pixels around it, as Pillow's `resize(box=…)` does.
pub(crate) fn resize(source: &RgbImage, crop: Crop, filter: Filter, out: &mut [u8], to: (u32, u32)) {
    thread_local! {
        static PASSES: RefCell<Passes> = RefCell::default();
    }
    PASSES.with_borrow_mut(|passes| passes.run(source, crop, filter, out, to));
}

/// The two passes of a resize, with buffers that are kept from one call to the next.
///
/// Bytes are widened to 16 bits first. The resizer's byte kernels have weights of 14 bits, which changes one pixel in
/// thirty by a level in each pass; its kernels for 16 bits round as Pillow does.
#[derive(Default)]
struct Passes {
    resizer: fir::Resizer,
    /// Some lines of the part, widened but not resized.
    band: Vec<U16x3>,
    /// All lines of the part at their final width.
    rows: Vec<U16x3>,
    out: Vec<U16x3>,
}

impl Passes {
    /// Columns first, as in Pillow. The resizer's own order is rows first, which is faster but differs from Pillow by
    /// up to ten levels at hard edges, where the overshoot of the first pass is clipped to a byte.
    fn run(&mut self, source: &RgbImage, crop: Crop, filter: Filter, out: &mut [u8], (width, height): (u32, u32)) {
        let reach = (KERNEL_RADIUS * crop.height / f64::from(height)).max(KERNEL_RADIUS).ceil() + 1.0;
        let first = (crop.top - reach).max(0.0) as u32;
        let end = ((crop.top + crop.height + reach).ceil() as u32).min(source.height());
        let count = end - first;
        let stride = 3 * source.width() as usize;
        let read = &source.as_raw()[stride * first as usize..stride * end as usize];

        self.rows.resize(width as usize * count as usize, U16x3::default());
        for (lines, rows) in read.chunks(stride * BAND).zip(self.rows.chunks_mut(width as usize * BAND)) {
            self.band.clear();
            self.band.extend(lines.chunks_exact(3).map(|rgb| U16x3::new([rgb[0], rgb[1], rgb[2]].map(u16::from))));
            let count = (lines.len() / stride) as u32;
            let columns = Crop { top: 0.0, height: count.into(), ..crop };
            pass(&mut self.resizer, filter, (&self.band, source.width(), count), columns, (rows, width, count));
        }
        self.out.resize(width as usize * height as usize, U16x3::default());
        let lines = Crop { left: 0.0, width: width.into(), top: crop.top - f64::from(first), height: crop.height };
        pass(&mut self.resizer, filter, (&self.rows, width, count), lines, (&mut self.out, width, height));
        for (to, &from) in out.iter_mut().zip(U16x3::components(&self.out)) {
            *to = from as u8;
        }
    }
}

/// Half the width of the wider (bicubic) kernel, in pixels of the smaller image. Pillow's value.
const KERNEL_RADIUS: f64 = 2.0;
/// Lines that are widened at a time; few enough to stay in the cache. [choice]
const BAND: usize = 32;

/// Resizes a part of `from`; no channel of the result exceeds a byte.
fn pass(
    resizer: &mut fir::Resizer,
    filter: Filter,
    from: (&[U16x3], u32, u32),
    crop: Crop,
    to: (&mut [U16x3], u32, u32),
) {
    let filter = match filter {
        Filter::Bilinear => fir::FilterType::Bilinear,
        Filter::Bicubic => fir::FilterType::CatmullRom,
    };
    let from = TypedImageRef::new(from.1, from.2, from.0).expect("as many pixels as its sides say");
    let mut to = TypedImage::from_pixels_slice(to.1, to.2, to.0).expect("as many pixels as its sides say");
    let options = fir::ResizeOptions::new()
        .resize_alg(fir::ResizeAlg::Convolution(filter))
        .crop(crop.left, crop.top, crop.width, crop.height)
        .use_alpha(false);
    resizer.resize_typed(&from, &mut to, &options).expect("the part lies inside the image");
    for channel in U16x3::components_mut(to.pixels_mut()) {
        *channel = (*channel).min(u16::from(u8::MAX));
    }
}
