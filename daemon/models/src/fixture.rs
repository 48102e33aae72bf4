//! Very small model directories in every layout, in which every number is different, so that tests see where it comes
//! from.

use crate::config::ClipConfig;
use crate::shape;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

pub fn config() -> Value {
    json!({
        "model_type": "clip", "projection_dim": 6,
        "text_config": {"hidden_size": 4, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2,
            "max_position_embeddings": 5, "vocab_size": 9},
        "vision_config": {"hidden_size": 8, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1,
            "image_size": 8, "patch_size": 4},
    })
}

/// The tensors of a configuration; all their numbers are different.
pub fn tensors(config: &Value) -> Tensors {
    let config: ClipConfig = serde_json::from_value(config.clone()).unwrap();
    let mut next = 0;
    let mut numbers = |count: usize| {
        next += count;
        (next - count..next).map(|n| n as f32).collect::<Vec<_>>()
    };
    let all = shape::expected(&config);
    all.into_iter().map(|(name, shape)| (name, (shape.clone(), numbers(shape.iter().product())))).collect()
}

pub fn save(path: &Path, tensors: &Tensors) {
    let bytes: BTreeMap<&String, Vec<u8>> =
        tensors.iter().map(|(name, (_, n))| (name, n.iter().flat_map(|n| n.to_le_bytes()).collect())).collect();
    let views = tensors
        .iter()
        .map(|(name, (shape, _))| (name, TensorView::new(Dtype::F32, shape.clone(), &bytes[name]).unwrap()));
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

pub fn hugging_face(dir: &Path) -> Tensors {
    let (config, preprocessing) =
        (config(), json!({"size": 8, "crop_size": 8, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}));
    let tensors = tensors(&config);
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
    fs::write(dir.join("preprocessor_config.json"), preprocessing.to_string()).unwrap();
    fs::write(dir.join("tokenizer.json"), json!({"model": {"vocab": {"a": 0}}}).to_string()).unwrap();
    save(&dir.join("model.safetensors"), &tensors);
    tensors
}
