//! `coftctl config check`: the installed coftd reads the configuration, starts nothing, and says what it has found.

use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::view::ConfigReport;
use crate::{program, render};
use std::path::Path;

pub fn check(output: Output, file: &Path) -> Result<Exit, Failure> {
    let report = report(file)?;
    output.document(&report, || render::config(&report))?;
    let is_bad = report.findings.iter().any(|finding| finding.severity == "error");
    Ok(if is_bad { Exit::Usage } else { Exit::Done })
}

/// What coftd says of a configuration.
pub fn report(file: &Path) -> Result<ConfigReport, Failure> {
    let ended = program::coftd()?.arg("--check").arg("--config").arg(file).output();
    let ended = ended.map_err(|error| Failure::NotFound(format!("coftd cannot be run: {error}")))?;
    serde_json::from_slice(&ended.stdout).map_err(|_| {
        let said = String::from_utf8_lossy(&ended.stderr);
        Failure::Misunderstood(format!("coftd --check ended with {}: {}", ended.status, said.trim()))
    })
}
