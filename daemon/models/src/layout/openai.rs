//! OpenAI's own archives: OpenCLIP's names, and no statement of sizes but the tensors themselves.

use crate::config::{Activation, ClipConfig, TextConfig, VisionConfig};
use crate::weights::Weights;

/// Width of an attention head in every model that was published so.
const HEAD_WIDTH: i64 = 64;

/// The sizes that the tensors have.
pub fn config(raw: &Weights) -> Result<ClipConfig, String> {
    if raw.get("visual.layer1.0.conv1.weight").is_some() {
        return Err("this is a ResNet CLIP; only Vision Transformers are supported".to_owned());
    }
    let size = |name: &str, rank: usize, dimension: usize| match raw.get(name) {
        Some(place) if place.shape.len() == rank => Ok(place.shape[dimension] as i64),
        Some(place) => Err(format!("tensor {name} has shape {:?}; one of {rank} dimensions is expected", place.shape)),
        None => Err(format!("tensor {name} is missing; this is no CLIP as OpenAI published them")),
    };
    let layers = |prefix: &str| {
        let numbers = raw.iter().filter_map(|(name, _)| name.strip_prefix(prefix)?.split('.').next()?.parse().ok());
        numbers.max().map_or(0, |last: i64| last + 1)
    };
    let positions = size("visual.positional_embedding", 2, 0)? - 1;
    let grid = positions.max(0).isqrt();
    if grid * grid != positions {
        return Err(format!("tensor visual.positional_embedding has {positions} patches, which make no square"));
    }
    let (width, patch) = (size("visual.conv1.weight", 4, 0)?, size("visual.conv1.weight", 4, 2)?);
    let text_width = size("token_embedding.weight", 2, 1)?;
    Ok(ClipConfig {
        model_type: "clip".to_owned(),
        projection_dim: size("text_projection", 2, 1)?,
        text_config: TextConfig {
            hidden_size: text_width,
            intermediate_size: size("transformer.resblocks.0.mlp.c_fc.weight", 2, 0)?,
            num_attention_heads: text_width / HEAD_WIDTH,
            num_hidden_layers: layers("transformer.resblocks."),
            max_position_embeddings: size("positional_embedding", 2, 0)?,
            vocab_size: size("token_embedding.weight", 2, 0)?,
            hidden_act: Activation::QuickGelu,
            ..TextConfig::default()
        },
        vision_config: VisionConfig {
            hidden_size: width,
            intermediate_size: size("visual.transformer.resblocks.0.mlp.c_fc.weight", 2, 0)?,
            num_attention_heads: width / HEAD_WIDTH,
            num_hidden_layers: layers("visual.transformer.resblocks."),
            image_size: grid.saturating_mul(patch),
            patch_size: patch,
            hidden_act: Activation::QuickGelu,
            ..VisionConfig::default()
        },
        logit_scale_init_value: 2.6592,
    })
}
