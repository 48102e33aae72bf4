//! The name of a setting as people read it, and the line of the file that sets it.

use coft_core::shown::shown_path;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The name of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// Sections and name joined with dots, as `round.threads`.
    Setting(String),
    /// A setting of the source with this index.
    OfSource { index: usize, path: PathBuf, name: String },
}

impl From<&str> for Key {
    fn from(setting: &str) -> Self {
        Self::Setting(setting.into())
    }
}

impl From<String> for Key {
    fn from(setting: String) -> Self {
        Self::Setting(setting)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting(setting) => f.write_str(setting),
            Self::OfSource { index, path, name } => {
                write!(f, "source {} ({}): {name}", index + 1, shown_path(path))
            }
        }
    }
}

impl Key {
    /// The line of `text` that sets this key, from 1. If the key is absent: the line of its section, if there is one.
    pub fn line(&self, text: &str) -> Option<usize> {
        let document = DeTable::parse(text).ok()?;
        let (mut table, mut at): (_, Option<Range<usize>>) = (document.get_ref(), None);
        let mut steps: Vec<&str> = match self {
            Self::Setting(setting) => setting.split('.').collect(),
            Self::OfSource { index, name, .. } => {
                let source = entry(table, "source")?.1.get_ref().as_array()?.get(*index)?;
                (table, at) = (source.get_ref().as_table()?, Some(source.span()));
                name.split('.').collect()
            }
        };
        // The first step is the outermost section.
        steps.reverse();
        // In files from before 2026-12 the section is called `[settings]`.
        if steps.last() == Some(&"training") && entry(table, "training").is_none() {
            steps.pop();
            steps.push("settings");
        }
        while let Some((key, value)) = steps.pop().and_then(|step| entry(table, step)) {
            at = Some(key.span());
            match value.get_ref().as_table() {
                Some(inner) => table = inner,
                None => break,
            }
        }
        at.map(|span| line_at(text, span.start))
    }
}

type Entry<'t, 'i> = (&'t Spanned<std::borrow::Cow<'i, str>>, &'t Spanned<DeValue<'i>>);

fn entry<'t, 'i>(table: &'t DeTable<'i>, name: &str) -> Option<Entry<'t, 'i>> {
    table.iter().find(|(key, _)| key.get_ref() == name)
}

/// The line number, from 1, of an offset in a text.
pub fn line_at(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// The key that a line of the file sets, as it is written there.
pub fn on_line(text: &str, line: usize) -> Option<String> {
    let key = text.lines().nth(line.checked_sub(1)?)?.split_once('=')?.0.trim();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.\"'".contains(&byte);
    (!key.is_empty() && key.bytes().all(plain)).then(|| key.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "bus = \"session\"\n\n[classifier]\nthresholds = { nut = 2.0 }\n[training.phase1.sgd]\nepochs = 0\n\
                        [[source]]\npath = \"/a\"\n[[source]]\npath = \"/a/b\"\nquiet-period = \"0s\"\n";

    #[test]
    fn a_setting_is_found_by_its_line() {
        let line = |key: &str| Key::from(key).line(TEXT);
        assert_eq!(line("bus"), Some(1));
        assert_eq!(line("classifier.thresholds"), Some(4));
        assert_eq!(line("training.phase1.sgd.epochs"), Some(6));
        let old = TEXT.replace("[training", "[settings");
        assert_eq!(Key::from("training.phase1.sgd.epochs").line(&old), Some(6), "as it was called before");
        assert_eq!(line("classifier.labels"), Some(3), "that of its section");
        assert_eq!(line("round.niceness"), None);
        let of_source = |index, name| Key::OfSource { index, path: "/a".into(), name: String::from(name) }.line(TEXT);
        assert_eq!((of_source(0, "path"), of_source(1, "quiet-period")), (Some(8), Some(11)));
        assert_eq!((of_source(1, "include"), of_source(2, "path")), (Some(9), None));
    }

    #[test]
    fn the_key_of_a_line_is_read() {
        assert_eq!(on_line(TEXT, 1).as_deref(), Some("bus"));
        assert_eq!(on_line(TEXT, 6).as_deref(), Some("epochs"));
        assert_eq!((on_line(TEXT, 3), on_line(TEXT, 99), on_line("# a = b\n", 1)), (None, None, None));
    }
}
