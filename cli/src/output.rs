//! Standard output: one JSON document or a text, depending on `--json`. Colours are printed on a terminal, unless
//! `NO_COLOR` is set.

use crate::error::CliError;
use serde::Serialize;
use std::io::Write;

#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
}

impl Output {
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Prints `value` as an indented JSON document, or the result of `text`.
    pub fn document<T: Serialize + ?Sized>(&self, value: &T, text: impl FnOnce() -> String) -> Result<(), CliError> {
        if !self.json {
            return self.text(&text());
        }
        let mut out = std::io::stdout().lock();
        serde_json::to_writer_pretty(&mut out, value).map_err(std::io::Error::from)?;
        Ok(writeln!(out)?)
    }

    /// Prints `value` as one line of JSON, or the result of `text`; for answers that come one by one.
    pub fn line<T: Serialize>(&self, value: &T, text: impl FnOnce() -> String) -> Result<(), CliError> {
        if !self.json {
            return self.text(&text());
        }
        let mut out = std::io::stdout().lock();
        serde_json::to_writer(&mut out, value).map_err(std::io::Error::from)?;
        writeln!(out)?;
        Ok(out.flush()?)
    }

    /// Prints a text with a format of its own, even if JSON was requested.
    pub fn text(&self, text: &str) -> Result<(), CliError> {
        let mut out = anstream::stdout().lock();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }
}
