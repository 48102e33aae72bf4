//! Sizes of the towers. They are read where checkpoints are, in `coft-models`, which serves programs without libtorch too.

pub use coft_models::config::{Activation, ClipConfig, TextConfig, VisionConfig};
