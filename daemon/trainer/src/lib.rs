//! One adaptation round with libtorch. `coft-trainer` (`main.rs`) runs it; `coft-trainer-dev`, which is not installed,
//! measures its parts and trains the demo model.
//!
//! Reads a spec, writes events, leaves a candidate directory. It knows neither the catalogue nor the active model.

mod adapt;
mod arithmetic;
mod baselines;
pub mod check;
mod checkpoint;
mod clip;
mod cuda;
pub mod dev;
mod diagnostics;
mod error;
mod export;
mod fit;
#[cfg(test)]
mod fixture;
mod journal;
#[cfg(test)]
mod kernels;
mod loss;
mod memory;
mod model;
mod model_selection;
mod near_duplicates;
#[cfg(test)]
mod parity;
mod phase1;
mod phase2;
mod pool;
mod predict;
pub mod process;
mod progress;
mod prompts;
mod random;
mod round;
mod sgd;

pub use journal::SAVE_INTERVAL;
