//! What the tests, the demo and the benchmarks stand on: a private bus, a daemon on it, and a drawn world.

pub mod bus;
pub mod daemon;
pub mod programs;
pub mod world;
