//! Decodes the pixels of a TIFF's page by the crate `tiff`; JPEG inside a TIFF is decoded by libjpeg-turbo, like a JPEG
//! file.

use super::*;
use crate::depth::{self, Span};
use crate::error::Limit;
use crate::jpeg::{self, Colour, Frame};
use ::tiff::decoder::{BufferLayoutPreference, Decoder, DecodingResult, Limits};
use ::tiff::{TiffError, TiffUnsupportedError};
use image::RgbImage;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};

/// The pixels of a page, not rotated.
///
/// # Errors
/// [`DecodeError`] where the page is cut off, damaged, or of a kind that is not supported.
pub fn pixels(bytes: &[u8], page: &Page) -> Result<RgbImage, DecodeError> {
    let cut = |Truncated| DecodeError::Truncated { format: FORMAT };
    let (file, _) = Directories::open(bytes).expect("the page was found in it").map_err(cut)?;
    let directory = file.directory(page.at).map_err(cut)?;
    if page.compression == JPEG {
        return from_jpegs(bytes, page, &directory);
    }
    let mut changed = file.with_first(page.at);
    if page.photometric == PALETTE {
        // The decoder does not support palettes. With this change it returns the indices as grey values.
        changed.extend(directory.with_value(PHOTOMETRIC, GREY));
    }
    let mut decoder = Decoder::new(Changed { bytes, at: 0, changed }).map_err(|error| refusal(page, error))?;
    let size = page.size();
    let most = usize::try_from(u64::from(page.width) * u64::from(page.height) * size.pixel_bytes).unwrap_or(usize::MAX);
    let mut limits = Limits::default();
    limits.decoding_buffer_size = most;
    // A compressed strip or tile is read in place.
    limits.intermediate_buffer_size = bytes.len();
    limits.ifd_value_size = bytes.len();
    decoder = decoder.with_limits(limits);
    let mut samples = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut samples).map_err(|error| refusal(page, error))?;
    // If a tag occurs twice, the decoder may have used the other one.
    if decoder.dimensions().ok() != Some((page.width, page.height)) {
        return Err(damaged("its header contradicts itself"));
    }
    if page.photometric == PALETTE {
        let palette = palette(&directory.integers(COLOUR_MAP).map_err(cut)?, page.bits);
        return coloured(page, &samples, &palette?);
    }
    match samples {
        DecodingResult::U8(samples) => whole(page, &layout, samples),
        DecodingResult::U16(samples) => whole16(page, &layout, samples),
        _ => Err(DecodeError::unsupported("a TIFF whose pixels are no whole numbers of 8 or 16 bits")),
    }
}

fn damaged(what: &'static str) -> DecodeError {
    DecodeError::Damaged { format: FORMAT, what }
}

fn refusal(page: &Page, error: TiffError) -> DecodeError {
    match error {
        TiffError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: FORMAT }
        }
        TiffError::UnsupportedError(TiffUnsupportedError::HorizontalPredictor(_)) => {
            DecodeError::unsupported("a TIFF with differences of less than 8 bits")
        }
        TiffError::UnsupportedError(_) => DecodeError::unsupported("a rare kind of TIFF"),
        TiffError::LimitsExceeded => {
            DecodeError::TooLarge { width: page.width, height: page.height, limit: Limit::Memory }
        }
        _ => damaged("its data are wrong"),
    }
}

/// Samples of 8 bits or less.
fn whole(page: &Page, layout: &BufferLayoutPreference, samples: Vec<u8>) -> Result<RgbImage, DecodeError> {
    if page.bits < 8 {
        let most = 255 / ((1 << page.bits) - 1) as u8;
        let grey = unpacked(page, &samples)?.map(|value| [value * most; 3]);
        return Ok(depth::rgb_of_pixels(page.width, page.height, grey));
    }
    let Channels { samples, count } = together(page, layout, samples)?;
    let pixels = samples.chunks_exact(count);
    Ok(match page.photometric {
        INKS => {
            let mixed = |ink: &[u8]| [ink[0], ink[1], ink[2]].map(|tint| on_paper(tint, ink[3]));
            depth::rgb_of_pixels(page.width, page.height, pixels.map(mixed))
        }
        RGB => depth::rgb_of_pixels(page.width, page.height, pixels.map(|pixel| [pixel[0], pixel[1], pixel[2]])),
        _ => depth::rgb_of_pixels(page.width, page.height, pixels.map(|pixel| [pixel[0]; 3])),
    })
}

