//! JPEG by libjpeg-turbo, which rounds and spreads halved chroma as libjpeg does.

use crate::DecodeError;
use image::RgbImage;
use turbojpeg::{Colorspace, Decompressor, Image, PixelFormat};

const FORMAT: &str = "JPEG";

/// Most scans of a progressive file. Each costs a pass over all coefficients, and a small file can hold thousands
/// ("Two Issues with the JPEG Standard", libjpeg-turbo.org). [choice]
const MAX_SCANS: u32 = 500;

/// The pixels of a JPEG file, not turned; grey is repeated, and inks are mixed as Pillow mixes them.
///
/// Damage that libjpeg only warns of is refused: its pixels are made up from there on. Stray bytes between segments, which
/// some cameras write, harm nothing.
pub fn pixels(bytes: &[u8]) -> Result<RgbImage, DecodeError> {
    let mut decoder = Decompressor::new().map_err(refusal)?;
    decoder.set_scan_limit(MAX_SCANS).map_err(refusal)?;
    let header = decoder.read_header(bytes).map_err(refusal)?;
    let format = match header.colorspace {
        Colorspace::CMYK | Colorspace::YCCK => PixelFormat::CMYK,
        _ => PixelFormat::RGB,
    };
    let mut image = Image {
        pixels: vec![0; header.width * header.height * format.size()],
        width: header.width,
        pitch: header.width * format.size(),
        height: header.height,
        format,
    };
    match decoder.decompress(bytes, image.as_deref_mut()) {
        Err(error) if !error.to_string().contains("extraneous bytes") => return Err(refusal(error)),
        _ => {}
    }
    let pixels = match format {
        PixelFormat::CMYK => mixed(&image.pixels),
        _ => image.pixels,
    };
    let (width, height) = (header.width as u32, header.height as u32);
    Ok(RgbImage::from_raw(width, height, pixels).expect("three bytes a pixel"))
}

fn mixed(inks: &[u8]) -> Vec<u8> {
    inks.chunks_exact(4).flat_map(|ink| [ink[0], ink[1], ink[2]].map(|paper| through_black(paper, ink[3]))).collect()
}

/// How much light paper gives back under an ink and black, of 255.
///
/// JPEG files of four inks hold them inverted, as Adobe's programs write them: 255 is bare paper.
fn through_black(paper: u8, black: u8) -> u8 {
    let taken = u32::from(255 - paper) * u32::from(black) + 128;
    black - ((taken + (taken >> 8)) >> 8) as u8
}

fn refusal(error: turbojpeg::Error) -> DecodeError {
    let reason = match error {
        turbojpeg::Error::TurboJpegError(message) => message,
        error => error.to_string(),
    };
    if reason.contains("Premature end of JPEG file") {
        return DecodeError::Truncated { format: FORMAT };
    }
    DecodeError::Damaged { format: FORMAT, reason }
}
