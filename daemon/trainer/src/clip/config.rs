//! Sizes of the towers. `coft-models` reads them, because programs without libtorch need them too.

pub use coft_models::config::{Activation, ClipConfig, TextConfig, VisionConfig};
