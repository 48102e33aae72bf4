//! HEIC and AVIF where libheif is installed, and the error where it is not.

use crate::golden::input;
use coft_vision::{DecodeError, decode, head};

const FILES: [&str; 6] =
    ["full-chroma.heic", "half-chroma.heic", "turned.heic", "exif-alone.heic", "alpha.heic", "full-chroma.avif"];

/// Whether this machine can decode the file; prints a message if not.
pub fn is_decoded(name: &str) -> bool {
    match decode(&input(name)) {
        Err(DecodeError::Unsupported { what, advice }) => {
            assert!(
                what.contains("needs the library libheif") && advice.contains("libheif1"),
                "{name}: {what}; {advice}"
            );
            println!("skipped {name}: {what}");
            false
        }
        _ => true,
    }
}

#[test]
fn the_size_is_known_without_the_library() {
    for name in FILES {
        let file = input(name);
        let head = head(&file[..file.len().min(1024)]).unwrap();
        let expected = if name == "alpha.heic" { (37, 29) } else { (64, 48) };
        let stored = [(head.width, head.height), (head.height, head.width)];
        assert!(stored.contains(&expected), "{name}: {head:?}");
        assert_eq!(head.format, if name.ends_with("avif") { "AVIF" } else { "HEIC" });
    }
}

#[test]
fn a_name_that_lies_does_not_matter_and_the_file_turns_itself() {
    if is_decoded("turned.heic") {
        let decoded = decode(&input("turned.heic")).unwrap();
        assert_eq!((decoded.format, decoded.pixels.dimensions()), ("HEIC", (48, 64)));
    }
}

#[test]
fn a_part_of_a_heic_is_refused() {
    for name in FILES {
        if !is_decoded(name) {
            continue;
        }
        let whole = input(name);
        let decoded = decode(&whole).unwrap();
        for length in (24..whole.len()).step_by(31) {
            match decode(&whole[..length]) {
                Ok(cut) => assert_eq!(cut, decoded, "{name} cut at {length}"),
                Err(error) => {
                    let cut = matches!(error, DecodeError::Truncated { .. } | DecodeError::Damaged { .. });
                    assert!(cut, "{name} cut at {length}: {error}");
                }
            }
        }
    }
}

#[test]
fn a_heic_of_too_many_pixels_is_refused_before_it_is_decoded() {
    let mut file = input("full-chroma.heic");
    let at = file.windows(4).position(|kind| kind == b"ispe").unwrap() + 8;
    file[at..at + 8].copy_from_slice(&[0, 0, 0x75, 0x30, 0, 0, 0x75, 0x30]); // 30000×30000
    let text = "the image is too large: 30000×30000 px, over the limit of 100 megapixels; send a smaller one";
    assert_eq!(decode(&file).unwrap_err().to_string(), text);
}
