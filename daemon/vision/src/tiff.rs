//! TIFF: finds the page of a file that is the image, and checks whether it can be decoded.
//!
//! A RAW photograph is a TIFF as well, and its first page is a small preview, which must not be taken for the image.

mod decode;

use crate::error::DecodeError;
use crate::exif;
use crate::ifd::{Directories, Directory, Truncated};
use crate::size::Size;
use image::metadata::Orientation;

pub use decode::pixels;

const FORMAT: &str = "TIFF";

const SUBFILE: u16 = 254;
const OLD_SUBFILE: u16 = 255;
const WIDTH: u16 = 256;
const HEIGHT: u16 = 257;
const BITS: u16 = 258;
const COMPRESSION: u16 = 259;
const PHOTOMETRIC: u16 = 262;
const STRIP_OFFSETS: u16 = 273;
const SAMPLES: u16 = 277;
const ROWS_PER_STRIP: u16 = 278;
const STRIP_BYTES: u16 = 279;
const PLANAR: u16 = 284;
const COLOUR_MAP: u16 = 320;
const TILE_WIDTH: u16 = 322;
const TILE_HEIGHT: u16 = 323;
const TILE_OFFSETS: u16 = 324;
const TILE_BYTES: u16 = 325;
const SUB_DIRECTORIES: u16 = 330;
const EXTRA_SAMPLES: u16 = 338;
const SAMPLE_FORMAT: u16 = 339;
const JPEG_TABLES: u16 = 347;
const SUBSAMPLING: u16 = 530;
/// Tags that only RAW photographs have: the pattern of the sensor's filters (TIFF/EP), the version of DNG.
const RAW_TAGS: [u16; 3] = [33421, 33422, 50706];

const GREY_INVERTED: u64 = 0;
const GREY: u64 = 1;
const RGB: u64 = 2;
const PALETTE: u64 = 3;
const MASK: u64 = 4;
const INKS: u64 = 5;
const YCBCR: u64 = 6;
/// Values of the sensor itself: behind a colour filter, and without one.
const RAW_PHOTOMETRIC: [u64; 2] = [32803, 34892];

const JPEG: u64 = 7;
/// Compressions that only cameras' RAW formats use: Nikon, Sony, Samsung, Kodak, Pentax.
const RAW_COMPRESSION: [u64; 6] = [34713, 32767, 32769, 32770, 65000, 65535];

/// Memory for the directory. The crate `tiff` reads it before a limit can be set, with its own limit of 1 MiB per
/// value.
const DIRECTORY_BYTES: u64 = 3 << 20;
/// Most channels per pixel. [choice]
const MOST_CHANNELS: u64 = 64;

/// Most directories of each kind that are examined. [choice]
const MOST_PAGES: usize = 64;

/// The page that is decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// Offset of the page's directory.
    at: u64,
    width: u32,
    height: u32,
    bits: u64,
    samples: u64,
    compression: u64,
    photometric: u64,
    planar: bool,
    /// Number of strips or tiles.
    chunks: u64,
    /// Largest strip or tile, bytes; they are decoded one at a time.
    chunk_bytes: u64,
    pub orientation: Orientation,
}

impl Page {
    /// The first page that is a full image: neither a preview nor a mask.
    ///
    /// # Errors
    /// [`DecodeError`] where there is no such page, where the file is a RAW photograph, or where the page cannot be
    /// decoded.
    pub fn find(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::look(bytes).map_err(|Truncated| DecodeError::Truncated { format: FORMAT })?
    }

