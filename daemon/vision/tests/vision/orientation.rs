//! Orientation: EXIF of any integer type, in every format that has it.

use crate::golden::input;
use crate::made::{FORMS, Form, Page, exif, jpeg_with, page, png_with, tag, webp_with};
use coft_vision::decode;
use image::RgbImage;

const SIX: &[u64] = &[6];
const TWICE: &[u64] = &[6, 6];
/// Integer types of TIFF and EXIF: BYTE, SHORT, LONG, and the signed ones.
const KINDS: [(u16, &[u64]); 8] =
    [(1, SIX), (3, SIX), (4, SIX), (6, SIX), (8, SIX), (9, SIX), (3, TWICE), (4, &[6, 1, 2, 3, 4])];

fn turned(name: &str) -> RgbImage {
    image::imageops::rotate90(&decode(&input(name)).unwrap().pixels)
}

fn data() -> impl Iterator<Item = (Vec<u8>, String)> {
    let forms = FORMS.iter().filter(|form| !form.big);
    forms
        .flat_map(|&form| KINDS.map(|(kind, values)| (exif(form, kind, values), format!("{form:?} {kind} {values:?}"))))
}

#[test]
fn a_jpeg_is_turned_whatever_the_type_of_its_orientation() {
    let plain = input("full-chroma.jpg");
    let expected = turned("full-chroma.jpg");
    for (exif, what) in data() {
        assert_eq!(decode(&jpeg_with(&exif, &plain)).unwrap().pixels, expected, "{what}");
    }
}

#[test]
fn a_png_is_turned_whatever_the_type_of_its_orientation_and_wherever_it_stands() {
    let plain = input("colour.png");
    let expected = turned("colour.png");
    for (exif, what) in data() {
        for behind in [false, true] {
            let file = png_with(b"eXIf", &exif, &plain, behind);
            assert_eq!(decode(&file).unwrap().pixels, expected, "{what}, behind the pixels: {behind}");
        }
    }
}

#[test]
fn a_webp_is_turned_whatever_the_type_of_its_orientation() {
    let plain = input("colour.webp");
    let decoded = decode(&plain).unwrap().pixels;
    for (exif, what) in data() {
        for exif in [exif.clone(), [b"Exif\0\0", &exif[..]].concat()] {
            let file = webp_with(&exif, &plain, decoded.dimensions());
            assert_eq!(decode(&file).unwrap().pixels, turned("colour.webp"), "{what}");
        }
    }
}

#[test]
fn a_tiff_is_turned_whatever_the_type_of_its_orientation() {
    let upright = RgbImage::from_fn(5, 3, |x, y| image::Rgb([(40 * x) as u8, (80 * y) as u8, 9]));
    for form in FORMS {
        for (kind, values) in KINDS {
            let mut page = page(5, 3, &[8, 8, 8], 2, upright.as_raw().clone());
            page.tags.push(tag(0x0112, kind, values));
            let file = form.file(vec![page]);
            let expected = image::imageops::rotate90(&upright);
            assert_eq!(decode(&file).unwrap().pixels, expected, "{form:?} {kind} {values:?}");
        }
    }
}

#[test]
fn an_orientation_that_is_none_leaves_the_pixels_as_they_are() {
    let plain = input("full-chroma.jpg");
    let form = Form { little_endian: true, big: false };
    let asked = |tags| form.file(vec![Page { tags, ..Page::default() }]);
    for exif in [
        asked(vec![tag(0x0112, 3, [0])]),
        asked(vec![tag(0x0112, 3, [9])]),
        asked(vec![tag(0x0112, 4, [0x1_0006])]),
        asked(vec![tag(0x0112, 2, [6])]),
        asked(vec![tag(0x0112, 3, [])]),
        asked(vec![]),
        b"II*\0\xff\xff\xff\xff".to_vec(),
        b"II*".to_vec(),
        Vec::new(),
    ] {
        assert_eq!(decode(&jpeg_with(&exif, &plain)), decode(&plain), "{exif:?}");
    }
}
