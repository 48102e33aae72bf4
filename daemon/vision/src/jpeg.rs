//! JPEG by libjpeg-turbo, which rounds and spreads halved chroma as libjpeg does.

use crate::DecodeError;
use image::RgbImage;
use turbojpeg::{Colorspace, Decompressor, Image, PixelFormat};

const FORMAT: &str = "JPEG";

/// Most scans of a progressive file. Each costs a pass over all coefficients, and a small file can hold thousands
/// ("Two Issues with the JPEG Standard", libjpeg-turbo.org). [choice]
const MAX_SCANS: u32 = 500;

/// What libjpeg warns of though every pixel is right: oddities that cameras and programs write.
const HARMLESS: [&str; 4] =
    ["extraneous bytes", "unknown JFIF revision", "Unknown Adobe color transform", "Invalid SOS parameters"];

/// The pixels of a JPEG file, not turned; grey is repeated, and inks are mixed as Pillow mixes them. None where
/// libjpeg-turbo's interface stops at a harmless oddity of the header; another decoder may take the file.
///
/// Damage that libjpeg only warns of is refused: its pixels are made up from there on. It tells of the first warning alone, so
/// that damage behind a harmless one is not noticed.
pub fn pixels(bytes: &[u8]) -> Result<Option<RgbImage>, DecodeError> {
    let mut decoder = Decompressor::new().map_err(refusal)?;
    decoder.set_scan_limit(MAX_SCANS).map_err(refusal)?;
    let header = match decoder.read_header(bytes) {
        Err(error) if is_harmless(&error) => return Ok(None),
        header => header.map_err(refusal)?,
    };
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
        Err(error) if !is_harmless(&error) => return Err(refusal(error)),
        _ => {}
    }
    let pixels = match format {
        PixelFormat::CMYK => mixed(&image.pixels),
        _ => image.pixels,
    };
    let (width, height) = (header.width as u32, header.height as u32);
    Ok(Some(RgbImage::from_raw(width, height, pixels).expect("three bytes a pixel")))
}

fn is_harmless(warning: &turbojpeg::Error) -> bool {
    let text = warning.to_string();
    HARMLESS.iter().any(|harmless| text.contains(harmless))
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
