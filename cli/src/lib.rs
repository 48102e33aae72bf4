//! The command line of coft as a library, so that its grammar can be turned into man pages and completions.
//!
//! `args` says what may be typed, `verb` does it, `service` is the one module that speaks D-Bus, `hub` the one that
//! opens a connection to anywhere else, `bundle` writes what other programs read, `program` finds coft's own, `doctor`
//! looks at the service from outside, `view` is what comes back as data, and `render` turns that into text.

pub mod args;
mod bundle;
pub mod commands;
mod doctor;
pub mod error;
mod hub;
mod image_input;
mod output;
mod program;
pub mod render;
pub mod service;
pub mod view;
