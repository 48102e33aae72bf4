//! The label file: one class name a line, in the order in which answers list them.
//!
//! `#` starts a comment line. Blank lines between names, duplicates and names that differ only in case are refused with
//! their line numbers: each of them silently shifts or merges classes.

use thiserror::Error;

#[derive(Debug, Error, PartialEq, Eq)]
pub enum LabelsError {
    #[error("line {line}: blank line between class names; remove it")]
    Blank { line: usize },
    #[error("line {line}: class {name:?} was already named on line {first}; remove one of them")]
    Duplicate { line: usize, first: usize, name: String },
    #[error("line {line}: class name has a control character; write it as plain text")]
    Control { line: usize },
    #[error("class names: {0}; a classifier needs at least 2")]
    TooFew(usize),
}

/// Parses the text of a label file into class names.
///
/// Names are trimmed; comment lines and trailing blank lines are ignored.
pub fn parse(text: &str) -> Result<Vec<String>, LabelsError> {
    Ok(parse_lines(text)?.into_iter().map(|(_, name)| name).collect())
}

/// The same with the line of each name, from 1.
pub fn parse_lines(text: &str) -> Result<Vec<(usize, String)>, LabelsError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut names: Vec<(usize, String)> = Vec::new();
    let mut blank = None;
    for (index, raw) in text.lines().enumerate() {
        let line = index + 1;
        let name = raw.trim();
        if name.starts_with('#') {
            continue;
        }
        if name.is_empty() {
            blank.get_or_insert(line);
            continue;
        }
        if let Some(line) = blank.take().filter(|_| !names.is_empty()) {
            return Err(LabelsError::Blank { line });
        }
        if name.chars().any(char::is_control) {
            return Err(LabelsError::Control { line });
        }
        let same = |other: &str| other.to_lowercase() == name.to_lowercase();
        if let Some((first, _)) = names.iter().find(|(_, other)| same(other)) {
            return Err(LabelsError::Duplicate { line, first: *first, name: name.to_owned() });
        }
        names.push((line, name.to_owned()));
    }
    if names.len() < 2 {
        return Err(LabelsError::TooFew(names.len()));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, why: &str) {
        assert_eq!(parse(text).unwrap_err().to_string(), why);
    }

    #[test]
    fn names_keep_their_order() {
        assert_eq!(parse("# parts\nnut\n  hex bolt \ngear\n\n").unwrap(), ["nut", "hex bolt", "gear"]);
        assert_eq!(parse_lines("# parts\nnut\n#\nbolt\n").unwrap(), [(2, "nut".into()), (4, "bolt".into())]);
        assert_eq!(parse("\u{feff}nut\r\nbolt\r\n").unwrap(), ["nut", "bolt"]);
    }

    #[test]
    fn a_bad_line_is_named() {
        refused("nut\n\nbolt\n", "line 2: blank line between class names; remove it");
        refused("nut\nbolt\nNut\n", "line 3: class \"Nut\" was already named on line 1; remove one of them");
        refused("nut\nbo\u{7}lt\n", "line 2: class name has a control character; write it as plain text");
        refused("# nothing\nnut\n", "class names: 1; a classifier needs at least 2");
    }
}
