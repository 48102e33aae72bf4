//! `config.json` of a Hugging Face `CLIPModel` directory.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClipConfig {
    pub model_type: String,
    pub projection_dim: i64,
    pub text_config: TextConfig,
    pub vision_config: VisionConfig,
    pub logit_scale_init_value: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextConfig {
    pub hidden_size: i64,
    pub intermediate_size: i64,
    pub num_attention_heads: i64,
    pub num_hidden_layers: i64,
    /// The text window, in tokens.
    pub max_position_embeddings: i64,
    pub vocab_size: i64,
    #[serde(default = "quick_gelu")]
    pub hidden_act: Activation,
    #[serde(default = "layer_norm_eps")]
    pub layer_norm_eps: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VisionConfig {
    pub hidden_size: i64,
    pub intermediate_size: i64,
    pub num_attention_heads: i64,
    pub num_hidden_layers: i64,
    pub image_size: i64,
    pub patch_size: i64,
    #[serde(default = "quick_gelu")]
    pub hidden_act: Activation,
    #[serde(default = "layer_norm_eps")]
    pub layer_norm_eps: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x · sigmoid(1.702 x), OpenAI's.
    QuickGelu,
    /// The exact, erf-based GELU.
    Gelu,
}

// Defaults of transformers' CLIPTextConfig and CLIPVisionConfig.
fn quick_gelu() -> Activation {
    Activation::QuickGelu
}
fn layer_norm_eps() -> f64 {
    1e-5
}

impl ClipConfig {
    /// Says what makes the sizes impossible, if anything does.
    pub fn fault(&self) -> Option<String> {
        let (t, v) = (&self.text_config, &self.vision_config);
        if self.model_type != "clip" {
            return Some(format!("model_type is {:?}; only \"clip\" is supported", self.model_type));
        }
        let positive = [
            ("projection_dim", self.projection_dim),
            ("text_config.num_attention_heads", t.num_attention_heads),
            ("text_config.num_hidden_layers", t.num_hidden_layers),
            ("vision_config.num_attention_heads", v.num_attention_heads),
            ("vision_config.num_hidden_layers", v.num_hidden_layers),
            ("vision_config.patch_size", v.patch_size),
        ];
        if let Some((key, value)) = positive.into_iter().find(|(_, value)| *value <= 0) {
            return Some(format!("{key} is {value}; it must be positive"));
        }
        if t.hidden_size % t.num_attention_heads != 0 || v.hidden_size % v.num_attention_heads != 0 {
            return Some("hidden_size must be a multiple of num_attention_heads".to_owned());
        }
        if v.image_size % v.patch_size != 0 {
            return Some(format!("image_size {} is not a multiple of patch_size {}", v.image_size, v.patch_size));
        }
        None
    }
}
