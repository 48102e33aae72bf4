//! The boxes of a HEIF file (ISO/IEC 14496-12 and 23008-12): the size of its main image. Nothing is decoded here.

use crate::error::{DecodeError, MAX_PIXELS};
use crate::format::Format;
use crate::ifd::Truncated;
use crate::size::Size;

/// Most boxes of one level that are examined. [choice]
const MOST_BOXES: usize = 4096;
/// Memory that libheif takes for any image, bytes. [choice]
const OTHER_BYTES: u64 = 16 << 20;

/// Most memory that libheif and its decoders take per pixel, including the returned copy, bytes.
///
/// Measured with libheif 1.15 for 3 megapixels, without the copy of 3 bytes: HEIC 6.9 to 7.7 for 8 bits, 12.2 to 12.9
/// for 10 bits; AVIF 7.8 to 14.0 for 8 bits. Rotation needs one more copy of the planes.
fn pixel_bytes(format: Format, is_deep: bool) -> u64 {
    match (format, is_deep) {
        (Format::Avif, false) => 20,
        (Format::Avif, true) => 28,
        (_, false) => 14,
        (_, true) => 22,
    }
}

/// Whether a codec's configuration states more than 8 bits, or cannot be read.
fn is_deep((kind, body): &(Kind, &[u8])) -> bool {
    match kind {
        b"hvcC" => body.get(17).is_none_or(|depth| depth & 7 != 0),
        b"av1C" => body.get(2).is_none_or(|flags| flags & 0x40 != 0),
        _ => false,
    }
}

/// # Errors
/// [`DecodeError`] where the bytes end before the size, or contain no still image.
pub fn size(bytes: &[u8], format: Format) -> Result<Size, DecodeError> {
    let cut = |_: Truncated| DecodeError::Truncated { format: format.name() };
    let Some(meta) = child(bytes, *b"meta").map_err(cut)? else {
        // Either the beginning of a still image, or a whole film.
        return Err(match child(bytes, *b"moov") {
            Ok(Some(_)) => DecodeError::unsupported(format!("a film of {} images", format.name())),
            _ => cut(Truncated),
        });
    };
    let meta = meta.get(4..).unwrap_or_default(); // behind version and flags
    let main = child(meta, *b"pitm").map_err(cut)?.and_then(main_item);
    let properties = child(meta, *b"iprp").map_err(cut)?.unwrap_or_default();
    let container = child(properties, *b"ipco").map_err(cut)?.unwrap_or_default();
    let all = boxes(container).collect::<Result<Vec<_>, _>>().map_err(cut)?;
    let links = child(properties, *b"ipma").map_err(cut)?;
    let of_main = links.zip(main).and_then(|(links, main)| properties_of(links, main)).unwrap_or_default();
    let of_main: Vec<_> = of_main.into_iter().filter_map(|index| all.get(index.checked_sub(1)?)).collect();
    let stated = |kind: Kind| of_main.iter().find(|(found, _)| *found == kind).map(|(_, body)| *body);

    let largest = all.iter().filter(|(kind, _)| kind == b"ispe").filter_map(|(_, body)| sides(body)).max_by_key(area);
    let damaged = DecodeError::Damaged { format: format.name(), what: "its header holds no size" };
    let stored = stated(*b"ispe").and_then(sides).or(largest).ok_or(damaged)?;
    // The encoder may have padded the image to whole blocks; the visible part counts.
    let (width, height) = stated(*b"clap")
        .and_then(aperture)
        .filter(|part| area(part) <= area(&stored) && area(&stored) <= MAX_PIXELS)
        .unwrap_or(stored);
    let pixel_bytes = pixel_bytes(format, all.iter().any(is_deep));
    // The stored image may be larger than the visible one, and a tile of the main image may be larger than both.
    let most = largest.as_ref().map_or(0, area).max(area(&stored));
    let other_bytes = OTHER_BYTES.saturating_add((most - area(&(width, height))).saturating_mul(pixel_bytes));
    Ok(Size { width, height, pixel_bytes, other_bytes })
}

fn area(&(width, height): &(u32, u32)) -> u64 {
    u64::from(width) * u64::from(height)
}

type Kind = [u8; 4];

/// The body of the first box of a kind.
fn child(bytes: &[u8], kind: Kind) -> Result<Option<&[u8]>, Truncated> {
    boxes(bytes)
        .find(|found| !matches!(found, Ok((other, _)) if *other != kind))
        .map(|found| found.map(|(_, body)| body))
        .transpose()
}

/// The boxes of one level, up to the first that is not completely in the bytes.
fn boxes(bytes: &[u8]) -> impl Iterator<Item = Result<(Kind, &[u8]), Truncated>> {
    let mut at = 0;
    let mut cut = false;
    std::iter::from_fn(move || {
        if cut || at >= bytes.len() {
            return None;
        }
        let found = one(&bytes[at..]);
        match &found {
            Ok((_, _, length)) => at += length,
            Err(_) => cut = true,
        }
        Some(found.map(|(kind, body, _)| (kind, body)))
    })
    .take(MOST_BOXES)
}

/// Kind, body and total length of the box at the start of the bytes.
fn one(bytes: &[u8]) -> Result<(Kind, &[u8], usize), Truncated> {
    let number = |at: usize| word(bytes, at).ok_or(Truncated);
    let kind = number(4)?.to_be_bytes();
    let (start, length) = match number(0)? {
        0 => (8, bytes.len()),
        1 => {
            let long = u64::from(number(8)?) << 32 | u64::from(number(12)?);
            (16, usize::try_from(long).map_err(|_| Truncated)?)
        }
        length => (8, length as usize),
    };
    let body = bytes.get(start..length).ok_or(Truncated)?;
    Ok((kind, body, length))
}

fn main_item(pitm: &[u8]) -> Option<u32> {
    Some(match pitm.first()? {
        0 => u16::from_be_bytes(pitm.get(4..6)?.try_into().ok()?).into(),
        _ => word(pitm, 4)?,
    })
}

fn sides(ispe: &[u8]) -> Option<(u32, u32)> {
    Some((word(ispe, 4)?, word(ispe, 8)?))
}

/// The sides of the visible part; each is stored as a fraction.
fn aperture(clap: &[u8]) -> Option<(u32, u32)> {
    let side = |at: usize| word(clap, at)?.checked_div(word(clap, at + 4)?);
    Some((side(0)?, side(8)?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Indices of an item's properties, starting at 1.
fn properties_of(ipma: &[u8], item: u32) -> Option<Vec<usize>> {
    let number = |at: usize, bytes: usize| {
        Some(ipma.get(at..at + bytes)?.iter().fold(0u32, |number, &byte| number << 8 | u32::from(byte)))
    };
    let id_bytes = if *ipma.first()? == 0 { 2 } else { 4 };
    let wide = *ipma.get(3)? & 1 == 1;
    let index_bytes = if wide { 2 } else { 1 };
    let mut at = 8;
    for _ in 0..number(4, 4)? {
        let id = number(at, id_bytes)?;
        let count = usize::from(*ipma.get(at + id_bytes)?);
        let first = at + id_bytes + 1;
        // The highest bit marks the property as essential.
        let mask = if wide { 0x7fff } else { 0x7f };
        if id == item {
            return (0..count).map(|n| Some((number(first + n * index_bytes, index_bytes)? & mask) as usize)).collect();
        }
        at = first + count * index_bytes;
    }
    None
}