    fn look(bytes: &[u8]) -> Result<Result<Self, DecodeError>, Truncated> {
        let damaged = |what| Ok(Err(DecodeError::Damaged { format: FORMAT, what }));
        let Some(opened) = Directories::open(bytes) else { return damaged("its header is wrong") };
        let (file, first) = opened?;
        let mut at = first;
        let mut seen = Vec::new();
        let mut found = None;
        while at != 0 && !seen.contains(&at) && seen.len() < MOST_PAGES {
            seen.push(at);
            let page = match file.directory(at) {
                // A page after the image is not needed.
                Err(Truncated) if found.is_some() => break,
                page => page?,
            };
            if is_raw(&page)? {
                return Ok(Err(DecodeError::Raw));
            }
            let mut is_aside = is_aside(&page)?;
            if found.is_none() {
                for below in page.integers(SUB_DIRECTORIES)?.into_iter().take(MOST_PAGES) {
                    let below = file.directory(below)?;
                    if is_raw(&below)? {
                        return Ok(Err(DecodeError::Raw));
                    }
                    is_aside |= area(&below)? > area(&page)?;
                }
                if !is_aside {
                    found = Some(Self::read(&page, at)?);
                }
            }
            at = page.next;
        }
        if seen.is_empty() {
            return damaged("it holds no page");
        }
        let previews = || DecodeError::unsupported("a TIFF that holds previews alone, and no image in full");
        Ok(found.unwrap_or_else(|| Err(previews())))
    }

    fn read(page: &Directory, at: u64) -> Result<Result<Self, DecodeError>, Truncated> {
        let number = |tag, otherwise| Ok::<u64, Truncated>(page.integer(tag)?.unwrap_or(otherwise));
        let (Ok(width), Ok(height)) = (u32::try_from(number(WIDTH, 0)?), u32::try_from(number(HEIGHT, 0)?)) else {
            return Ok(Err(DecodeError::Damaged { format: FORMAT, what: "its header holds no size" }));
        };
        let tiled = page.has(TILE_OFFSETS);
        let across = if tiled { number(TILE_WIDTH, 0)? } else { width.into() };
        let down =
            if tiled { number(TILE_HEIGHT, 0)? } else { number(ROWS_PER_STRIP, height.into())?.min(height.into()) };
        let found = Self {
            at,
            width,
            height,
            bits: number(BITS, 1)?,
            samples: number(SAMPLES, 1)?,
            compression: number(COMPRESSION, 1)?,
            photometric: number(PHOTOMETRIC, u64::MAX)?,
            planar: number(PLANAR, 1)? == 2,
            chunks: if tiled { page.count(TILE_OFFSETS) } else { page.count(STRIP_OFFSETS) },
            chunk_bytes: across.saturating_mul(down).saturating_mul(3),
            orientation: page
                .integer(exif::ORIENTATION)?
                .and_then(exif::from_number)
                .unwrap_or(Orientation::NoTransforms),
        };
        let places = if tiled { [TILE_OFFSETS, TILE_BYTES] } else { [STRIP_OFFSETS, STRIP_BYTES] };
        let per_channel = [BITS, SAMPLE_FORMAT, EXTRA_SAMPLES, SUBSAMPLING];
        if page.count(places[0]) != page.count(places[1])
            || per_channel.iter().any(|&tag| page.count(tag) > MOST_CHANNELS)
        {
            return Ok(Err(DecodeError::Damaged { format: FORMAT, what: "its header does not fit its pixels" }));
        }
        let formats = page.integers(SAMPLE_FORMAT)?;
        let differ = page.integers(BITS)?.iter().any(|&bits| bits != found.bits);
        Ok(found.check(&formats, differ).map(|()| found))
    }

