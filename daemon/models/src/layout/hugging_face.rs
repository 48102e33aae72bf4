//! Hugging Face's `CLIPModel`: its names are the ones that are used throughout.

use crate::weights::Weights;

pub const CONFIG: &str = "config.json";
/// In the order in which they are preferred.
pub const WEIGHTS: [&str; 4] =
    ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];

/// Old checkpoints carry their position ids; they are the numbers from 0 and nothing reads them.
pub fn named(raw: Weights) -> Weights {
    let places = raw.iter().filter(|(name, _)| !name.ends_with(".position_ids"));
    let places = places.map(|(name, place)| (name.to_owned(), place.clone())).collect();
    raw.renamed(places)
}
