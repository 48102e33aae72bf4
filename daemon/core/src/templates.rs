//! The template file: one prompt per line, with `{}` for the class name. [`crate::text`] defines which files are text
//! and what a comment is; blank lines are ignored.

use crate::spec::Template;
use crate::text::{self, Line, TextError};
use thiserror::Error;

/// Why a template file is refused; lines count from 1.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TemplatesError {
    /// The file is not text, or a line holds a character that cannot be seen.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A line does not have exactly one place for the class name.
    #[error("line {line}: {text:?} has {found} places for the class name; write `{{}}` once")]
    Slot {
        /// The line.
        line: usize,
        /// Its text.
        text: String,
        /// Places for the class name in it.
        found: usize,
    },
    /// The file has no line with a template.
    #[error("no template; write one a line")]
    Empty,
}

/// Parses the content of a template file.
///
/// # Errors
/// Names the line that is not a valid prompt.
pub fn parse(bytes: &[u8]) -> Result<Vec<Template>, TemplatesError> {
    let mut templates = Vec::new();
    for (index, raw) in text::decode(bytes)?.lines().enumerate() {
        let line = index + 1;
        let Line::Text(text) = text::line(line, raw)? else { continue };
        let found = text.matches("{}").count();
        if found != 1 {
            return Err(TemplatesError::Slot { line, text, found });
        }
        templates.push(Template { line, text });
    }
    if templates.is_empty() { Err(TemplatesError::Empty) } else { Ok(templates) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_keep_their_lines() {
        let found = parse(b"\xef\xbb\xbf# prompts\r\na photo of a {}.\r\n\r\n  a dark {}.\r\n\\#{}\r\n").unwrap();
        let found: Vec<(usize, &str)> = found.iter().map(|t| (t.line, t.text.as_str())).collect();
        assert_eq!(found, [(2, "a photo of a {}."), (4, "a dark {}."), (5, "#{}")]);
    }

    #[test]
    fn a_bad_line_is_named() {
        let told = |text: &str| parse(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(told("a {}\na photo\n"), "line 2: \"a photo\" has 0 places for the class name; write `{}` once");
        assert_eq!(told("{} and {}\n"), "line 1: \"{} and {}\" has 2 places for the class name; write `{}` once");
        assert!(told("a \u{7} {}\n").starts_with("line 1: the control character U+0007"));
        assert!(told("#{} of today\n").starts_with("line 1: \"#{} of today\" begins with #"));
        assert!(parse(b"a {}\nd\xe9j\xe0 {}\n").unwrap_err().to_string().starts_with("line 2: the byte 0xE9"));
        assert_eq!(told("# nothing\n"), "no template; write one a line");
    }
}
