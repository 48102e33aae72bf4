//! Reads lists that people and other programs write: bytes to text, text to lines.
//!
//! Two names that look the same must not be two classes, and a name must not be lost because of the way it was typed.
//! So all text is brought into one encoding and one form, characters that cannot be seen are refused with their line,
//! and what looks like a comment is one.

use thiserror::Error;
use unicode_normalization::UnicodeNormalization;

/// Why a list is refused; lines count from 1.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TextError {
    /// A byte is not part of a UTF-8 character.
    #[error(
        "line {line}: the byte 0x{byte:02X} is not UTF-8; the file may be in ISO-8859-1 or Windows-1252; save it as \
         UTF-8, for example with iconv -f WINDOWS-1252 -t UTF-8"
    )]
    NotUtf8 {
        /// Line of the byte.
        line: usize,
        /// The byte.
        byte: u8,
    },
    /// A file that begins like UTF-16 ends within a character, or has half of a surrogate pair.
    #[error("line {line}: half a character; the file begins as UTF-16 does and is damaged; save it as UTF-8")]
    HalfUtf16 {
        /// The line with the half character.
        line: usize,
    },
    /// The file is in an encoding that coft does not read.
    #[error("the file is in {encoding}; save it as UTF-8, for example with iconv -f {encoding} -t UTF-8")]
    Encoding {
        /// Name of the encoding, as iconv uses it.
        encoding: &'static str,
    },
    /// A line has a control character.
    #[error("line {line}: the control character {}; write plain text, one entry a line", code(*found))]
    Control {
        /// The line.
        line: usize,
        /// The character.
        found: char,
    },
    /// A line has a character of zero width, or one that changes the direction of writing.
    #[error("line {line}: the character {}, which cannot be seen; remove it", code(*found))]
    Invisible {
        /// The line.
        line: usize,
        /// The character.
        found: char,
    },
    /// A line has U+FFFD, which another program has written in place of a character that it could not convert.
    #[error(
        "line {line}: the character U+FFFD stands for one that was lost when the file was converted; write that one"
    )]
    Lost {
        /// The line.
        line: usize,
    },
    /// A line begins with `#` without a space after it, so it is unclear whether it is a comment or an entry.
    #[error(
        "line {line}: {text:?} begins with #; put a space behind the # if it is a comment, and write \\{text} if it is none"
    )]
    Hash {
        /// The line.
        line: usize,
        /// Its text.
        text: String,
    },
}

fn code(found: char) -> String {
    format!("U+{:04X}", u32::from(found))
}

/// The text of a file: UTF-8 with or without a byte order mark, or UTF-16 with one. Every line of the result ends in
/// `\n`, whatever its ending in the file.
///
/// # Errors
/// Names the encoding if it is another one, or the line and the byte.
pub fn decode(bytes: &[u8]) -> Result<String, TextError> {
    let encoding = |encoding| Err(TextError::Encoding { encoding });
    match bytes {
        [0xff, 0xfe, 0, 0, ..] => encoding("UTF-32LE"),
        [0, 0, 0xfe, 0xff, ..] => encoding("UTF-32BE"),
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        // In UTF-16, half of the bytes of European text are zero; in UTF-8 none is.
        [first, 0, ..] if *first != 0 => encoding("UTF-16LE"),
        [0, second, ..] if *second != 0 => encoding("UTF-16BE"),
        [0xef, 0xbb, 0xbf, rest @ ..] => utf8(rest),
        bytes => utf8(bytes),
    }
}

fn utf8(bytes: &[u8]) -> Result<String, TextError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(with_line_ends(text)),
        Err(error) => {
            let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            Err(TextError::NotUtf8 { line: lines_begun(&before), byte: bytes[error.valid_up_to()] })
        }
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, TextError> {
    let (pairs, rest) = bytes.as_chunks();
    let mut text = String::new();
    for found in char::decode_utf16(pairs.iter().map(|pair| unit(*pair))) {
        text.push(found.map_err(|_| TextError::HalfUtf16 { line: lines_begun(&text) })?);
    }
    if rest.is_empty() { Ok(with_line_ends(&text)) } else { Err(TextError::HalfUtf16 { line: lines_begun(&text) }) }
}

fn with_line_ends(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

fn lines_begun(text: &str) -> usize {
    1 + with_line_ends(text).matches('\n').count()
}

/// The kinds of lines in a list.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// It has only white space.
    Blank,
    /// A comment, which readers skip.
    Comment,
    /// An entry: trimmed, in Unicode's composed form (NFC), with plain spaces only.
    Text(String),
}

/// Reads a line. A comment begins with `#` and a space, or is only `#`. `\#` begins an entry whose first character is
/// `#`.
///
/// # Errors
/// Names the line if it holds a character that cannot be seen, or begins with `#` and could be a comment or an entry.
pub fn line(number: usize, raw: &str) -> Result<Line, TextError> {
    let trimmed = raw.trim();
    if trimmed.is_empty() {
        return Ok(Line::Blank);
    }
    if trimmed.starts_with('#') {
        let behind = trimmed.trim_start_matches('#');
        if behind.is_empty() || behind.starts_with(char::is_whitespace) {
            return Ok(Line::Comment);
        }
        return Err(TextError::Hash { line: number, text: trimmed.to_owned() });
    }
    let text = if trimmed.starts_with("\\#") { &trimmed[1..] } else { trimmed };
    check(number, text)?;
    let plain = |found: char| if found.is_whitespace() { ' ' } else { found };
    Ok(Line::Text(text.nfc().map(plain).collect()))
}

