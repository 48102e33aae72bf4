//! The commands of `coft-trainer-dev`. No other module uses them, so that the linker leaves them out of `coft-trainer`.

pub mod bench;
pub mod pretrain;
