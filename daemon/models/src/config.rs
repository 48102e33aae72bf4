//! The sizes of a CLIP, with the key names of `config.json` of a Hugging Face `CLIPModel`. A key that the file lacks
//! has `transformers`' default.

use serde::{Deserialize, Serialize};

/// The sizes of a CLIP model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClipConfig {
    /// Kind of the model in `transformers`, `clip`.
    pub model_type: String,
    /// Length of an embedding, of images and texts alike. 512 where it is absent.
    #[serde(default = "projection_dim")]
    pub projection_dim: i64,
    /// Sizes of the text tower.
    pub text_config: TextConfig,
    /// Sizes of the image tower.
    pub vision_config: VisionConfig,
    /// Natural logarithm of the scale of the logits before training; the trained scale is a tensor. 2.6592 where it
    /// is absent.
    #[serde(default = "logit_scale")]
    pub logit_scale_init_value: f64,
}

/// The sizes of the text tower; the defaults are those of ViT-B/32.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TextConfig {
    /// Width of the tower.
    pub hidden_size: i64,
    /// Width of the hidden layer in a block.
    pub intermediate_size: i64,
    /// Attention heads of a block; they divide the width.
    pub num_attention_heads: i64,
    /// Blocks of the tower.
    pub num_hidden_layers: i64,
    /// The text window, in tokens.
    pub max_position_embeddings: i64,
    /// Tokens of the vocabulary.
    pub vocab_size: i64,
    /// Activation of the hidden layer in a block.
    pub hidden_act: Activation,
    /// Number that a layer norm adds to the variance.
    pub layer_norm_eps: f64,
}

/// The sizes of the image tower; the defaults are those of ViT-B/32.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VisionConfig {
    /// Width of the tower.
    pub hidden_size: i64,
    /// Width of the hidden layer in a block.
    pub intermediate_size: i64,
    /// Attention heads of a block; they divide the width.
    pub num_attention_heads: i64,
    /// Blocks of the tower.
    pub num_hidden_layers: i64,
    /// Side of the square image that is read, px.
    pub image_size: i64,
    /// Side of a square patch, px; it divides the image's.
    pub patch_size: i64,
    /// Activation of the hidden layer in a block.
    pub hidden_act: Activation,
    /// Number that a layer norm adds to the variance.
    pub layer_norm_eps: f64,
}

/// The activation of the hidden layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x · sigmoid(1.702 x), as in OpenAI's models.
    QuickGelu,
    /// The exact, erf-based GELU.
    Gelu,
}

impl Default for TextConfig {
    fn default() -> Self {
        Self {
            hidden_size: 512,
            intermediate_size: 2048,
            num_attention_heads: 8,
            num_hidden_layers: 12,
            max_position_embeddings: 77,
            vocab_size: 49408,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
        }
    }
}

impl Default for VisionConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_attention_heads: 12,
            num_hidden_layers: 12,
            image_size: 224,
            patch_size: 32,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
        }
    }
}

pub(crate) fn projection_dim() -> i64 {
    512
}

pub(crate) fn logit_scale() -> f64 {
    2.6592
}

/// Largest allowed value of any size. No CLIP comes near it, and products of two such values cannot overflow. [choice]
const MAX_SIZE: i64 = 1 << 24;

impl ClipConfig {
    /// Whether a model can have these sizes.
    ///
    /// # Errors
    /// Describes the first size that is impossible, and why.
    pub fn validate(&self) -> Result<(), String> {
        let (t, v) = (&self.text_config, &self.vision_config);
        let positive = [
            ("projection_dim", self.projection_dim),
            ("text_config.hidden_size", t.hidden_size),
            ("text_config.intermediate_size", t.intermediate_size),
            ("text_config.num_hidden_layers", t.num_hidden_layers),
            ("text_config.max_position_embeddings", t.max_position_embeddings),
            ("text_config.vocab_size", t.vocab_size),
            ("vision_config.hidden_size", v.hidden_size),
            ("vision_config.intermediate_size", v.intermediate_size),
            ("vision_config.num_hidden_layers", v.num_hidden_layers),
            ("vision_config.image_size", v.image_size),
            ("text_config.num_attention_heads", t.num_attention_heads),
            ("vision_config.num_attention_heads", v.num_attention_heads),
            ("vision_config.patch_size", v.patch_size),
        ];
        if let Some((key, value)) = positive.into_iter().find(|(_, value)| !(1..=MAX_SIZE).contains(value)) {
            return Err(format!("{key} is {value}; a number from 1 to {MAX_SIZE} is needed"));
        }
        if t.hidden_size % t.num_attention_heads != 0 || v.hidden_size % v.num_attention_heads != 0 {
            return Err("hidden_size must be a multiple of num_attention_heads".to_owned());
        }
        if v.image_size % v.patch_size != 0 {
            return Err(format!("image_size {} is not a multiple of patch_size {}", v.image_size, v.patch_size));
        }
        Ok(())
    }
}
