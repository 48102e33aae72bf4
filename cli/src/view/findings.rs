//! What checks have found: of class names, of the configuration, of the service.

use serde::{Deserialize, Serialize};

/// A possible problem of class names.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Advice {
    /// Line of the file, from 1; `None` if it concerns the whole file or there is no file.
    pub line: Option<u64>,
    pub class: Option<String>,
    pub advice: String,
}

/// The output of `config check`, as `coftd --check` prints it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigReport {
    pub file: String,
    pub findings: Vec<ConfigFinding>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigFinding {
    /// The configuration file, or the file of a classifier.
    pub file: String,
    /// `warning` or `error`.
    pub severity: String,
    /// Line of the file, from 1.
    pub line: Option<u64>,
    pub key: Option<String>,
    pub message: String,
}

/// The output of `doctor`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diagnosis {
    pub checks: Vec<Check>,
    pub errors: usize,
    pub warnings: usize,
}

/// One line of the diagnosis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was checked.
    pub check: String,
    /// `ok`, `warning` or `error`.
    pub level: String,
    pub found: String,
    /// What to type; empty if nothing has to be done.
    pub advice: String,
}
