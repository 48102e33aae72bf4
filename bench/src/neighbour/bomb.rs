//! Pictures with small files that need much memory for decoding: PNGs of one colour with 16 bits per channel.

use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};
use std::io::{self, Write};

/// Width and height of a picture whose decoding takes 600 MB, more than the default of `[decode] memory`, px.
pub const OVER_BUDGET: u32 = 10_000;
/// Width and height of a picture whose decoding takes 532 MB, just below that default, px.
pub const BELOW_BUDGET: u32 = 9_400;

/// Bytes of a pixel.
const PIXEL: usize = 6;

pub struct Bomb {
    header: Vec<u8>,
    /// The compressed pixels.
    pixels: Vec<u8>,
}

impl Bomb {
    /// A square picture.
    pub fn new(side_px: u32) -> io::Result<Self> {
        let row = vec![0; 1 + PIXEL * side_px as usize];
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        for _ in 0..side_px {
            encoder.write_all(&row)?;
        }
        let side = side_px.to_be_bytes();
        // 16-bit RGB, not interlaced.
        let header = [&side[..], &side, &[16, 2, 0, 0, 0]].concat();
        Ok(Self { header, pixels: encoder.finish()? })
    }

    /// The bytes of the file; each number gives a different file of the same picture.
    pub fn file(&self, number: u32) -> Vec<u8> {
        let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
        let note = format!("Comment\0{number}");
        for (kind, content) in
            [(b"IHDR", &self.header[..]), (b"tEXt", note.as_bytes()), (b"IDAT", &self.pixels), (b"IEND", &[])]
        {
            let mut sum = Crc::new();
            sum.update(kind);
            sum.update(content);
            file.extend((content.len() as u32).to_be_bytes());
            file.extend(kind);
            file.extend(content);
            file.extend(sum.sum().to_be_bytes());
        }
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_one_is_a_picture() {
        let bomb = Bomb::new(64).unwrap();
        let picture = image::load_from_memory(&bomb.file(3)).unwrap();
        assert_eq!((picture.width(), picture.height(), picture.color()), (64, 64, image::ColorType::Rgb16));
        assert_ne!(bomb.file(3), bomb.file(4));
    }
}
