//! 16-bit pixels: the high byte is used, and an image that would show almost nothing is refused.

use crate::made::{FORMS, page};
use coft_vision::{DecodeError, decode};
use image::{ExtendedColorType, ImageEncoder};

fn png(colour: ExtendedColorType, values: &[u16]) -> Vec<u8> {
    let channels = u32::from(colour.channel_count());
    let height = values.len() as u32 / 64 / channels;
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_ne_bytes()).collect();
    let mut out = Vec::new();
    image::codecs::png::PngEncoder::new(&mut out).write_image(&bytes, 64, height, colour).unwrap();
    out
}

/// The same values as grey PNG and TIFF and, three times each, as coloured PNG.
fn files(values: &[u16]) -> Vec<(String, Vec<u8>)> {
    let height = values.len() as u32 / 64;
    let mut files = vec![("a grey PNG".into(), png(ExtendedColorType::L16, values))];
    let coloured: Vec<u16> = values.iter().flat_map(|&value| [value; 3]).collect();
    files.push(("a coloured PNG".into(), png(ExtendedColorType::Rgb16, &coloured)));
    let clear: Vec<u16> = values.iter().flat_map(|&value| [value, 65535]).collect();
    files.push(("a PNG with alpha".into(), png(ExtendedColorType::La16, &clear)));
    for form in FORMS {
        let data = values.iter().flat_map(|&value| form.number(value.into(), 2)).collect();
        files.push((format!("{form:?}"), form.file(vec![page(64, height, &[16], 1, data)])));
    }
    files
}

fn ramp(low: u16, high: u16) -> Vec<u16> {
    let step = |at: usize| low + ((at * 131) % (usize::from(high - low) + 1)) as u16;
    (0..64 * 150).map(step).collect()
}

fn with(mut values: Vec<u16>, others: &[u16]) -> Vec<u16> {
    values[..others.len()].copy_from_slice(others);
    values
}

#[test]
fn sixteen_bit_pixels_that_would_be_one_shade_are_refused_with_their_range() {
    for (low, high) in [(7000, 9000), (29_300, 31_200), (1, 4095), (500, 4000), (20_000, 28_000), (1, 255)] {
        for values in [ramp(low, high), with(ramp(low, high), &[0; 900]), with(ramp(low, high), &[65535; 900])] {
            for (what, file) in files(&values) {
                let refused = decode(&file).unwrap_err();
                let text = refused.to_string();
                assert!(matches!(refused, DecodeError::Unsupported { .. }), "{low} to {high}, {what}: {text}");
                assert!(text.contains("scale them to 0 to 65535, in the same way for every image"), "{text}");
                assert!(text.contains(&format!("the values {low} to {high} of 65535")), "{text}");
            }
        }
    }
}

#[test]
fn sixteen_bit_pixels_with_something_to_see_keep_their_high_byte() {
    let of_8_bits: Vec<u16> = ramp(90, 110).into_iter().map(|value| value * 257).collect();
    let left_aligned: Vec<u16> = ramp(90, 110).into_iter().map(|value| value << 8).collect();
    for values in
        [ramp(0, 65535), ramp(1, 16_383), ramp(9000, 30_000), of_8_bits, left_aligned, vec![0; 4096], vec![65535; 4096]]
    {
        for (what, file) in files(&values) {
            let pixels = decode(&file).unwrap_or_else(|error| panic!("{what}: {error}")).pixels;
            let red: Vec<u8> = pixels.pixels().map(|pixel| pixel.0[0]).collect();
            let expected: Vec<u8> = values.iter().map(|value| (value >> 8) as u8).collect();
            assert_eq!(red, expected, "{what}");
        }
    }
}

#[test]
fn one_dead_pixel_does_not_hide_that_there_is_nothing_to_see() {
    let mut values: Vec<u16> = (0..64 * 400).map(|at| 7000 + (at * 131 % 2000) as u16).collect();
    values[4711] = 60_000;
    values[811] = 12;
    for (what, file) in files(&values) {
        assert!(matches!(decode(&file), Err(DecodeError::Unsupported { .. })), "{what}");
    }
}
