//! A change of the configuration that a program asks for.

use coft_core::shown::{shown, shown_path};
use std::path::PathBuf;

/// What is to be another way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    Create(New),
    /// A classifier and its file; with `purge`, what was kept for it goes as well.
    Remove {
        name: String,
        purge: bool,
    },
    /// A classifier is to know these classes.
    SetClasses {
        name: String,
        classes: Vec<String>,
    },
    /// A classifier is to watch one directory more.
    AddSource {
        name: String,
        path: PathBuf,
        /// What the source is called, where that is not its directory.
        called: Option<String>,
    },
    /// A classifier is to watch the source of this name, or of this directory, no more.
    RemoveSource {
        name: String,
        source: String,
    },
}

/// A classifier that is not there yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct New {
    pub name: String,
    /// Empty: the model's own.
    pub classes: Vec<String>,
    pub model: Option<String>,
    pub template: Option<String>,
    /// Directories to watch.
    pub watch: Vec<PathBuf>,
}

impl Edit {
    /// What it does, for the log.
    pub fn said(&self) -> String {
        let quoted = |name: &str| shown(name.as_bytes()).into_owned();
        match self {
            Self::Create(New { name, .. }) => format!("the classifier {name} is made"),
            Self::Remove { name, purge: false } => {
                format!("the classifier {name} is removed; what it has learnt is kept")
            }
            Self::Remove { name, purge: true } => {
                format!("the classifier {name} is removed, and all that was kept for it")
            }
            Self::SetClasses { name, classes } => format!("the classifier {name} knows {} classes now", classes.len()),
            Self::AddSource { name, path, .. } => format!("the classifier {name} watches {}, too", shown_path(path)),
            Self::RemoveSource { name, source } => format!("the classifier {name} watches {} no more", quoted(source)),
        }
    }
}
