//! The stages of coft-vision as the rest of coft uses them.

#[path = "vision/golden.rs"]
mod golden;
#[path = "vision/peers.rs"]
mod peers;
#[path = "vision/refusals.rs"]
mod refusals;