fn whole16(page: &Page, layout: &BufferLayoutPreference, samples: Vec<u16>) -> Result<RgbImage, DecodeError> {
    let Channels { samples, count } = together(page, layout, samples)?;
    let colours = if page.photometric == RGB { 3 } else { 1 };
    let mut span = Span::default();
    span.add(samples.chunks_exact(count).flat_map(|pixel| pixel[..colours].iter().copied()));
    span.check()?;
    let at = |pixel: &[u16], channel: usize| (pixel[channel % colours] >> 8) as u8;
    let pixels = samples.chunks_exact(count).map(|pixel| [at(pixel, 0), at(pixel, 1), at(pixel, 2)]);
    Ok(depth::rgb_of_pixels(page.width, page.height, pixels))
}

/// Light that paper reflects under an ink and black, 0 to 255. For `tint` and `black`, 0 is bare paper.
fn on_paper(tint: u8, black: u8) -> u8 {
    let paper = 255 - black;
    let taken = u32::from(tint) * u32::from(paper) + 128;
    paper - ((taken + (taken >> 8)) >> 8) as u8
}

/// Samples with a number of channels per pixel, at least as many as colours.
struct Channels<T> {
    samples: Vec<T>,
    count: usize,
}

/// Interleaves channels that were stored one after the other.
fn together<T: Copy>(
    page: &Page,
    layout: &BufferLayoutPreference,
    samples: Vec<T>,
) -> Result<Channels<T>, DecodeError> {
    let pixels = page.width as usize * page.height as usize;
    let count = samples.len() / pixels;
    let least = match page.photometric {
        RGB => 3,
        INKS => 4,
        _ => 1,
    };
    if count < least || layout.planes > count {
        return Err(damaged("its header does not fit its pixels"));
    }
    if layout.planes <= 1 {
        return Ok(Channels { samples, count });
    }
    let mut together = Vec::with_capacity(layout.planes * pixels);
    for pixel in 0..pixels {
        together.extend((0..layout.planes).map(|plane| samples[plane * pixels + pixel]));
    }
    Ok(Channels { samples: together, count: layout.planes })
}

/// The values of samples of at most 8 bits, whose rows begin at whole bytes.
fn unpacked<'a>(page: &'a Page, samples: &'a [u8]) -> Result<impl Iterator<Item = u8> + 'a, DecodeError> {
    let (bits, width, height) = (page.bits as usize, page.width as usize, page.height as usize);
    let row = (width * bits).div_ceil(8);
    if samples.len() < row * height {
        return Err(damaged("its header does not fit its pixels"));
    }
    let value = move |row: &[u8], x: usize| row[x * bits / 8] >> (8 - bits - x * bits % 8) & ((1u16 << bits) - 1) as u8;
    Ok(samples.chunks_exact(row).take(height).flat_map(move |row| (0..width).map(move |x| value(row, x))))
}

fn palette(map: &[u64], bits: u64) -> Result<Vec<[u8; 3]>, DecodeError> {
    let count = 1usize << bits;
    if map.len() < 3 * count {
        return Err(damaged("its palette is too short"));
    }
    // Some programs write 8-bit values where 16 bits are required.
    let bytes = map.iter().all(|&value| value < 256);
    let byte = |value: u64| if bytes { value as u8 } else { (value >> 8) as u8 };
    Ok((0..count).map(|index| [0, 1, 2].map(|channel| byte(map[channel * count + index]))).collect())
}

fn coloured(page: &Page, samples: &DecodingResult, palette: &[[u8; 3]]) -> Result<RgbImage, DecodeError> {
    let DecodingResult::U8(samples) = samples else { return Err(damaged("its data are wrong")) };
    Ok(depth::rgb_of_pixels(page.width, page.height, unpacked(page, samples)?.map(|index| palette[usize::from(index)])))
}

