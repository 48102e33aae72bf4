//! The foundation of the tests, the demo and the benchmarks: a private bus, a daemon on it, and a drawn world of parts.

pub mod archive;
pub mod broker;
pub mod bus;
pub mod daemon;
pub mod file_systems;
pub mod machine;
pub mod programs;
pub mod pty;
pub mod sd_bus;
pub mod system;
pub mod user;
pub mod world;
