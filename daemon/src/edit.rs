//! A change of the configuration that a program requests.

use coft_core::shown::{shown, shown_path};
use std::path::PathBuf;

/// The requested change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    Create(New),
    /// Removes a classifier and its file; with `purge`, its data as well.
    Remove {
        name: String,
        purge: bool,
    },
    /// Replaces the classes of a classifier.
    SetClasses {
        name: String,
        classes: Vec<String>,
    },
    /// Adds a directory to those that a classifier watches.
    AddSource {
        name: String,
        path: PathBuf,
        /// Name of the source, if it is not to be its directory.
        called: Option<String>,
    },
    /// Removes a classifier's source, given by its name or directory.
    RemoveSource {
        name: String,
        source: String,
    },
}

/// A classifier to be created.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct New {
    pub name: String,
    /// If empty, the model's own classes.
    pub classes: Vec<String>,
    pub model: Option<String>,
    pub template: Option<String>,
    /// Directories to watch.
    pub watch: Vec<PathBuf>,
}

impl Edit {
    /// Describes the change for the log.
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
