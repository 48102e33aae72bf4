//! TIFF: which page is the image, and the ways to store pages.

use crate::golden::input;
use crate::made::{FORMS, LONG, Page, SHORT, page, tag};
use coft_vision::{decode, head};
use image::{Rgb, RgbImage};

fn picture() -> RgbImage {
    RgbImage::from_fn(21, 13, |x, y| Rgb([(12 * x) as u8, (19 * y) as u8, (7 * (x + y)) as u8]))
}

fn coloured(picture: &RgbImage) -> Page {
    page(picture.width(), picture.height(), &[8, 8, 8], 2, picture.as_raw().clone())
}

fn preview(kind: u16, value: u64) -> Page {
    let mut page = page(4, 3, &[8, 8, 8], 2, vec![200; 36]);
    page.tags.push(tag(kind, if kind == 254 { LONG } else { SHORT }, [value]));
    page
}

#[test]
fn the_first_page_that_is_no_preview_is_the_image() {
    let picture = picture();
    let other = RgbImage::from_pixel(5, 9, Rgb([1, 2, 3]));
    for form in FORMS {
        let pages: [Vec<Page>; 8] = [
            vec![coloured(&picture)],
            vec![coloured(&picture), coloured(&other)],
            vec![preview(254, 1), coloured(&picture)],
            vec![preview(254, 1), preview(254, 1), coloured(&picture), coloured(&other)],
            vec![preview(255, 2), coloured(&picture)],
            vec![preview(254, 4), preview(254, 5), coloured(&picture)],
            vec![coloured(&picture), preview(254, 1)],
            // A pyramid: smaller copies below the image.
            vec![Page { below: vec![preview(254, 1), preview(254, 1)], ..coloured(&picture) }],
        ];
        for (case, pages) in pages.into_iter().enumerate() {
            let file = form.file(pages);
            let found = head(&file).unwrap();
            assert_eq!((found.format, found.width, found.height), ("TIFF", 21, 13), "{form:?} case {case}");
            assert_eq!(decode(&file).unwrap().pixels, picture, "{form:?} case {case}");
        }
    }
}

#[test]
fn every_way_to_store_a_picture_gives_the_same_pixels() {
    let picture = picture();
    let (width, height) = picture.dimensions();
    let plane = |channel: usize| picture.pixels().map(move |pixel| pixel.0[channel]);
    for form in FORMS {
        let apart: Vec<u8> = (0..3).flat_map(plane).collect();
        let mut planes = page(width, height, &[8, 8, 8], 2, Vec::new());
        let count = u64::from(width * height);
        let start = if form.big { 16 } else { 8 };
        planes.tags.extend([
            tag(284, SHORT, [2]),
            tag(273, LONG, [start, start + count, start + 2 * count]),
            tag(279, LONG, [count; 3]),
        ]);
        let empty = form.file(vec![Page { below: vec![Page { data: apart, ..Page::default() }], ..planes }]);

        let deep = picture.as_raw().iter().flat_map(|&value| form.number(u64::from(value) * 257, 2)).collect();
        let clear: Vec<u8> = picture.pixels().flat_map(|Rgb([r, g, b])| [*r, *g, *b, 9, 77]).collect();
        let with_more = |extra: Vec<u64>| {
            let mut page = page(width, height, &[8, 8, 8, 8, 8], 2, clear.clone());
            page.tags.push(tag(338, SHORT, extra));
            page
        };
        for (what, file) in [
            ("planes", empty),
            ("16 bits", form.file(vec![page(width, height, &[16, 16, 16], 2, deep)])),
            ("alpha and more", form.file(vec![with_more(vec![2, 0])])),
            ("two unknown channels", form.file(vec![with_more(vec![0, 0])])),
        ] {
            let decoded = decode(&file).unwrap_or_else(|error| panic!("{form:?} {what}: {error}"));
            assert_eq!(decoded.pixels, picture, "{form:?} {what}");
        }
    }
}

#[test]
fn grey_of_every_depth_fills_the_range() {
    for form in FORMS {
        for (bits, data, expected) in [
            (1, vec![0b1010_0000, 0b0100_0000], [255, 0, 255, 0, 255, 0]),
            (2, vec![0b0001_1000, 0b1101_1000], [0, 85, 170, 255, 85, 170]),
            (4, vec![0x0f, 0x10, 0x12, 0x30], [0, 255, 17, 17, 34, 51]),
            (8, vec![1, 2, 3, 4, 5, 250], [1, 2, 3, 4, 5, 250]),
        ] {
            for inverted in [false, true] {
                let file = form.file(vec![page(3, 2, &[bits], if inverted { 0 } else { 1 }, data.clone())]);
                let grey: Vec<u8> = decode(&file).unwrap().pixels.pixels().map(|pixel| pixel.0[0]).collect();
                let expected = expected.map(|value| if inverted { 255 - value } else { value });
                assert_eq!(grey, expected, "{form:?} {bits} bits, inverted: {inverted}");
            }
        }
    }
}