fn check(line: usize, text: &str) -> Result<(), TextError> {
    let mut before = 'a';
    let mut characters = text.chars().peekable();
    while let Some(found) = characters.next() {
        // Scripts that join letters need these two characters, and so do some emoji.
        let joins = matches!(found, '\u{200c}' | '\u{200d}');
        let between = !before.is_ascii() && characters.peek().is_some_and(|next| !next.is_ascii());
        match found {
            char::REPLACEMENT_CHARACTER => return Err(TextError::Lost { line }),
            _ if found.is_control() => return Err(TextError::Control { line, found }),
            _ if is_invisible(found) || joins && !between => return Err(TextError::Invisible { line, found }),
            _ => before = found,
        }
    }
    Ok(())
}

/// Characters that have zero width, change the direction of writing, or end a line, and that Unicode does not class as
/// control characters.
pub fn is_invisible(found: char) -> bool {
    matches!(
        found,
        '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180e}' | '\u{200b}'
            | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
}

/// A form that is equal for two names that look equal to a reader: case, accents written as one character or two,
/// joiners, and the number of spaces make no difference.
pub fn likeness(name: &str) -> String {
    let seen = |found: &char| !matches!(found, '\u{200c}' | '\u{200d}' | '\u{fe0e}' | '\u{fe0f}');
    let lower: String = name.to_lowercase().chars().filter(seen).nfc().collect();
    lower.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A name in the form in which lists are read (NFC).
pub fn composed(name: &str) -> String {
    name.nfc().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16_of(text: &str, unit: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(unit).collect()
    }

    #[test]
    fn every_encoding_with_a_mark_is_read() {
        let text = "écrou\r\nvis 🔩\r\n";
        for bytes in [
            text.as_bytes().to_vec(),
            [&b"\xef\xbb\xbf"[..], text.as_bytes()].concat(),
            utf16_of(&format!("\u{feff}{text}"), u16::to_le_bytes),
            utf16_of(&format!("\u{feff}{text}"), u16::to_be_bytes),
            "écrou\rvis 🔩\r".into(),
        ] {
            assert_eq!(decode(&bytes).unwrap(), "écrou\nvis 🔩\n");
        }
        assert_eq!(decode(b"").unwrap(), "");
    }

    #[test]
    fn any_other_encoding_is_named_or_its_line_is() {
        let told = |bytes: &[u8]| decode(bytes).unwrap_err().to_string();
        assert!(told(b"nut\r\ncaf\xe9\n").starts_with("line 2: the byte 0xE9 is not UTF-8"));
        assert!(told(b"nut\n\ncaf\xc3").starts_with("line 3: the byte 0xC3 is not UTF-8"), "cut off");
        assert!(told(&utf16_of("nut\nvis", u16::to_le_bytes)).contains("in UTF-16LE; save it as UTF-8"));
        assert!(told(&utf16_of("nut\nvis", u16::to_be_bytes)).contains("in UTF-16BE"));
        assert!(told(b"\xff\xfe\0\0n\0\0\0").contains("in UTF-32LE"));
        assert!(told(b"\0\0\xfe\xff\0\0\0n").contains("in UTF-32BE"));
        assert!(told(&[&b"\xff\xfe"[..], b"n\0\n\0", b"u"].concat()).starts_with("line 2: half a character"));
        assert!(told(&[&b"\xff\xfe"[..], b"n\0", b"\0\xd8n\0"].concat()).starts_with("line 1: half a character"));
    }

    #[test]
    fn a_comment_is_known_by_its_look() {
        for comment in ["# parts", "#", "## parts", "####", "  #\tparts"] {
            assert_eq!(line(1, comment), Ok(Line::Comment), "{comment}");
        }
        assert_eq!(line(1, " \\#1 washer "), Ok(Line::Text("#1 washer".into())));
        assert_eq!(line(1, "a #1 washer"), Ok(Line::Text("a #1 washer".into())));
        assert_eq!(line(1, "\\n"), Ok(Line::Text("\\n".into())), "nothing else is escaped");
        let told = line(3, "#1 washer").unwrap_err().to_string();
        let expected = "line 3: \"#1 washer\" begins with #; put a space behind the # if it is a comment, and write \\#1 washer if \
                        it is none";
        assert_eq!(told, expected);
    }

    #[test]
    fn entries_are_in_one_form() {
        for (raw, text) in [
            ("cafe\u{301}", "caf\u{e9}"),
            ("hex\u{a0}nut\u{3000}", "hex nut"),
            ("نامه\u{200c}ای", "نامه\u{200c}ای"),
            ("👩\u{200d}🔧", "👩\u{200d}🔧"),
        ] {
            assert_eq!(line(1, raw), Ok(Line::Text(text.into())), "{raw:?}");
        }
        for (raw, why) in [
            ("nut\u{200b}", "U+200B, which cannot be seen"),
            ("\u{feff}nut", "U+FEFF, which cannot be seen"),
            ("n\u{200d}ut", "U+200D, which cannot be seen"),
            ("tun\u{202e}", "U+202E, which cannot be seen"),
            ("nut\u{1b}[2J", "the control character U+001B"),
            ("nut\tbolt", "the control character U+0009"),
            ("caf\u{fffd}", "U+FFFD stands for one that was lost"),
        ] {
            let told = line(7, raw).unwrap_err().to_string();
            assert!(told.starts_with("line 7: ") && told.contains(why), "{raw:?}: {told}");
        }
    }

    #[test]
    fn names_that_look_the_same_are_alike() {
        for (one, other) in
            [("Crane", "crane"), ("cafe\u{301}", "Caf\u{e9}"), ("hex  nut", "hex nut"), ("❤\u{fe0f}", "❤")]
        {
            assert_eq!(likeness(one), likeness(other));
        }
        assert_ne!(likeness("m²"), likeness("m2"));
    }
}
