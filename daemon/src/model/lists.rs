//! The files of class names and of prompts, and whether they were edited since they were read.

use super::{Base, ModelError, Settings};
use coft_core::labels;
use coft_core::spec::Template;
use coft_core::templates;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const LABELS: &str = "labels.txt";

/// The settings whose class or prompt files have changed since the base was made from them, with these files. A file
/// that cannot be read is left out: the service continues with the content that it has read.
pub fn edited(settings: &Settings, base: &Base) -> Vec<(&'static str, PathBuf)> {
    let labels = label_file(settings, &base.dir).ok().and_then(|path| {
        let same = match read_labels(&path) {
            // Only the set of names is compared: the order is that of the generations.
            Ok(lines) => {
                let read: BTreeSet<String> = lines.into_iter().map(|(_, class)| class).collect();
                read == base.classes.iter().cloned().collect()
            }
            Err(error) => error.is_unread(),
        };
        (!same).then_some(("classifier.labels", path))
    });
    let templates = settings.templates.as_ref().and_then(|path| {
        let same = match read_templates(path) {
            Ok(templates) => templates.iter().map(|t| &t.text).eq(base.templates.iter().map(|t| &t.text)),
            Err(error) => error.is_unread(),
        };
        (!same).then(|| ("classifier.templates", path.clone()))
    });
    labels.into_iter().chain(templates).collect()
}

/// The file of class names: the configured one, or the model's own.
pub(super) fn label_file(settings: &Settings, dir: &Path) -> Result<PathBuf, ModelError> {
    match &settings.labels {
        Some(path) => Ok(path.clone()),
        None => {
            let own = dir.join(LABELS);
            if own.is_file() { Ok(own) } else { Err(ModelError::NoLabels { dir: dir.to_owned() }) }
        }
    }
}

/// The class names of a label file, each with its line number.
pub fn read_labels(path: &Path) -> Result<Vec<(usize, String)>, ModelError> {
    let content = read_list(path).map_err(|source| ModelError::ReadLabels { path: path.to_owned(), source })?;
    labels::parse(&content).map_err(|source| ModelError::Labels { path: path.to_owned(), source })
}

pub(super) fn read_templates(path: &Path) -> Result<Vec<Template>, ModelError> {
    let content = read_list(path).map_err(|source| ModelError::ReadTemplates { path: path.to_owned(), source })?;
    templates::parse(&content).map_err(|source| ModelError::Templates { path: path.to_owned(), source })
}

/// Reads a class or prompt file. Only regular files are read, because reading a pipe would wait for a writer.
fn read_list(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    fs::read(path)
}
