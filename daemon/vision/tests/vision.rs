//! The stages of coft-vision as the rest of coft uses them.

#[path = "vision/broken.rs"]
mod broken;
#[path = "vision/cuts.rs"]
mod cuts;
#[path = "vision/depths.rs"]
mod depths;
#[path = "vision/golden.rs"]
mod golden;
#[path = "vision/heads.rs"]
mod heads;
#[path = "vision/heif.rs"]
mod heif;
#[path = "vision/kinds.rs"]
mod kinds;
#[path = "vision/made.rs"]
mod made;
#[path = "vision/memory.rs"]
mod memory;
#[path = "vision/orientation.rs"]
mod orientation;
#[path = "vision/pages.rs"]
mod pages;
#[path = "vision/peers.rs"]
mod peers;
#[path = "vision/refusals.rs"]
mod refusals;
