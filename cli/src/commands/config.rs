//! `coftctl config check`: the installed coftd reads the configuration and reports errors; it starts nothing.

use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::{program, render};
use std::path::Path;

pub fn check(output: Output, file: &Path) -> Result<Exit, CliError> {
    let report = program::config_report(file)?;
    output.document(&report, || render::config(&report))?;
    let is_bad = report.findings.iter().any(|finding| finding.severity == "error");
    Ok(if is_bad { Exit::Usage } else { Exit::Done })
}