/// A page of strips or tiles, each of which is a JPEG that may lack the tables that all share.
fn from_jpegs(bytes: &[u8], page: &Page, directory: &Directory) -> Result<RgbImage, DecodeError> {
    let cut = |Truncated| DecodeError::Truncated { format: FORMAT };
    let tiled = directory.has(TILE_OFFSETS);
    let list = |strip, tile| directory.integers(if tiled { tile } else { strip }).map_err(cut);
    let (offsets, lengths) = (list(STRIP_OFFSETS, TILE_OFFSETS)?, list(STRIP_BYTES, TILE_BYTES)?);
    let side = |tag, otherwise| {
        Ok::<_, DecodeError>(directory.integer(tag).map_err(cut)?.unwrap_or(otherwise).min(u64::from(u32::MAX)) as u32)
    };
    let (across, down) = if tiled {
        (side(TILE_WIDTH, 0)?, side(TILE_HEIGHT, 0)?)
    } else {
        (page.width, side(ROWS_PER_STRIP, page.height.into())?.min(page.height))
    };
    let tables = directory.bytes(JPEG_TABLES).map_err(cut)?;
    let colour = match page.photometric {
        YCBCR => Colour::YCbCr,
        RGB => Colour::Rgb,
        _ => Colour::Stated,
    };
    if across == 0 || down == 0 {
        return Err(damaged("its pieces have no size"));
    }
    let columns = page.width.div_ceil(across);
    let pieces = u64::from(columns) * u64::from(page.height.div_ceil(down));
    if offsets.len() as u64 != pieces || lengths.len() as u64 != pieces {
        return Err(damaged("its header does not fit its pixels"));
    }
    let mut out = RgbImage::new(page.width, page.height);
    for (index, (&offset, &length)) in (0u32..).zip(offsets.iter().zip(&lengths)) {
        let piece = offset
            .checked_add(length)
            .and_then(|end| bytes.get(usize::try_from(offset).ok()?..usize::try_from(end).ok()?));
        let piece = piece.ok_or(DecodeError::Truncated { format: FORMAT })?;
        let stream = match tables {
            // The end marker of the tables and the start marker of the piece are left out.
            Some(tables) if tables.len() >= 4 && piece.len() >= 2 => {
                [&tables[..tables.len() - 2], &piece[2..]].concat()
            }
            _ => piece.to_vec(),
        };
        let of_tiff = |error| match error {
            DecodeError::Truncated { .. } | DecodeError::Damaged { .. } => damaged("a part of its pixels is missing"),
            other => other,
        };
        let frame = Frame::read(&stream).map_err(of_tiff)?;
        if frame.width > across || frame.height > down {
            return Err(damaged("its header does not fit its pixels"));
        }
        let decoded = jpeg::pixels(&stream, &frame, colour).map_err(of_tiff)?;
        let (left, top) = (index % columns * across, index / columns * down);
        let (width, height) = (across.min(page.width - left), down.min(page.height - top));
        if decoded.width() < width || decoded.height() < height {
            return Err(damaged("its header does not fit its pixels"));
        }
        for y in 0..height {
            let from = 3 * (y as usize * decoded.width() as usize);
            let to = 3 * ((top + y) as usize * page.width as usize + left as usize);
            let row = 3 * width as usize;
            out.as_mut()[to..to + row].copy_from_slice(&decoded.as_raw()[from..from + row]);
        }
    }
    Ok(out)
}

/// A file in which a few bytes are replaced on reading.
struct Changed<'a> {
    bytes: &'a [u8],
    at: u64,
    /// Offset and value.
    changed: Vec<(u64, u8)>,
}

impl Read for Changed<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(self.at).ok().and_then(|at| self.bytes.get(at..)).unwrap_or_default();
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        for &(at, value) in &self.changed {
            if (self.at..self.at + count as u64).contains(&at) {
                out[(at - self.at) as usize] = value;
            }
        }
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Changed<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(offset) => (self.bytes.len() as u64).checked_add_signed(offset),
            SeekFrom::Current(offset) => self.at.checked_add_signed(offset),
        };
        self.at = at.ok_or(ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