#[test]
fn grey_with_more_channels_is_grey() {
    for form in FORMS {
        for more in [1, 3] {
            let bits = vec![8; 1 + more];
            let data = [7u8, 90, 200, 31].into_iter().flat_map(|grey| [vec![grey], vec![99; more]].concat()).collect();
            let mut page = page(2, 2, &bits, 1, data);
            page.tags.push(tag(338, SHORT, vec![0; more]));
            let pixels = decode(&form.file(vec![page])).unwrap().pixels;
            assert_eq!(pixels.into_raw(), [7, 7, 7, 90, 90, 90, 200, 200, 200, 31, 31, 31], "{form:?}, {more} more");
        }
    }
}

#[test]
fn a_palette_gives_its_colours() {
    for form in FORMS {
        for (bits, data) in
            [(4u64, vec![0x01, 0x20, 0x21, 0x00]), (8, vec![0, 1, 2, 2, 1, 0]), (2, vec![0b0001_1000, 0b1001_0000])]
        {
            let count = 1usize << bits;
            let mut map = vec![0; 3 * count];
            for (index, [r, g, b]) in [[0u64, 10, 20], [255, 0, 9], [7, 200, 100]].into_iter().enumerate() {
                (map[index], map[count + index], map[2 * count + index]) = (r * 257, g * 257, b * 257);
            }
            let mut coloured = page(3, 2, &[bits], 3, data);
            coloured.tags.push(tag(320, SHORT, map));
            let pixels = decode(&form.file(vec![coloured])).unwrap().pixels;
            let row = [Rgb([0, 10, 20]), Rgb([255, 0, 9]), Rgb([7, 200, 100])];
            assert_eq!(pixels.pixels().copied().take(3).collect::<Vec<_>>(), row, "{form:?} {bits} bits");
            assert_eq!(
                pixels.pixels().copied().skip(3).collect::<Vec<_>>(),
                [row[2], row[1], row[0]],
                "{form:?} {bits} bits"
            );
        }
    }
}

#[test]
fn what_is_not_decoded_is_named() {
    let form = FORMS[0];
    let changed = |bits: &[u64], photometric: u64, more: Vec<crate::made::Tag>| {
        let mut page = page(4, 4, bits, photometric, vec![0; 16 * bits.len() * 4]);
        page.tags.extend(more);
        form.file(vec![page])
    };
    for (file, what) in [
        (
            changed(&[32], 1, vec![tag(339, SHORT, [3])]),
            "whose pixels are 32-bit floating-point numbers, which have no fixed range",
        ),
        (changed(&[16], 1, vec![tag(339, SHORT, [2])]), "whose pixels are numbers with a sign"),
        (changed(&[32], 1, vec![]), "of 32 bits a channel"),
        (changed(&[12], 1, vec![]), "of 12 bits a channel"),
        (changed(&[8, 8, 8], 8, vec![]), "in the colour space L*a*b*"),
        (changed(&[8, 8, 8], 6, vec![]), "in YCbCr without JPEG compression"),
        (changed(&[8, 8, 8], 2, vec![tag(259, SHORT, [50000])]), "with Zstandard compression"),
        (changed(&[8, 8, 8], 2, vec![tag(259, SHORT, [34712])]), "with JPEG 2000 compression"),
        (changed(&[1], 1, vec![tag(259, SHORT, [3])]), "with fax compression of group 3"),
        (changed(&[8, 8, 8], 2, vec![tag(259, SHORT, [6])]), "with JPEG compression in its old form"),
        (changed(&[8, 8, 8], 2, vec![tag(259, SHORT, [4711])]), "with compression 4711"),
        (changed(&[8, 8, 8, 8, 8, 8], 5, vec![]), "of 6 inks"),
    ] {
        let text = format!("unsupported image: a TIFF {what}; export it as JPEG or PNG");
        assert_eq!(decode(&file).unwrap_err().to_string(), text);
        assert_eq!(head(&file).unwrap_err().to_string(), text);
    }
}

#[test]
fn directories_in_a_circle_end() {
    let form = FORMS[0];
    let mut file = form.file(vec![preview(254, 1), preview(254, 1)]);
    // Makes the second page, at the end of the file, link to the first.
    let end = file.len();
    let first: [u8; 4] = file[4..8].try_into().unwrap();
    file[end - 4..].copy_from_slice(&first);
    assert!(decode(&file).unwrap_err().to_string().contains("holds previews alone"));
}

#[test]
fn a_tiff_that_is_cut_off_is_told_so() {
    for name in ["jpeg.tiff", "palette.tiff", "fax.tiff", "colour.tiff", "grey.tiff"] {
        let whole = input(name);
        let decoded = decode(&whole).unwrap();
        for length in (8..whole.len()).step_by(7) {
            if let Ok(cut) = decode(&whole[..length]) {
                assert_eq!(cut, decoded, "{name} cut at {length}");
            }
        }
    }
}
