//! The command line of coft as a library, so that man pages and completions can be made from its grammar.
//!
//! `args` defines the arguments, `commands` carries them out, `service` is the only module that uses D-Bus, `hub` the
//! only one that connects to other servers, `bundle` writes the layouts of other programs, `program` finds coft's own
//! programs, `doctor` checks the service from outside, `view` has the results as data, and `render` turns these into
//! text.

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
