//! The label file: one class name per line, in the order of the classes in answers.
//!
//! [`crate::text`] defines which files are text and what a comment is. Refused with their line numbers are blank lines
//! between names, names that look equal to a reader, and lists that were made for another program: each of these would
//! silently shift, merge or misname classes.

use crate::text::{self, Line, TextError};
use thiserror::Error;

/// Why a label file is refused; lines count from 1.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LabelsError {
    /// The file is not text, or a line holds a character that cannot be seen.
    #[error(transparent)]
    Text(#[from] TextError),
    /// There is a blank line between two names.
    #[error("line {line}: blank line between class names; remove it")]
    Blank {
        /// The blank line.
        line: usize,
    },
    /// A name is in the file twice; upper and lower case count as equal.
    #[error("line {line}: class {name:?} was already named on line {first}; remove one of them")]
    Duplicate {
        /// The second of the two lines.
        line: usize,
        /// The first of the two lines.
        first: usize,
        /// The name on the second line.
        name: String,
    },
    /// Two different names look the same.
    #[error("line {line}: class {name:?} looks like {other:?} on line {first}; remove one of them")]
    Alike {
        /// The second of the two lines.
        line: usize,
        /// The first of the two lines.
        first: usize,
        /// The name on the second line.
        name: String,
        /// The name on the first line.
        other: String,
    },
    /// Every line begins with its number, as in lists for other programs.
    #[error("line {line}: {name:?} begins with its number, as all lines do; write the names alone, in this order")]
    Numbered {
        /// The first line with a name.
        line: usize,
        /// The name on it, with its number.
        name: String,
    },
    /// A name is in quotation marks.
    #[error("line {line}: {name} is in quotation marks; write the name without them")]
    Quoted {
        /// Line of the name.
        line: usize,
        /// The name with the quotation marks.
        name: String,
    },
    /// Number of names in the file, which is less than 2.
    #[error("class names: {0}; a classifier needs at least 2, one a line")]
    TooFew(usize),
}

/// Parses the content of a label file into class names, each with its line, from 1.
///
/// Names are trimmed and in Unicode's composed form; comment lines and trailing blank lines are ignored.
///
/// # Errors
/// Names the line that is not a valid class name, or that repeats another one.
pub fn parse(bytes: &[u8]) -> Result<Vec<(usize, String)>, LabelsError> {
    let content = text::decode(bytes)?;
    let mut names: Vec<(usize, String)> = Vec::new();
    let mut blank = None;
    for (index, raw) in content.lines().enumerate() {
        let line = index + 1;
        let name = match text::line(line, raw)? {
            Line::Comment => continue,
            Line::Blank => {
                blank.get_or_insert(line);
                continue;
            }
            Line::Text(name) => name,
        };
        if let Some(line) = blank.take().filter(|_| !names.is_empty()) {
            return Err(LabelsError::Blank { line });
        }
        if name.len() > 1 && name.starts_with('"') && name.ends_with('"') {
            return Err(LabelsError::Quoted { line, name });
        }
        let like = text::likeness(&name);
        if let Some((first, other)) = names.iter().find(|(_, other)| text::likeness(other) == like) {
            let (first, other) = (*first, other.clone());
            return Err(match other.to_lowercase() == name.to_lowercase() {
                true => LabelsError::Duplicate { line, first, name },
                false => LabelsError::Alike { line, first, name, other },
            });
        }
        names.push((line, name));
    }
    if names.len() < 2 {
        return Err(LabelsError::TooFew(names.len()));
    }
    if is_numbered(&names) {
        let (line, name) = names.swap_remove(0);
        return Err(LabelsError::Numbered { line, name });
    }
    Ok(names)
}

/// Whether all names consist of a number that counts from 0 or 1, a comma or another separator, and a name.
fn is_numbered(names: &[(usize, String)]) -> bool {
    let counted = |start: usize| {
        names.iter().enumerate().all(|(index, (_, name))| {
            let behind = name.strip_prefix(&(start + index).to_string());
            behind.is_some_and(|behind| behind.starts_with([',', ';', ':', ')', '|']) || behind.starts_with(". "))
        })
    };
    counted(0) || counted(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn read(text: &str) -> Vec<String> {
        parse(text.as_bytes()).unwrap().into_iter().map(|(_, name)| name).collect()
    }

    #[track_caller]
    fn refused(text: &str, why: &str) {
        assert_eq!(parse(text.as_bytes()).unwrap_err().to_string(), why);
    }

    #[test]
    fn names_keep_their_order_and_their_lines() {
        assert_eq!(read("# parts\nnut\n  hex bolt \ngear\n\n"), ["nut", "hex bolt", "gear"]);
        assert_eq!(parse(b"# parts\nnut\n#\nbolt\n").unwrap(), [(2, "nut".into()), (4, "bolt".into())]);
        assert_eq!(read("\u{feff}nut\r\nbolt\r\n"), ["nut", "bolt"]);
        assert_eq!(read("cafe\u{301}\nbolt\n"), ["caf\u{e9}", "bolt"]);
        assert_eq!(read("\\#1 washer\n\\#2 washer\n"), ["#1 washer", "#2 washer"]);
        assert_eq!(read("1 euro\n2 euro\n"), ["1 euro", "2 euro"]);
        assert_eq!(read("1.5 mm\n2.5 mm\n"), ["1.5 mm", "2.5 mm"]);
    }

    #[test]
    fn a_bad_line_is_named() {
        refused("nut\n\nbolt\n", "line 2: blank line between class names; remove it");
        refused("nut\nbolt\nNut\n", "line 3: class \"Nut\" was already named on line 1; remove one of them");
        refused(
            "cafe\u{301}\nbolt\ncaf\u{e9}\n",
            "line 3: class \"café\" was already named on line 1; remove one of them",
        );
        refused(
            "hex  nut\nhex nut\n",
            "line 2: class \"hex nut\" looks like \"hex  nut\" on line 1; remove one of them",
        );
        refused("nut\nbo\u{7}lt\n", "line 2: the control character U+0007; write plain text, one entry a line");
        refused("# nothing\nnut\n", "class names: 1; a classifier needs at least 2, one a line");
        refused("nut, bolt, gear\n", "class names: 1; a classifier needs at least 2, one a line");
        refused("nut\n\"bolt\"\n", "line 2: \"bolt\" is in quotation marks; write the name without them");
        let numbered = "begins with its number, as all lines do; write the names alone, in this order";
        for text in ["0,nut\n1,bolt\n", "1;nut\n2;bolt\n", "1. nut\n2. bolt\n", "0: nut\n1: bolt\n"] {
            let told = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(told.starts_with("line 1: ") && told.ends_with(numbered), "{told}");
        }
    }

    #[test]
    fn a_name_that_begins_with_a_hash_was_left_out() {
        let told = parse(b"#1 washer\nhex nut\n#2 washer\nspur gear\n").unwrap_err().to_string();
        assert!(told.starts_with("line 1: \"#1 washer\" begins with #"), "{told}");
    }
}
