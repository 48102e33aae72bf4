//! The format of a file, by its first bytes and never by its name.
//!
//! For a file that is not an image, the error names what the file is, so that its owner knows what to do: a page of
//! HTML in a `.jpg` is another mistake than a video or a RAW photograph.

use crate::error::DecodeError;

/// A format that can be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Jpeg,
    Png,
    WebP,
    Bmp,
    Tiff,
    Gif,
    Qoi,
    /// HEIC and AVIF: one container, two codecs.
    Heic,
    Avif,
}

impl Format {
    /// The usual name of the format.
    pub fn name(self) -> &'static str {
        match self {
            Format::Jpeg => "JPEG",
            Format::Png => "PNG",
            Format::WebP => "WebP",
            Format::Bmp => "BMP",
            Format::Tiff => "TIFF",
            Format::Gif => "GIF",
            Format::Qoi => "QOI",
            Format::Heic => "HEIC",
            Format::Avif => "AVIF",
        }
    }
}

/// Bytes at the start of a file that are examined; enough for every signature and to distinguish text from data.
const START: usize = 4096;

/// The format of an image from its first bytes.
///
/// # Errors
/// [`DecodeError`] that names what the file is instead, where that is known.
pub fn recognise(bytes: &[u8]) -> Result<Format, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    let start = &bytes[..bytes.len().min(START)];
    if let Some(format) = by_signature(start) {
        return Ok(format);
    }
    if let Some(brands) = brands(start) {
        return by_brands(brands);
    }
    Err(refusal(start))
}

fn by_signature(start: &[u8]) -> Option<Format> {
    Some(match start {
        [0xff, 0xd8, 0xff, ..] => Format::Jpeg,
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Format::Png,
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Format::WebP,
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Format::Gif,
        [b'q', b'o', b'i', b'f', ..] => Format::Qoi,
        // Canon's CR2 is a TIFF with these letters.
        [b'I', b'I', b'*', 0, _, _, _, _, b'C', b'R', ..] => return None,
        // Phase One's IIQ.
        [b'I', b'I', b'*', 0, _, _, _, _, b'I', b'I', b'I', b'I', ..] => return None,
        [b'M', b'M', 0, b'*', _, _, _, _, b'M', b'M', b'M', b'M', ..] => return None,
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Format::Tiff,
        // A text may start with BM, so the length of the second header is checked.
        [b'B', b'M', rest @ ..] if rest.get(12..16).is_none_or(|size| matches!(size, [12..=124, 0, 0, 0])) => {
            Format::Bmp
        }
        _ => return None,
    })
}

/// The brands of an ISO base media file: pictures of phones, and videos.
fn brands(start: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    if start.get(4..8)? != b"ftyp" {
        return None;
    }
    let length = u32::from_be_bytes(start[..4].try_into().ok()?) as usize;
    let end = length.clamp(12, start.len().max(12));
    // The second word is a version, not a brand.
    Some(start.get(8..end).unwrap_or_default().chunks_exact(4).enumerate().filter(|(at, _)| *at != 1).map(|(_, b)| b))
}

