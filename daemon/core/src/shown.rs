//! Makes text from outside safe to display: names of files, classes and other things, on one line and without control
//! sequences for a terminal; and the system's errors, with advice.

use crate::text::is_invisible;
use std::borrow::Cow;
use std::fmt::Write;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A name in which every character is visible.
///
/// A name that is UTF-8 without invisible characters stays as it is. In any other name, a byte that is not UTF-8
/// becomes `\xHH`, a control character `\n`, `\r`, `\t` or `\xHH`, another invisible character `\u{H…}`, and a
/// backslash is doubled, so that the original name can be reconstructed.
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

/// Like [`shown`], for a file name.
pub fn shown_path(path: &Path) -> Cow<'_, str> {
    shown(path.as_os_str().as_bytes())
}

/// Why a file of the service cannot be written or read, with advice where there is some.
pub fn shown_io(error: &io::Error) -> Cow<'static, str> {
    /// Linux's error number for a failed device.
    const EIO: i32 = 5;
    Cow::Borrowed(match error.kind() {
        ErrorKind::ReadOnlyFilesystem => {
            "its file system is read-only; the kernel makes it so when a disk fails: look into its log (dmesg), and mount it writable"
        }
        ErrorKind::StorageFull => "the disk is full; free some space there",
        ErrorKind::QuotaExceeded => "the service's user has no quota left there; raise it, or free some space",
        _ if error.raw_os_error() == Some(EIO) => "the disk fails; look into the kernel's log (dmesg), and replace it",
        _ => return Cow::Owned(error.to_string()),
    })
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

    /// The message was only "Read-only file system (os error 30)".
    #[test]
    fn errors_of_disks_say_what_to_do() {
        for (number, told) in [
            (30, "its file system is read-only; "),
            (28, "the disk is full; "),
            (122, "the service's user has no quota left there; "),
            (5, "the disk fails; "),
            (13, "Permission denied (os error 13)"),
        ] {
            let shown = shown_io(&io::Error::from_raw_os_error(number));
            assert!(shown.starts_with(told), "{number}: {shown}");
        }
    }
}