    /// Checks that the page can be decoded; the error names its kind.
    fn check(&self, formats: &[u64], bits_differ: bool) -> Result<(), DecodeError> {
        let refused = |what: String| Err(DecodeError::unsupported(format!("a TIFF {what}")));
        if let Some(&format) = formats.iter().find(|&&format| format != 1 && format != 4) {
            return refused(match format {
                2 => "whose pixels are numbers with a sign".into(),
                3 => format!("whose pixels are {}-bit floating-point numbers, which have no fixed range", self.bits),
                _ => "whose pixels are complex numbers".into(),
            });
        }
        match self.compression {
            1 | 4 | 5 | JPEG | 8 | 32773 | 32946 => {}
            2 | 3 => return refused("with fax compression of group 3".into()),
            6 => return refused("with JPEG compression in its old form".into()),
            33003 | 33005 | 34712 => return refused("with JPEG 2000 compression".into()),
            34925 => return refused("with LZMA compression".into()),
            50000 => return refused("with Zstandard compression".into()),
            50001 | 34927 => return refused("with WebP compression".into()),
            50002 | 52546 => return refused("with JPEG XL compression".into()),
            other => return refused(format!("with compression {other}")),
        }
        if bits_differ {
            return refused("whose channels differ in their bits".into());
        }
        let bits_fit = match self.photometric {
            GREY | GREY_INVERTED if self.samples == 1 => matches!(self.bits, 1 | 2 | 4 | 8 | 16),
            GREY | GREY_INVERTED | RGB => matches!(self.bits, 8 | 16),
            PALETTE if self.samples == 1 => matches!(self.bits, 1 | 2 | 4 | 8),
            PALETTE => return refused("with a palette and more channels".into()),
            INKS if self.samples == 4 => self.bits == 8,
            INKS => return refused(format!("of {} inks", self.samples)),
            YCBCR if self.compression == JPEG => self.bits == 8,
            YCBCR => return refused("in YCbCr without JPEG compression".into()),
            MASK => return refused("that is a mask".into()),
            8..=10 => return refused("in the colour space L*a*b*".into()),
            32844 | 32845 => return refused("with logarithmic pixels (LogLuv)".into()),
            u64::MAX => return refused("that does not say what its pixels mean".into()),
            other => return refused(format!("with colours of kind {other}")),
        };
        if !bits_fit {
            return refused(format!("of {} bits a channel", self.bits));
        }
        if self.compression == JPEG && (self.planar && self.samples > 1 || self.bits != 8) {
            return refused("with JPEG compression of each channel apart".into());
        }
        let least = match self.photometric {
            RGB | YCBCR => 3,
            INKS => 4,
            _ => 1,
        };
        if self.samples < least || self.samples > MOST_CHANNELS {
            return refused(format!("of {} channels", self.samples));
        }
        if self.photometric == GREY_INVERTED && self.samples > 1 {
            return refused("of inverted grey with more channels".into());
        }
        Ok(())
    }

    pub fn size(&self) -> Size {
        let channel = if self.bits == 16 { 2 } else { 1 };
        // Channels that are stored separately need one more copy when they are combined.
        let native = self.samples * channel * if self.planar { 2 } else { 1 };
        let expanded = if self.bits < 8 { 1 } else { 0 };
        let chunk = if self.compression == JPEG { self.chunk_bytes } else { u64::from(self.width) * native };
        // Offsets and lengths of strips or tiles are held twice, 8 bytes each.
        let places = self.chunks.saturating_mul(64);
        let other_bytes = chunk.saturating_mul(2).saturating_add(places).saturating_add(DIRECTORY_BYTES);
        Size { width: self.width, height: self.height, pixel_bytes: (native + expanded + 3).max(6), other_bytes }
    }
}

/// Whether the directory belongs to a RAW photograph.
fn is_raw(page: &Directory) -> Result<bool, Truncated> {
    let one_of =
        |tag, list: &[u64]| Ok::<bool, Truncated>(page.integer(tag)?.is_some_and(|value| list.contains(&value)));
    Ok(RAW_TAGS.iter().any(|&tag| page.has(tag))
        || one_of(PHOTOMETRIC, &RAW_PHOTOMETRIC)?
        || one_of(COMPRESSION, &RAW_COMPRESSION)?)
}

fn area(page: &Directory) -> Result<u64, Truncated> {
    Ok(page.integer(WIDTH)?.unwrap_or(0).saturating_mul(page.integer(HEIGHT)?.unwrap_or(0)))
}

/// Whether the page is a preview of another page, or a mask for it.
fn is_aside(page: &Directory) -> Result<bool, Truncated> {
    const REDUCED: u64 = 1;
    const OF_A_MASK: u64 = 4;
    let kind = page.integer(SUBFILE)?.unwrap_or(0);
    let old_reduced = page.integer(OLD_SUBFILE)? == Some(2);
    Ok(kind & (REDUCED | OF_A_MASK) != 0 || old_reduced || page.integer(PHOTOMETRIC)? == Some(MASK))
}
