//! The segments of a JPEG file: its size, its kind, its EXIF data, and whether it is complete. Nothing is decoded here.

use super::FORMAT;
use crate::error::DecodeError;

const STUFFED_ZERO: u8 = 0x00;
const TEM: u8 = 0x01;
const DEFINE_HUFFMAN: u8 = 0xc4;
const JPEG_EXTENSION: u8 = 0xc8;
const DEFINE_ARITHMETIC: u8 = 0xcc;
const FIRST_RESTART: u8 = 0xd0;
const LAST_RESTART: u8 = 0xd7;
const START_OF_IMAGE: u8 = 0xd8;
const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;
const APP1: u8 = 0xe1;
const JPEG_LS: u8 = 0xf7;

/// The header of a JPEG file.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame<'a> {
    /// Code of the frame marker, which gives the kind of coding.
    kind: u8,
    bits: u8,
    pub width: u32,
    pub height: u32,
    /// For each component: its number, and its sampling factors across and down.
    components: Vec<(u8, u32, u32)>,
    /// Number of components in the first scan; 0 where the bytes end before it.
    first_scan: usize,
    /// EXIF data, if there are any.
    pub exif: Option<&'a [u8]>,
}

impl<'a> Frame<'a> {
    /// Reads up to the first scan, or to the end of the bytes if they end after the image's size.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] where the bytes end before the image's size.
    pub fn read(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut exif = None;
        let mut frame: Option<Self> = None;
        for (marker, body) in Segments::of(bytes) {
            match (marker, body) {
                (APP1, body) if exif.is_none() && body.starts_with(b"Exif\0\0") => exif = Some(body),
                (0xc0..=0xcf | JPEG_LS, body) if frame.is_none() && is_frame(marker) => {
                    frame = Self::parse(marker, body)
                }
                (START_OF_SCAN, body) => {
                    let Some(frame) = &mut frame else {
                        return Err(DecodeError::Damaged { format: FORMAT, what: "it has pixels without a size" });
                    };
                    frame.first_scan = body.first().copied().map_or(0, usize::from);
                    break;
                }
                (END_OF_IMAGE, _) if frame.is_none() => {
                    return Err(DecodeError::Damaged { format: FORMAT, what: "it holds no image" });
                }
                (END_OF_IMAGE, _) => break,
                _ => {}
            }
        }
        frame.map(|frame| Self { exif, ..frame }).ok_or(DecodeError::Truncated { format: FORMAT })
    }

    fn parse(kind: u8, body: &[u8]) -> Option<Self> {
        let [bits, h0, h1, w0, w1, count, components @ ..] = body else { return None };
        let components = components.chunks_exact(3).take(usize::from(*count));
        Some(Self {
            kind,
            bits: *bits,
            width: u16::from_be_bytes([*w0, *w1]).into(),
            height: u16::from_be_bytes([*h0, *h1]).into(),
            components: components.map(|part| (part[0], u32::from(part[1] >> 4), u32::from(part[1] & 15))).collect(),
            first_scan: 0,
            exif: None,
        })
    }

    /// # Errors
    /// [`DecodeError::Unsupported`] for a kind that is not decoded.
    pub fn check(&self) -> Result<(), DecodeError> {
        let unsupported = |what: String| Err(DecodeError::unsupported(what));
        match self.kind {
            0xc3 | 0xcb => return unsupported("lossless JPEG".into()),
            0xc5..=0xc7 | 0xcd..=0xcf => return unsupported("hierarchical JPEG".into()),
            JPEG_LS => return unsupported("JPEG-LS".into()),
            _ => {}
        }
        if self.bits != 8 {
            return unsupported(format!("JPEG of {} bits a sample", self.bits));
        }
        if self.height == 0 {
            return unsupported("JPEG whose height is stated behind its pixels".into());
        }
        match self.components.len() {
            1 | 3 | 4 => Ok(()),
            count => unsupported(format!("JPEG of {count} colour channels")),
        }
    }

    pub fn is_arithmetic(&self) -> bool {
        self.kind >= 0xc9
    }

    /// Bytes that libjpeg needs in addition to the pixels; if several scans have to be combined, these include all
    /// coefficients.
    pub fn working_bytes(&self) -> u64 {
        let most = |factor: fn(&(u8, u32, u32)) -> u32| self.components.iter().map(factor).max().unwrap_or(1).max(1);
        let (across, down) = (most(|c| c.1), most(|c| c.2));
        // Twice the rows of one line of blocks, for every component at full width, rounded up generously.
        let lines = u64::from(self.width + 64) * 64 * self.components.len() as u64;
        let progressive = matches!(self.kind, 0xc2 | 0xca);
        if !progressive && self.first_scan == self.components.len() {
            return lines;
        }
        let blocks = |side: u32, factor: u32, most: u32| {
            u64::from(side).div_ceil(8 * u64::from(most)) * u64::from(factor.max(1))
        };
        let coefficients = |c: &(u8, u32, u32)| 128 * blocks(self.width, c.1, across) * blocks(self.height, c.2, down);
        lines + self.components.iter().map(coefficients).sum::<u64>()
    }

