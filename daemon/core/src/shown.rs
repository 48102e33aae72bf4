//! Names for people: of files, classes and whatever else comes from outside, on one line and without orders to a
//! terminal.

use crate::text::is_invisible;
use std::borrow::Cow;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A name in which every character can be seen.
///
/// One that is plain UTF-8 stays as it is. In any other, a byte that is not UTF-8 is `\xHH`, a control character `\n`,
/// `\r`, `\t` or `\xHH` too, another character that cannot be seen `\u{H…}`, and a backslash is doubled, so that the
/// name can be told from it.
pub fn shown(name: &[u8]) -> Cow<'_, str> {
    let hidden = |found: char| found.is_control() || is_invisible(found);
    match std::str::from_utf8(name) {
        Ok(text) if !text.contains(hidden) => return Cow::Borrowed(text),
        _ => {}
    }
    let mut out = String::with_capacity(name.len() + 8);
    for chunk in name.utf8_chunks() {
        for found in chunk.valid().chars() {
            match found {
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                _ if found.is_ascii_control() => write!(out, "\\x{:02x}", u32::from(found)).expect("a string grows"),
                _ if hidden(found) => write!(out, "\\u{{{:x}}}", u32::from(found)).expect("a string grows"),
                _ => out.push(found),
            }
        }
        for byte in chunk.invalid() {
            write!(out, "\\x{byte:02x}").expect("a string grows");
        }
    }
    Cow::Owned(out)
}

/// The same of a file's name.
pub fn shown_path(path: &Path) -> Cow<'_, str> {
    shown(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_seen_stays_and_all_else_is_escaped() {
        for plain in ["in/café 1.jpg", "C:\\in\\a.jpg", "日本/🔩.png", "نامه\u{200c}ای"] {
            assert!(matches!(shown(plain.as_bytes()), Cow::Borrowed(text) if text == plain));
        }
        for (name, text) in [
            (&b"in/caf\xe9.jpg"[..], "in/caf\\xe9.jpg"),
            (b"two\nlines\t\r", "two\\nlines\\t\\r"),
            (b"\x1b[2Jred\x7f", "\\x1b[2Jred\\x7f"),
            (b"back\\slash\xff", "back\\\\slash\\xff"),
            ("gpj\u{202e}.exe\u{85}".as_bytes(), "gpj\\u{202e}.exe\\u{85}"),
            (b"cut \xe2\x82", "cut \\xe2\\x82"),
        ] {
            assert_eq!(shown(name), text);
        }
        assert_eq!(shown_path(Path::new("a\nb")), "a\\nb");
    }
}
