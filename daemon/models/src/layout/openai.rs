//! OpenAI's own models: OpenCLIP's tensor names, and no configuration; sizes follow from the shapes of the tensors.
//! `coftctl model import` converts OpenAI's archives to [`WEIGHTS`].
//!
//! The tensors do not show which activation is used or how wide a head is. Both are known only for the models that
//! OpenAI published. For any other archive, the user must provide them.

use super::open_clip;
use crate::config::{Activation, ClipConfig, TextConfig, VisionConfig};
use crate::weights::Weights;

/// Name of the converted weights. OpenAI's own archives have the model's name.
pub const WEIGHTS: &str = "openai.safetensors";
/// Width of an attention head in every model that OpenAI published in this form.
const HEAD_WIDTH: i64 = 64;
/// Sizes that only OpenAI's archives hold as tensors beside the weights: the first sign of such a model.
const MARKS: [&str; 3] = ["input_resolution", "context_length", "vocab_size"];
/// The Vision Transformers that OpenAI published, the second sign: image encoder (width, layers, patch, image side),
/// text encoder (width, layers), embedding. All have a text window of 77 and a vocabulary of 49408.
const PUBLISHED: [[i64; 7]; 4] = [
    [768, 12, 32, 224, 512, 12, 512],  // ViT-B/32
    [768, 12, 16, 224, 512, 12, 512],  // ViT-B/16
    [1024, 24, 14, 224, 768, 12, 768], // ViT-L/14
    [1024, 24, 14, 336, 768, 12, 768], // ViT-L/14@336px
];

/// The sizes from the tensors, if the model is one of OpenAI's.
pub fn config(raw: &Weights) -> Result<ClipConfig, String> {
    if raw.get("visual.layer1.0.conv1.weight").is_some() {
        return Err("this is a ResNet CLIP; only Vision Transformers are supported".to_owned());
    }
    let size = |name: &str, rank: usize, dimension: usize| match raw.get(name) {
        Some(tensor_ref) if tensor_ref.shape.len() == rank => Ok(tensor_ref.shape[dimension] as i64),
        Some(tensor_ref) => {
            Err(format!("tensor {name} has shape {:?}; one of {rank} dimensions is expected", tensor_ref.shape))
        }
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
    let config = ClipConfig {
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
    };
    let marked = MARKS.iter().all(|mark| raw.get(mark).is_some());
    if marked && is_published(&config) { Ok(config) } else { Err(unknown(&config)) }
}

fn is_published(config: &ClipConfig) -> bool {
    let (t, v) = (&config.text_config, &config.vision_config);
    let image = [v.hidden_size, v.num_hidden_layers, v.patch_size, v.image_size];
    let text = [t.hidden_size, t.num_hidden_layers, config.projection_dim];
    let sizes = [&image[..], &text].concat();
    (t.max_position_embeddings, t.vocab_size) == (77, 49408) && PUBLISHED.iter().any(|known| sizes == known)
}

/// The complete configuration that must be put beside the weights, with words in capitals for the values that only the
/// user can know.
fn unknown(config: &ClipConfig) -> String {
    let (t, v) = (&config.text_config, &config.vision_config);
    format!(
        r#"it holds weights alone, and is none of the models that OpenAI published. The weights do not say
  which activation the model has (GELU or QuickGELU), how many attention heads, and how images are prepared.
  Put a file {} beside it, with the words in capitals replaced by what the model was trained with:
  {{"model_cfg": {{"embed_dim": {}, "quick_gelu": TRUE_OR_FALSE,
    "vision_cfg": {{"image_size": {}, "layers": {}, "width": {}, "head_width": HEAD_WIDTH, "patch_size": {}}},
    "text_cfg": {{"context_length": {}, "vocab_size": {}, "width": {}, "heads": HEADS, "layers": {}}}}},
  "preprocess_cfg": {{"mean": MEAN, "std": STD, "interpolation": INTERPOLATION, "resize_mode": RESIZE_MODE}}}}"#,
        open_clip::CONFIG,
        config.projection_dim,
        v.image_size,
        v.num_hidden_layers,
        v.hidden_size,
        v.patch_size,
        t.max_position_embeddings,
        t.vocab_size,
        t.hidden_size,
        t.num_hidden_layers,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tensors whose shapes give the sizes of ViT-B/32, and `more`.
    fn b32(more: &[&str]) -> Weights {
        let blocks = (0..12).flat_map(|n| {
            let of = |tower: &str, width| {
                (format!("{tower}transformer.resblocks.{n}.mlp.c_fc.weight"), vec![4 * width, width])
            };
            [of("visual.", 768), of("", 512)]
        });
        let others = [
            ("visual.positional_embedding", vec![50, 768]),
            ("visual.conv1.weight", vec![768, 3, 32, 32]),
            ("token_embedding.weight", vec![49408, 512]),
            ("positional_embedding", vec![77, 512]),
            ("text_projection", vec![512, 512]),
        ];
        let others = others.map(|(name, shape)| (name.to_owned(), shape));
        let more = more.iter().map(|name| (name.to_string(), Vec::new()));
        let all: Vec<_> = blocks.chain(others).chain(more).collect();
        Weights::of_shapes(all.iter().map(|(name, shape)| (name.as_str(), shape.clone())))
    }

    #[test]
    fn openais_archives_are_known_by_their_sizes_and_their_marks() {
        let found = config(&b32(&MARKS)).unwrap();
        assert_eq!((found.vision_config.num_attention_heads, found.text_config.num_attention_heads), (12, 8));
        assert_eq!(found.vision_config.hidden_act, Activation::QuickGelu);
        // A fine-tuned model of the same sizes may have been trained with either activation.
        for marks in [&[][..], &MARKS[..2]] {
            let told = config(&b32(marks)).unwrap_err();
            assert!(told.contains("open_clip_config.json") && told.contains("TRUE_OR_FALSE"), "{told}");
            assert!(told.contains("\"image_size\": 224, \"layers\": 12, \"width\": 768"), "{told}");
        }
    }
}