    /// Whether every component has a scan.
    pub fn has_all_scans(&self, bytes: &[u8]) -> bool {
        let mut seen = [false; 256];
        for (_, body) in Segments::of(bytes).filter(|(marker, _)| *marker == START_OF_SCAN) {
            let count = body.first().copied().unwrap_or(0);
            body[1.min(body.len())..]
                .chunks_exact(2)
                .take(count.into())
                .for_each(|part| seen[usize::from(part[0])] = true);
        }
        self.components.iter().all(|&(number, ..)| seen[usize::from(number)])
    }
}

fn is_frame(marker: u8) -> bool {
    !matches!(marker, DEFINE_HUFFMAN | JPEG_EXTENSION | DEFINE_ARITHMETIC)
}

/// The bytes of the image alone, and whether an end marker was found.
///
/// Without an end marker, another image may follow. A long row of zeros is not data: a file system leaves zeros where a
/// file was not completely written. The decoder would make pixels of them.
pub fn without_lost_end(bytes: &[u8]) -> (&[u8], bool) {
    /// Most zeros at the end that may be data. [choice]
    const FEW: usize = 16;
    let mut segments = Segments::of(bytes);
    let bytes = loop {
        match segments.next() {
            Some((END_OF_IMAGE, _)) => return (bytes, true),
            Some((START_OF_IMAGE, _)) => break &bytes[..segments.at - 2],
            Some(_) => {}
            None => break bytes,
        }
    };
    let zeros = bytes.iter().rev().take_while(|&&byte| byte == 0).count();
    (if zeros > FEW { &bytes[..bytes.len() - zeros] } else { bytes }, false)
}

/// Iterates over markers with the bodies of their segments; entropy-coded data and stray bytes are skipped. A thumbnail
/// inside metadata does not count. Ends at a segment that is not completely in the bytes.
struct Segments<'a> {
    bytes: &'a [u8],
    at: usize,
    in_scan: bool,
}

impl<'a> Segments<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, in_scan: false }
    }

    /// The code of the next marker; moves `at` behind it.
    fn marker(&mut self) -> Option<u8> {
        let start = self.at + self.bytes.get(self.at..)?.iter().position(|&byte| byte == 0xff)?;
        let code = start + self.bytes[start..].iter().position(|&byte| byte != 0xff)?;
        self.at = code + 1;
        Some(self.bytes[code])
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let marker = self.marker()?;
            match marker {
                END_OF_IMAGE => return Some((marker, &[])),
                START_OF_IMAGE if self.in_scan => return Some((marker, &[])),
                START_OF_IMAGE | TEM | STUFFED_ZERO | FIRST_RESTART..=LAST_RESTART => continue,
                // After the scan's own header comes entropy-coded data, in which markers are skipped without a length.
                START_OF_SCAN => self.in_scan = true,
                // Other markers in entropy-coded data mean damage, which the decoder reports.
                0x02..=0xbf if self.in_scan => continue,
                _ => {}
            }
            let length = self.bytes.get(self.at..self.at + 2)?;
            let end = self.at + usize::from(u16::from_be_bytes([length[0], length[1]])).max(2);
            let body = self.bytes.get(self.at + 2..end);
            self.at = end;
            return Some((marker, body?));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCAN: [u8; 9] = [0xff, START_OF_SCAN, 0, 4, 1, 2, 0x33, 0xff, STUFFED_ZERO];

    fn file(parts: &[&[u8]]) -> Vec<u8> {
        [&[0xff, START_OF_IMAGE] as &[u8]].iter().chain(parts).copied().flatten().copied().collect()
    }

    fn ends(bytes: &[u8]) -> bool {
        Segments::of(bytes).any(|(marker, _)| marker == END_OF_IMAGE)
    }

    #[test]
    fn the_end_marker_is_found_behind_the_scans() {
        assert!(ends(&file(&[&SCAN, &[0xff, END_OF_IMAGE]])));
        assert!(ends(&file(&[&SCAN, &[0xff, 0xd3, 5, 6], &SCAN, &[0xff, 0xff, END_OF_IMAGE, 0, 0]])));
    }

    #[test]
    fn an_end_marker_inside_metadata_does_not_count() {
        let thumbnail = [0xff, APP1, 0, 6, 0xff, START_OF_IMAGE, 0xff, END_OF_IMAGE];
        assert!(!ends(&file(&[&thumbnail])));
        assert!(!ends(&file(&[&thumbnail, &SCAN])));
        assert!(ends(&file(&[&thumbnail, &SCAN, &[0xff, END_OF_IMAGE]])));
    }

    #[test]
    fn zeros_behind_a_scan_without_an_end_are_no_data() {
        let cut = file(&[&SCAN, &[7, 8]]);
        assert_eq!(without_lost_end(&[&cut[..], &[0; 4096]].concat()), (&cut[..], false));
        let few = [&cut[..], &[0; 9]].concat();
        assert_eq!(without_lost_end(&few), (&few[..], false));
        let ended = [&cut[..], &[0xff, END_OF_IMAGE], &[0; 4096]].concat();
        assert_eq!(without_lost_end(&ended), (&ended[..], true));
        assert_eq!(without_lost_end(&[&cut[..], &ended].concat()), (&cut[..], false));
    }
}
