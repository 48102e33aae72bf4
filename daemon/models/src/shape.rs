//! The tensors that a CLIP of given sizes consists of, and a comparison with those in the files.

use crate::config::ClipConfig;
use crate::tensor::Element;
use crate::weights::Weights;
use std::collections::BTreeMap;
use thiserror::Error;

#[derive(Debug, Error, PartialEq, Eq)]
pub enum ShapeError {
    #[error("tensor {name} is missing; expected shape {expected:?}")]
    Missing { name: String, expected: Vec<usize> },
    #[error("tensor {name} has shape {found:?}; {config} asks for {expected:?}")]
    Differs { name: String, found: Vec<usize>, expected: Vec<usize>, config: &'static str },
    #[error("tensor {name} of shape {found:?} is no part of a CLIP of the sizes in {config}")]
    Unknown { name: String, found: Vec<usize>, config: &'static str },
    #[error("tensor {name} has element type {found}; only F32, F16 and BF16 are read")]
    Element { name: String, found: &'static str },
}

/// Every tensor of the model, with its shape.
pub fn expected(config: &ClipConfig) -> BTreeMap<String, Vec<usize>> {
    let (t, v) = (&config.text_config, &config.vision_config);
    let n = |size: i64| size as usize; // `ClipConfig::validate` has seen that they are positive
    let embedding = n(config.projection_dim);
    let grid = n(v.image_size / v.patch_size);
    let mut all = BTreeMap::new();
    let mut add = |name: String, shape: &[usize]| drop(all.insert(name, shape.to_vec()));
    add("logit_scale".into(), &[]);
    add("visual_projection.weight".into(), &[embedding, n(v.hidden_size)]);
    add("text_projection.weight".into(), &[embedding, n(t.hidden_size)]);
    add("vision_model.embeddings.class_embedding".into(), &[n(v.hidden_size)]);
    let patch = n(v.patch_size);
    add("vision_model.embeddings.patch_embedding.weight".into(), &[n(v.hidden_size), 3, patch, patch]);
    add("vision_model.embeddings.position_embedding.weight".into(), &[1 + grid * grid, n(v.hidden_size)]);
    add("text_model.embeddings.token_embedding.weight".into(), &[n(t.vocab_size), n(t.hidden_size)]);
    add("text_model.embeddings.position_embedding.weight".into(), &[n(t.max_position_embeddings), n(t.hidden_size)]);
    let towers = [
        ("vision_model", v.hidden_size, v.intermediate_size, v.num_hidden_layers),
        ("text_model", t.hidden_size, t.intermediate_size, t.num_hidden_layers),
    ];
    for (tower, width, hidden, layers) in towers {
        let (width, hidden) = (n(width), n(hidden));
        for layer in 0..layers {
            let block = format!("{tower}.encoder.layers.{layer}");
            let linear = ["k", "v", "q", "out"].map(|part| (format!("self_attn.{part}_proj"), width, width));
            for (part, out, from) in
                linear.into_iter().chain([("mlp.fc1".into(), hidden, width), ("mlp.fc2".into(), width, hidden)])
            {
                add(format!("{block}.{part}.weight"), &[out, from]);
                add(format!("{block}.{part}.bias"), &[out]);
            }
            for part in ["layer_norm1", "layer_norm2"] {
                add(format!("{block}.{part}.weight"), &[width]);
                add(format!("{block}.{part}.bias"), &[width]);
            }
        }
        let norms: &[&str] =
            if tower == "text_model" { &["final_layer_norm"] } else { &["pre_layrnorm", "post_layernorm"] };
        for norm in norms {
            add(format!("{tower}.{norm}.weight"), &[width]);
            add(format!("{tower}.{norm}.bias"), &[width]);
        }
    }
    all
}

/// Checks that the weights are exactly the tensors of a model of these sizes. `source` is the file that states the
/// sizes.
pub fn check(weights: &Weights, config: &ClipConfig, source: &'static str) -> Result<(), ShapeError> {
    let expected = expected(config);
    for (name, shape) in &expected {
        let tensor_ref = weights.get(name);
        let tensor_ref =
            tensor_ref.ok_or_else(|| ShapeError::Missing { name: name.clone(), expected: shape.clone() })?;
        let spelt = if tensor_ref.name == *name { name.clone() } else { format!("{} ({name})", tensor_ref.name) };
        if let Element::Other(found) = tensor_ref.element {
            return Err(ShapeError::Element { name: spelt, found });
        }
        if tensor_ref.shape != *shape {
            let (found, expected) = (tensor_ref.shape.clone(), shape.clone());
            return Err(ShapeError::Differs { name: spelt, found, expected, config: source });
        }
    }
    match weights.iter().find(|(name, _)| !expected.contains_key(*name)) {
        None => Ok(()),
        Some((_, tensor_ref)) => {
            Err(ShapeError::Unknown { name: tensor_ref.name.clone(), found: tensor_ref.shape.clone(), config: source })
        }
    }
}
