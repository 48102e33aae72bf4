//! The findings of `doctor` and `config check`.

use super::{BAD, FAIR, GOOD, counted, paint};
use crate::view::{Check, ConfigFinding, ConfigReport, Diagnosis};
use coft_core::shown::shown;

/// A line for each check with its advice below it, and a summary.
pub fn diagnosis(diagnosis: &Diagnosis) -> String {
    let width =
        diagnosis.checks.iter().map(|check| check.check.len()).filter(|width| *width <= WIDEST).max().unwrap_or(0);
    let line = |Check { check, level, found, advice }: &Check| {
        let style = match level.as_str() {
            "ok" => GOOD,
            "warning" => FAIR,
            _ => BAD,
        };
        let check = shown(check.as_bytes());
        let level = paint(style, &format!("{level:7}"));
        let mut text = format!("{level}  {check:width$}  {}\n", shown(found.as_bytes()));
        if !advice.is_empty() {
            text += &format!("{:9}{:width$}  → {}\n", "", "", shown(advice.as_bytes()));
        }
        text
    };
    let lines: String = diagnosis.checks.iter().map(line).collect();
    let sum = match (diagnosis.errors, diagnosis.warnings) {
        (0, 0) => "nothing is wrong".to_owned(),
        (0, warnings) => counted(warnings as u64, "warning"),
        (errors, 0) => counted(errors as u64, "error"),
        (errors, warnings) => format!("{}, {}", counted(errors as u64, "error"), counted(warnings as u64, "warning")),
    };
    format!("{lines}{sum}\n")
}

/// Most columns for a name, so that longer names, such as those with a path, do not shift the other lines.
const WIDEST: usize = 20;

pub fn config(report: &ConfigReport) -> String {
    if report.findings.is_empty() {
        return format!("{} is in order\n", shown(report.file.as_bytes()));
    }
    let line = |finding: &ConfigFinding| {
        let style = if finding.severity == "error" { BAD } else { FAIR };
        let text = config_finding(finding);
        format!("{}: {}\n", paint(style, &finding.severity), shown(text.as_bytes()))
    };
    report.findings.iter().map(line).collect()
}

/// `FILE: line 3: round.niceness: use 0 to 19`.
pub fn config_finding(ConfigFinding { file, line, key, message, .. }: &ConfigFinding) -> String {
    let mut text = format!("{file}: ");
    if let Some(line) = line {
        text += &format!("line {line}: ");
    }
    // The parser's message may name the key already.
    if let Some(key) = key.as_ref().filter(|key| !message.contains(&format!("`{key}`"))) {
        text += &format!("{key}: ");
    }
    text + message
}
