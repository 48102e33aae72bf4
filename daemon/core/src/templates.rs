//! The template file: one prompt a line, `{}` where the class name goes. `#` starts a comment line; blank lines do not count.

use crate::spec::Template;
use thiserror::Error;

#[derive(Debug, Error, PartialEq, Eq)]
pub enum TemplatesError {
    #[error("line {line}: {text:?} has {found} places for the class name; write `{{}}` once")]
    Slot { line: usize, text: String, found: usize },
    #[error("line {line}: a template has a control character; write it as plain text")]
    Control { line: usize },
    #[error("no template; write one a line")]
    Empty,
}

/// Parses the text of a template file.
pub fn parse(text: &str) -> Result<Vec<Template>, TemplatesError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut templates = Vec::new();
    for (index, raw) in text.lines().enumerate() {
        let (line, text) = (index + 1, raw.trim());
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        if text.chars().any(char::is_control) {
            return Err(TemplatesError::Control { line });
        }
        let found = text.matches("{}").count();
        if found != 1 {
            return Err(TemplatesError::Slot { line, text: text.to_owned(), found });
        }
        templates.push(Template { line, text: text.to_owned() });
    }
    if templates.is_empty() { Err(TemplatesError::Empty) } else { Ok(templates) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_keep_their_lines() {
        let found = parse("# prompts\na photo of a {}.\n\n  a dark {}.\n").unwrap();
        let found: Vec<(usize, &str)> = found.iter().map(|t| (t.line, t.text.as_str())).collect();
        assert_eq!(found, [(2, "a photo of a {}."), (4, "a dark {}.")]);
    }

    #[test]
    fn a_bad_line_is_named() {
        let told = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(told("a {}\na photo\n"), "line 2: \"a photo\" has 0 places for the class name; write `{}` once");
        assert_eq!(told("{} and {}\n"), "line 1: \"{} and {}\" has 2 places for the class name; write `{}` once");
        assert_eq!(told("a \u{7} {}\n"), "line 1: a template has a control character; write it as plain text");
        assert_eq!(told("# nothing\n"), "no template; write one a line");
    }
}
