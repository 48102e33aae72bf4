//! What the tests, the demo and the benchmarks stand on: a private bus, a daemon on it, and a drawn world.

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
