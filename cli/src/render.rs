//! Text for people: plain functions from data to a string, so that tests can compare it.
//!
//! They never read the clock, the terminal or the environment; [`Style`] has what they need of these. Colours are
//! always written: the output stream removes them where they are not wanted.

mod classifiers;
mod diagnosis;
mod event;
mod generation;
mod job;
mod labels;
mod model;
mod progress;
mod results;
mod review;
mod status;

pub use classifiers::{advice, classifiers, sources};
pub use diagnosis::{config, config_finding, diagnosis};
pub use event::event;
pub use generation::{generation, generations};
pub use job::{job, jobs, outcome};
pub use labels::labels;
pub use model::{bytes, model, models};
pub use progress::{duration, progress_line};
pub use results::{diff, observed, results, summary};
pub use review::{asked_by, asks, progress, review};
pub use status::status;

use clap::builder::styling::{AnsiColor, Style as Ansi};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use jiff::{Timestamp, tz::TimeZone};

/// The properties of the environment that printing depends on.
#[derive(Clone, Debug)]
pub struct Style {
    pub zone: TimeZone,
}

impl Style {
    pub fn of_this_machine() -> Self {
        Self { zone: TimeZone::system() }
    }

    /// A Unix time as date and time of day, to the minute.
    fn time(&self, unix_seconds: i64) -> String {
        self.written(unix_seconds, "%Y-%m-%d %H:%M")
    }

    /// Like `time`, to the second.
    fn second(&self, unix_seconds: i64) -> String {
        self.written(unix_seconds, "%Y-%m-%d %H:%M:%S")
    }

    fn written(&self, unix_seconds: i64, format: &str) -> String {
        match Timestamp::from_second(unix_seconds) {
            Ok(time) => time.to_zoned_datetime(self.zone.clone()).strftime(format).to_string(),
            Err(_) => "unknown".into(),
        }
    }
}

const GOOD: Ansi = AnsiColor::Green.on_default();
const FAIR: Ansi = AnsiColor::Yellow.on_default();
const BAD: Ansi = AnsiColor::Red.on_default();
const FAINT: Ansi = Ansi::new().dimmed();

fn paint(style: Ansi, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// A table without borders, which can be read, searched with grep and cut into columns.
fn table(header: &[&str], right_aligned: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right_aligned.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// The table's lines without the spaces at their ends.
fn lines(table: &Table) -> String {
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// `1 image`, `2 images`.
fn counted(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// A block of names and values, with the values aligned.
fn fields(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
    pairs.iter().map(|(name, value)| format!("{name:width$}{value}\n")).collect()
}
