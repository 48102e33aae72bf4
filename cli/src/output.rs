//! Standard output: one JSON document or a text, as was asked. Colours go where a terminal shows them and `NO_COLOR`
//! does not forbid them.

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

    /// Prints `value` as an indented document, or what `text` makes of it.
    pub fn document<T: Serialize + ?Sized>(&self, value: &T, text: impl FnOnce() -> String) -> Result<(), CliError> {
        if !self.json {
            return self.text(&text());
        }
        let mut out = std::io::stdout().lock();
        serde_json::to_writer_pretty(&mut out, value).map_err(std::io::Error::from)?;
        Ok(writeln!(out)?)
    }

    /// Prints `value` as one line of JSON, or what `text` makes of it; for answers that come one by one.
    pub fn line<T: Serialize>(&self, value: &T, text: impl FnOnce() -> String) -> Result<(), CliError> {
        if !self.json {
            return self.text(&text());
        }
        let mut out = std::io::stdout().lock();
        serde_json::to_writer(&mut out, value).map_err(std::io::Error::from)?;
        writeln!(out)?;
        Ok(out.flush()?)
    }

    /// Prints a text that has a format of its own, also where JSON was asked for.
    pub fn text(&self, text: &str) -> Result<(), CliError> {
        let mut out = anstream::stdout().lock();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }
}
