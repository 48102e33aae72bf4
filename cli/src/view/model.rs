//! Pretrained models in the store.

use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// A pretrained model, in the store or in a directory.
#[derive(Clone, Debug, Serialize)]
pub struct Model {
    pub names: Vec<String>,
    /// SHA-256 over its files; `None` outside the store.
    pub digest: Option<String>,
    pub source: Option<String>,
    pub weights_sha256: String,
    pub directory: String,
    pub layout: String,
    pub size_bytes: u64,
    pub parameters: u64,
    pub image_encoder_parameters: u64,
    pub image_size: u64,
    pub patch_size: u64,
    pub image_layers: u64,
    pub image_width: u64,
    pub text_layers: u64,
    pub text_width: u64,
    pub text_window: u64,
    pub embedding: u64,
    pub activation: String,
    /// The preprocessing in the form of `preprocessor_config.json`.
    pub preprocessing: Value,
    /// SHA-256 of the pickles that the weights were converted from, by file name; empty if there were none.
    pub converted_from: BTreeMap<String, String>,
}

/// A model of the store in the list.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Listed {
    Usable(Box<Model>),
    Unusable(Unusable),
}

/// A model of the store that cannot be used as it is.
#[derive(Clone, Debug, Serialize)]
pub struct Unusable {
    pub names: Vec<String>,
    pub digest: String,
    pub source: String,
    pub size_bytes: u64,
    /// Why, and what to do.
    pub problem: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct Verified {
    pub names: Vec<String>,
    pub digest: String,
    /// `None` if every file is unchanged.
    pub problem: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Removed {
    pub names: Vec<String>,
    pub digest: String,
    pub size_bytes: u64,
}
