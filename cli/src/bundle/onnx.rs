//! Writes the files unchanged, and the labels beside them.

use super::{Bundle, LABELS, write_new};
use crate::error::CliError;
use coft_core::manifest::{MANIFEST, MODEL, PROBE, REPORT, WEIGHTS};
use std::path::Path;

pub fn write(bundle: &Bundle, dir: &Path) -> Result<(), CliError> {
    for name in [MODEL, WEIGHTS, PROBE, REPORT] {
        bundle.copy(name, dir)?;
    }
    write_new(&dir.join(MANIFEST), &bundle.stated)?;
    write_new(&dir.join(LABELS), bundle.labels().as_bytes())
}
