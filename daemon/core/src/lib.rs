//! The decisions of coft, and the types that its processes exchange.
//!
//! Everything here is pure: no clock, file, thread, tensor or bus. Events and the time are inputs, actions and verdicts
//! are outputs, so that a unit test can cover months of operation. `coftd` carries out what is decided here. The
//! trainer shares the types that cross the border between the two processes: it reads [`spec`], sends [`event`] while
//! it works, and leaves [`manifest`] and [`report`].

#![warn(missing_docs, clippy::missing_errors_doc)]

pub mod answer;
pub mod candidate;
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
pub mod near_duplicates;
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
