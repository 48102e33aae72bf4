//! The JSON Schemas under `docs/schema`, for programs that read the trainer's output.

use coft_core::event::Event;
use coft_core::report::Report;
use schemars::{Schema, schema_for};
use std::fs;
use std::path::Path;

/// Compares the schema with the committed file, or writes the file if `COFT_BLESS` is set.
#[track_caller]
fn is_written(name: &str, schema: &Schema) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schema").join(name);
    let text = format!("{}\n", serde_json::to_string_pretty(schema).unwrap());
    if std::env::var_os("COFT_BLESS").is_some() {
        fs::write(&path, text).unwrap();
        return;
    }
    let written = fs::read_to_string(&path).unwrap();
    assert_eq!(written, text, "run COFT_BLESS=1 cargo test -p coft-core, and raise PROTOCOL if a reader would mind");
}

#[test]
fn the_trainers_events_have_the_schema_that_is_written() {
    is_written("trainer-event.json", &schema_for!(Event));
}

#[test]
fn the_report_of_a_round_has_the_schema_that_is_written() {
    is_written("report.json", &schema_for!(Report));
}