fn by_brands<'a>(brands: impl Iterator<Item = &'a [u8]>) -> Result<Format, DecodeError> {
    let brands: Vec<&[u8]> = brands.collect();
    let main = brands.first().copied().unwrap_or_default();
    let has = |wanted: &[&[u8]]| brands.iter().any(|brand| wanted.contains(brand));
    const HEVC: [&[u8]; 8] = [b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"];
    if main == b"crx " {
        return Err(DecodeError::Raw);
    }
    // `mif1` and similar brands name only the container.
    let container = matches!(main, b"mif1" | b"mif2" | b"msf1" | b"miaf" | b"mif3");
    if matches!(main, b"avif" | b"avis") || container && has(&[b"avif", b"avis"]) {
        return Ok(Format::Avif);
    }
    if HEVC.contains(&main) || container {
        return Ok(Format::Heic);
    }
    Err(match main {
        b"jp2 " | b"jpx " | b"jpm " | b"jph " => unsupported("JPEG 2000"),
        b"jxl " => unsupported("JPEG XL"),
        b"M4A " | b"M4B " | b"F4A " => AUDIO.into(),
        _ => VIDEO.into(),
    })
}

/// Something that is not an image, and what its owner can do.
#[derive(Clone, Copy)]
struct Other {
    what: &'static str,
    advice: &'static str,
}

impl From<Other> for DecodeError {
    fn from(other: Other) -> Self {
        DecodeError::NotAnImage { what: other.what, advice: other.advice }
    }
}

const AS_IMAGE: &str = "export it as JPEG or PNG";
const VIDEO: Other = Other { what: "a video", advice: "save single frames of it as JPEG or PNG" };
const AUDIO: Other = Other { what: "a sound file", advice: "remove it from the images" };
const ARCHIVE: Other = Other { what: "an archive", advice: "unpack it" };
const OFFICE: Other = Other { what: "a ZIP archive or an office document", advice: "unpack it, or export its images" };
const PAGES: Other = Other { what: "a document (PDF or PostScript)", advice: "export its pages as PNG" };
const DRAWING: Other = Other { what: "a vector drawing", advice: "export it as PNG" };
const PROGRAM: Other = Other { what: "a program", advice: "remove it from the images" };
const DATABASE: Other = Other { what: "a database", advice: "remove it from the images" };
const DATA: Other = Other { what: "a file of numbers", advice: "export its images as PNG" };
const POINTER: Other = Other {
    what: "a Git LFS pointer, which stands for a file that was not fetched",
    advice: "run `git lfs pull` to fetch the image",
};
const ANNEX: Other = Other {
    what: "a git-annex pointer, which stands for a file that was not fetched",
    advice: "run `git annex get` to fetch the image",
};
const WEB_PAGE: Other =
    Other { what: "a web page (HTML), perhaps the error page of a server", advice: "download the image itself" };
const JSON: Other = Other { what: "a JSON text, perhaps an answer of a server", advice: "download the image itself" };
const XML: Other = Other { what: "an XML text", advice: "download the image itself" };
const BASE64: Other = Other { what: "an image written as Base64 text", advice: "decode the text first" };
const TEXT: Other = Other { what: "a text", advice: "replace it by an image" };
const ZEROS: Other = Other {
    what: "a file of zero bytes alone, whose content was lost when it was written",
    advice: "copy the file again",
};

fn unsupported(what: &'static str) -> DecodeError {
    DecodeError::Unsupported { what: what.into(), advice: AS_IMAGE }
}

/// The error for a file that cannot be decoded; it names what the file is.
fn refusal(start: &[u8]) -> DecodeError {
    if is_raw(start) {
        return DecodeError::Raw;
    }
    if let Some(other) = container(start) {
        return other.into();
    }
    if let Some(name) = other_image(start) {
        return unsupported(name);
    }
    match text(start) {
        Some(other) => other.into(),
        None if start.len() >= 16 && start.iter().all(|&byte| byte == 0) => ZEROS.into(),
        None => DecodeError::Unknown,
    }
}

/// RAW photographs that are not TIFF, or that name their format in the header of a TIFF.
fn is_raw(start: &[u8]) -> bool {
    const MARKS: [&[u8]; 8] =
        [b"FUJIFILMCCD-RAW", b"FOVb", b"\0MRM", b"II\x1a\0\0\0HEAPCCDR", b"IIRO", b"IIRS", b"MMOR", b"IIU\0"];
    let marked = MARKS.iter().any(|mark| start.starts_with(mark));
    // TIFF files that `by_signature` did not accept.
    marked || start.starts_with(b"II*\0") || start.starts_with(b"MM\0*")
}

/// Videos, sounds, archives, documents and other files with a signature.
fn container(start: &[u8]) -> Option<Other> {
    const SIGNATURES: [(&[u8], Other); 46] = [
        (b"\x1a\x45\xdf\xa3", VIDEO), // Matroska, WebM
        (b"FLV\x01", VIDEO),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", VIDEO), // ASF, WMV
        (b"\0\0\x01\xba", VIDEO),
        (b"\0\0\x01\xb3", VIDEO),
        (b"\0\0\0\x01\x67", VIDEO), // H.264 without a container
        (b"\0\0\0\x01\x27", VIDEO),
        (b"\0\0\0\x01\x40\x01", VIDEO), // H.265
        (b"DHAV", VIDEO),
        (b"DKIF", VIDEO),
        (b"IMKH", VIDEO),
        (b"YUV4MPEG2", VIDEO),
        (b".RMF", VIDEO),
        (b"OggS", Other { what: "a sound file or a video (Ogg)", advice: VIDEO.advice }),
        (b"ID3", AUDIO),
        (b"fLaC", AUDIO),
        (b"\xff\xfb", AUDIO),
        (b"PK\x03\x04", OFFICE),
        (b"PK\x05\x06", OFFICE),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", OFFICE),
        (b"\x1f\x8b", ARCHIVE),
        (b"BZh", ARCHIVE),
        (b"\xfd7zXZ\0", ARCHIVE),
        (b"\x28\xb5\x2f\xfd", ARCHIVE),
        (b"7z\xbc\xaf\x27\x1c", ARCHIVE),
        (b"Rar!\x1a\x07", ARCHIVE),
        (b"\x04\x22\x4d\x18", ARCHIVE),
        (b"MSCF", ARCHIVE),
        (b"!<arch>\n", ARCHIVE),
        (b"%!PS", PAGES),
        (b"\xc5\xd0\xd3\xc6", PAGES),
        (b"AT&TFORM", Other { what: "a document (DjVu)", advice: PAGES.advice }),
        (b"\xd7\xcd\xc6\x9a", DRAWING),
        (b"AC10", Other { what: "a drawing (DWG)", advice: DRAWING.advice }),
        (b"\x7fELF", PROGRAM),
        (b"MZ\x90\0", PROGRAM),
        (b"\xca\xfe\xba\xbe", PROGRAM),
        (b"\xcf\xfa\xed\xfe", PROGRAM),
        (b"SQLite format 3\0", DATABASE),
        (b"\x89HDF\r\n\x1a\n", DATA),
        (b"\x93NUMPY", DATA),
        (b"CDF\x01", DATA),
        (b"CDF\x02", DATA),
        (b"MATLAB 5.0", DATA),
        (b"PAR1", DATA),
        (b"\x80\x04\x95", DATA), // a Python pickle
    ];
    let at = |offset: usize, mark: &[u8]| start.get(offset..).is_some_and(|rest| rest.starts_with(mark));
    if let Some((_, other)) = SIGNATURES.iter().find(|(mark, _)| start.starts_with(mark)) {
        return Some(*other);
    }
    if start.starts_with(b"RIFF") {
        return match start.get(8..12)? {
            b"AVI " => Some(VIDEO),
            b"WAVE" => Some(AUDIO),
            b"CDR4" | b"CDR5" | b"CDR6" | b"CDR7" => Some(DRAWING),
            _ => None,
        };
    }
    // QuickTime from before `ftyp` was required, and recordings that were interrupted.
    if [b"moov" as &[u8], b"mdat", b"wide", b"pnot", b"moof", b"styp"].iter().any(|mark| at(4, mark)) {
        return Some(VIDEO);
    }
    // MPEG transport streams: a sync byte every 188 or 192 bytes.
    let every = |first: usize, step: usize| (0..3).all(|n| start.get(first + n * step) == Some(&0x47));
    if every(0, 188) || every(4, 192) {
        return Some(VIDEO);
    }
    if at(257, b"ustar") {
        return Some(ARCHIVE);
    }
    let near = &start[..start.len().min(1024)];
    if near.windows(5).any(|part| part == b"%PDF-") {
        return Some(PAGES);
    }
    (start.starts_with(&[1, 0, 0, 0]) && at(40, b" EMF")).then_some(DRAWING)
}

/// Images of a format that cannot be decoded.
fn other_image(start: &[u8]) -> Option<&'static str> {
    const SIGNATURES: [(&[u8], &str); 26] = [
        (b"\xff\x0a", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\xff\x4f\xff\x51", "JPEG 2000"),
        (b"II\xbc", "JPEG XR"),
        (b"8BPS", "a Photoshop document (PSD)"),
        (b"gimp xcf", "a GIMP document (XCF)"),
        (b"#?RADIANCE", "Radiance HDR"),
        (b"#?RGBE", "Radiance HDR"),
        (b"\x76\x2f\x31\x01", "OpenEXR"),
        (b"DDS ", "DDS"),
        (b"farbfeld", "farbfeld"),
        (b"BPG\xfb", "BPG"),
        (b"FLIF", "FLIF"),
        (b"\x8aMNG\r\n\x1a\n", "MNG"),
        (b"\x8bJNG\r\n\x1a\n", "JNG"),
        (b"icns", "an Apple icon (ICNS)"),
        (b"\x01\xda\0", "SGI"),
        (b"\x01\xda\x01", "SGI"),
        (b"\x0a\x05\x01", "PCX"),
        (b"\x59\xa6\x6a\x95", "a Sun raster"),
        (b"SIMPLE  =", "FITS"),
        (b"\xabKTX ", "KTX"),
        (b"SDPX", "DPX"),
        (b"XPDS", "DPX"),
        (b"/* XPM */", "XPM"),
    ];
    if let Some((_, name)) = SIGNATURES.iter().find(|(mark, _)| start.starts_with(mark)) {
        return Some(name);
    }
    match start {
        [b'P', b'1'..=b'7', b' ' | b'\t' | b'\r' | b'\n', ..] => Some("PNM"),
        [b'P', b'f' | b'F', b'\n', ..] => Some("PFM"),
        [0, 0, 1, 0, 1..=64, 0, ..] => Some("an icon (ICO)"),
        [0, 0, 2, 0, 1..=64, 0, ..] => Some("a cursor (CUR)"),
        // The length of the identifier, no colour map, and a known type; further on the depth of a pixel.
        [_, 0, 2 | 3 | 10 | 11, 0, 0, 0, 0, _, ..] if matches!(start.get(16), Some(8 | 16 | 24 | 32)) => Some("TGA"),
        _ if start.get(128..132) == Some(b"DICM") => Some("a medical image (DICOM)"),
        _ => None,
    }
}

/// The kind of a text, by its words.
fn text(start: &[u8]) -> Option<Other> {
    if start.starts_with(&[0xff, 0xfe]) || start.starts_with(&[0xfe, 0xff]) {
        return Some(TEXT); // UTF-16
    }
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    let words = match std::str::from_utf8(start) {
        Ok(words) => words,
        // The end of the examined bytes cuts a letter.
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&start[..error.valid_up_to()]).ok()?,
        // Latin-1: no control characters, and mostly letters.
        Err(_) => {
            let written = |&&byte: &&u8| byte >= 0x20 && byte != 0x7f || matches!(byte, b'\t' | b'\r' | b'\n' | 0x0c);
            let plain = start.iter().filter(|byte| byte.is_ascii()).count();
            let all = start.iter().filter(written).count() == start.len();
            return (all && plain * 10 >= start.len() * 8).then_some(TEXT);
        }
    };
    if words.is_empty() || words.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\r' | '\n' | '\u{c}')) {
        return None;
    }
    let low = words.trim_start().to_ascii_lowercase();
    let begins = |marks: &[&str]| marks.iter().any(|mark| low.starts_with(mark));
    let image_as_text = ["data:image/", "/9j/4", "ivborw0kggo"];
    Some(match () {
        () if begins(&["version https://git-lfs", "version https://hawser"]) => POINTER,
        () if begins(&["/annex/objects/"]) || low.contains(".git/annex/objects/") => ANNEX,
        () if begins(&["<svg"]) || begins(&["<?xml", "<!--", "<!doctype svg"]) && low.contains("<svg") => DRAWING,
        () if begins(&["<!doctype html", "<html", "<head", "<body", "<script", "<title", "<meta"]) => WEB_PAGE,
        () if low.starts_with('<') && (low.contains("<html") || low.contains("<body")) => WEB_PAGE,
        () if begins(&["<?xml"]) => XML,
        () if begins(&["{\"", "{\n", "{ ", "{\r", "[{", "[\"", "{}", "[\n"]) => JSON,
        () if begins(&image_as_text) => BASE64,
        () => TEXT,
    })
}
