//! The decisions of coft, and the words in which its processes talk to each other.
//!
//! Everything here is pure: no clock, file, thread, tensor or bus. Events and the time go in, actions and verdicts come
//! out, so that months of operation are a unit test. `coftd` acts on what is decided here; the trainer shares the types
//! that cross the border between the two processes ([`spec`] in, [`event`] on the way, [`manifest`] and [`report`]
//! out).

#![warn(missing_docs, clippy::missing_errors_doc)]

pub mod answer;
pub mod confidence;
pub mod continuation;
pub mod decision;
pub mod disk;
pub mod event;
pub mod ids;
pub mod job;
pub mod labels;
pub mod lifecycle;
pub mod lint;
pub mod manifest;
pub mod moment;
pub mod promotion;
pub mod report;
pub mod retention;
pub mod review;
pub mod schedule;
pub mod selection;
pub mod settings;
pub mod shares;
pub mod shown;
pub mod spec;
pub mod templates;
pub mod text;
