//! Files that are not images, or cannot be decoded: the error names what they are and what to do.

use crate::golden::{goldens, input};
use crate::made::{FORMS, Page, page, tag};
use coft_vision::{DecodeError, decode, head};

#[track_caller]
fn refused(bytes: &[u8], why: &str) {
    assert_eq!(decode(bytes).unwrap_err().to_string(), why);
    assert_eq!(head(bytes).unwrap_err().to_string(), why);
    // The first bytes are enough.
    let start = &bytes[..bytes.len().min(4096)];
    assert_eq!(head(start).unwrap_err().to_string(), why);
}

#[test]
fn files_that_are_no_images_are_named_for_what_they_are() {
    let video = "not an image but a video; save single frames of it as JPEG or PNG";
    let noise: Vec<u8> = (0..5000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let with = |start: &[u8]| [start, &noise].concat();
    for start in [
        b"\0\0\0\x18ftypisom\0\0\x02\0isomiso2" as &[u8],
        b"\0\0\0\x20ftypmp42\0\0\0\0mp42isomavc1iso2",
        b"\0\0\0\x14ftypqt  \0\0\x02\0qt  ",
        b"\0\0\0\x14ftyp3gp4\0\0\x02\x003gp4",
        b"\0\0\x10\0moov\0\0\0lmvhd",
        b"\0\x10\0\0mdat\0\0",
        b"\0\0\0\x08wide\0\x10\0\0mdat",
        b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01",
        b"RIFF\0\0\x10\0AVI LIST",
        b"FLV\x01\x05\0\0\0\x09",
        b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9",
        b"\0\0\x01\xba\x44\0\x04",
        b"\0\0\0\x01\x67\x42\0\x1f",
        b"DHAV\xfd\0\0\0",
    ] {
        refused(&with(start), video);
    }
    let mut stream = noise.clone();
    (0..20).for_each(|packet| stream[188 * packet] = 0x47);
    refused(&stream, video);

    let page = "not an image but a web page (HTML), perhaps the error page of a server; download the image itself";
    for html in [
        "<html><body>404 not found</body></html>",
        "\u{feff}\r\n  <!DOCTYPE html>\n<html lang=\"de\">",
        "<!doctype HTML PUBLIC \"-//W3C//DTD HTML 4.01//EN\">",
        "<?xml version=\"1.0\"?>\n<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\">",
        "<!-- saved -->\n<html>",
        "<HEAD><TITLE>Login</TITLE></HEAD>",
    ] {
        refused(html.as_bytes(), page);
    }
    for (bytes, why) in [
        (b"" as &[u8], "the file is empty; send the complete file again"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
            "not an image but a Git LFS pointer, which stands for a file that was not fetched; run `git lfs pull` to fetch the image",
        ),
        (
            b"/annex/objects/SHA256E-s1234--aa.jpg\n",
            "not an image but a git-annex pointer, which stands for a file that was not fetched; run `git annex get` to fetch the image",
        ),
        (b"hex bolt,3\n", "not an image but a text; replace it by an image"),
        ("Schr\u{e4}ubchen\n".as_bytes(), "not an image but a text; replace it by an image"),
        (b"Schraube gross, h\xe4lt gut, 12 mm\n", "not an image but a text; replace it by an image"),
        (b"\xff\xfet\0e\0x\0t\0", "not an image but a text; replace it by an image"),
        (
            b"{\"error\": \"not found\"}",
            "not an image but a JSON text, perhaps an answer of a server; download the image itself",
        ),
        (
            b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>",
            "not an image but an XML text; download the image itself",
        ),
        (
            b"<?xml version=\"1.0\"?><svg xmlns=\"http://www.w3.org/2000/svg\" width=\"48\"/>",
            "not an image but a vector drawing; export it as PNG",
        ),
        (b"<svg viewBox=\"0 0 1 1\"/>", "not an image but a vector drawing; export it as PNG"),
        (b"/9j/4AAQSkZJRgABAQ", "not an image but an image written as Base64 text; decode the text first"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "not an image but a document (PDF or PostScript); export its pages as PNG"),
        (
            b"PK\x03\x04\x14\0\0\0\x08\0",
            "not an image but a ZIP archive or an office document; unpack it, or export its images",
        ),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\x03", "not an image but an archive; unpack it"),
        (b"7z\xbc\xaf\x27\x1c\0\x04", "not an image but an archive; unpack it"),
        (b"ID3\x04\0\0\0\0\0\x23", "not an image but a sound file; remove it from the images"),
        (b"SQLite format 3\0\x10\0", "not an image but a database; remove it from the images"),
        (b"8BPS\0\x01\0\0", "unsupported image: a Photoshop document (PSD); export it as JPEG or PNG"),
        (b"\xff\x0a\xfa\x1f", "unsupported image: JPEG XL; export it as JPEG or PNG"),
        (b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl ", "unsupported image: JPEG XL; export it as JPEG or PNG"),
        (b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 ", "unsupported image: JPEG 2000; export it as JPEG or PNG"),
        (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n", "unsupported image: Radiance HDR; export it as JPEG or PNG"),
        (b"P6\n48 48\n255\n\x01\x02\x03", "unsupported image: PNM; export it as JPEG or PNG"),
        (b"DDS \x7c\0\0\0", "unsupported image: DDS; export it as JPEG or PNG"),
        (b"\0\0\x01\0\x01\0\x30\x30\0\0\x01\0\x20\0", "unsupported image: an icon (ICO); export it as JPEG or PNG"),
        (
            b"\x89PNG\r\n\x1a\n\0\0\0\x04CgBIP\0\x20\x06",
            "unsupported image: a PNG in Apple's own form (CgBI); export it as JPEG or PNG",
        ),
        (
            &[0; 4096],
            "not an image but a file of zero bytes alone, whose content was lost when it was written; copy the file again",
        ),
        (&noise[1..], "not an image: the content is of no known image format"),
    ] {
        refused(bytes, why);
    }
}

const RAW: &str = "a RAW photograph; export it as JPEG or PNG";

#[test]
fn a_raw_photograph_that_is_no_tiff_is_named() {
    let preview = input("full-chroma.jpg");
    for start in [
        b"FUJIFILMCCD-RAW 0201FF383501" as &[u8],
        b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom",
        b"FOVb\x03\0\x02\0",
        b"\0MRM\0\x01\0\0",
        b"II\x1a\0\0\0HEAPCCDR\x02\0",
        b"IIRO\x08\0\0\0",
        b"IIRS\x08\0\0\0",
        b"MMOR\0\0\0\x08",
        b"IIU\0\x18\0\0\0",
        b"II*\0\x10\0\0\0CR\x02\0",
        b"II*\0\x08\0\0\0IIII",
    ] {
        refused(&[start, &[0; 200], &preview].concat(), RAW);
    }
}

#[test]
fn the_preview_of_a_raw_photograph_is_never_taken_for_the_image() {
    let preview = || page(8, 6, &[8, 8, 8], 2, vec![90; 8 * 6 * 3]);
    let reduced = |mut page: Page| {
        page.tags.push(tag(254, 4, [1]));
        page
    };
    let sensor = |photometric: u64, compression: u64| {
        let mut page = page(64, 48, &[16], photometric, vec![7; 64 * 48 * 2]);
        page.tags.push(tag(259, 3, [compression]));
        page
    };
    let mut checked = 0;
    for form in FORMS {
        for (photometric, compression) in
            [(32803, 1), (34892, 7), (32803, 34713), (1, 34713), (1, 32767), (1, 65535), (32803, 65000)]
        {
            for marked in [true, false] {
                let first = || if marked { reduced(preview()) } else { preview() };
                // The RAW page below the preview, as in most cameras, or below a second preview; after the preview;
                // before it.
                let mut below = first();
                below.below = vec![reduced(preview()), sensor(photometric, compression)];
                refused_as_raw(&form.file(vec![below]));
                refused_as_raw(&form.file(vec![sensor(photometric, compression), first()]));
                refused_as_raw(&form.file(vec![first(), sensor(photometric, compression)]));
                checked += 1;
            }
        }
        // A DNG is marked in its first directory, wherever the sensor's values are.
        let mut dng = preview();
        dng.tags.push(tag(50706, 1, [1, 4, 0, 0]));
        refused_as_raw(&form.file(vec![dng]));
        // If a larger image is below a page, the page is its preview.
        let mut below = preview();
        below.below = vec![page(64, 48, &[8, 8, 8], 2, vec![7; 64 * 48 * 3])];
        assert!(decode(&form.file(vec![below])).unwrap_err().to_string().contains("holds previews alone"));
        // An unclear case: a preview whose image is not in the file.
        let alone = form.file(vec![reduced(preview())]);
        let why = "unsupported image: a TIFF that holds previews alone, and no image in full; export it as JPEG or PNG";
        assert_eq!(decode(&alone).unwrap_err().to_string(), why);
    }
    assert_eq!(checked, 4 * 7 * 2);
}

#[track_caller]
fn refused_as_raw(file: &[u8]) {
    assert_eq!(decode(file), Err(DecodeError::Raw));
    assert_eq!(head(file), Err(DecodeError::Raw));
}

#[test]
fn kinds_of_jpeg_that_are_not_decoded_are_named() {
    let other = |name: &str| std::fs::read(goldens().join("others").join(name)).unwrap();
    for (name, why) in [
        ("lossless.jpg", "unsupported image: lossless JPEG; export it as JPEG or PNG"),
        ("lossless-14-bits.jpg", "unsupported image: lossless JPEG; export it as JPEG or PNG"),
        ("12-bits.jpg", "unsupported image: JPEG of 12 bits a sample; export it as JPEG or PNG"),
        ("jpeg-ls.jls", "unsupported image: JPEG-LS; export it as JPEG or PNG"),
    ] {
        let file = other(name);
        assert_eq!(decode(&file).unwrap_err().to_string(), why, "{name}");
        assert_eq!(head(&file[..file.len().min(1024)]).unwrap_err().to_string(), why, "{name}");
    }
    let mut hierarchical = input("full-chroma.jpg");
    let frame = hierarchical.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    hierarchical[frame + 1] = 0xc5;
    refused(&hierarchical, "unsupported image: hierarchical JPEG; export it as JPEG or PNG");
    let mut later = input("full-chroma.jpg");
    later[frame + 5..frame + 7].fill(0);
    assert!(
        decode(&later).unwrap_err().to_string().starts_with("unsupported image: JPEG whose height is stated behind"),
        "DNL"
    );
}

#[test]
fn a_text_that_begins_like_an_image_is_a_text() {
    for text in
        ["BMW and other makes of cars, with their prices and a great deal of other things\n", "IIRC this is no image\n"]
    {
        refused(text.as_bytes(), "not an image but a text; replace it by an image");
    }
}
