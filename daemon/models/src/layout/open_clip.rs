//! OpenCLIP's layout: `open_clip_config.json`, and tensor names that OpenAI's models share.
//!
//! Such a configuration can describe models that are not a CLIP as coft computes it. Every key is either understood,
//! known to have no influence on the answers of a trained model, or refused.

use crate::config::{Activation, ClipConfig, TextConfig, VisionConfig};
use crate::tensor::TensorRef;
use crate::weights::Weights;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub const CONFIG: &str = "open_clip_config.json";
pub const WEIGHTS: [&str; 2] = ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"];
/// Older names of the weights. They count only if `config.json` does not claim them for another layout.
pub const OLD_WEIGHTS: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];

/// A section of the configuration. Each key that is understood is removed from `left`.
struct Section<'a> {
    name: &'static str,
    left: Map<String, Value>,
    whole: &'a Value,
}

impl<'a> Section<'a> {
    fn new(name: &'static str, whole: &'a Value) -> Result<Self, String> {
        let left = whole.as_object().cloned().ok_or_else(|| format!("{name} is no object"))?;
        Ok(Self { name, left, whole })
    }

    fn number(&mut self, key: &str, default: Option<i64>) -> Result<i64, String> {
        let number = match self.left.remove(key).filter(|value| !value.is_null()) {
            None => default,
            Some(value) => value.as_i64(),
        };
        number.ok_or_else(|| format!("{}.{key} is {}; a whole number is needed", self.name, self.whole[key]))
    }

    fn ratio(&mut self) -> Result<f64, String> {
        match self.left.remove("mlp_ratio") {
            None => Ok(4.0),
            Some(value) => value.as_f64().ok_or_else(|| format!("{}.mlp_ratio is {value}", self.name)),
        }
    }

    /// Removes keys that have no influence on the answers of a trained model.
    fn ignore(&mut self, keys: &[&str]) {
        self.left.retain(|key, _| !keys.contains(&key.as_str()));
    }

    /// Every remaining key must have the value that it would have by default; otherwise the model is refused.
    fn done(self, plain: &[(&str, Value)]) -> Result<(), String> {
        let unusual = |(key, value): &(String, Value)| {
            let default = plain.iter().find(|(known, _)| known == key).map(|(_, value)| value);
            !value.is_null() && *value != Value::Bool(false) && default != Some(value)
        };
        match self.left.into_iter().find(unusual) {
            None => Ok(()),
            Some((key, value)) => Err(format!(
                "{}.{key} is {value}, which makes it another model than the CLIPs that are supported",
                self.name
            )),
        }
    }
}

pub fn config(stated: &Value) -> Result<ClipConfig, String> {
    if stated.get("model_cfg").is_none() {
        return Err(
            "model_cfg is missing; put the model's sizes below that key, and preprocess_cfg beside it".to_owned()
        );
    }
    let mut model = Section::new("model_cfg", &stated["model_cfg"])?;
    // Without this key the activation is GELU: that is open_clip's default, and its configurations rely on it.
    let activation = match model.left.remove("quick_gelu") {
        Some(Value::Bool(true)) => Activation::QuickGelu,
        Some(Value::Bool(false) | Value::Null) | None => Activation::Gelu,
        Some(other) => return Err(format!("model_cfg.quick_gelu is {other}; write true or false")),
    };
    let projection_dim = model.number("embed_dim", None)?;
    let mut vision = Section::new("model_cfg.vision_cfg", &stated["model_cfg"]["vision_cfg"])?;
    let mut text = Section::new("model_cfg.text_cfg", &stated["model_cfg"]["text_cfg"])?;
    model.ignore(&["vision_cfg", "text_cfg", "custom_text", "init_logit_scale", "output_dict", "cast_dtype"]);
    model.done(&[])?;

    let width = vision.number("width", Some(768))?;
    let hidden = (width as f64 * vision.ratio()?) as i64;
    let head_width = vision.number("head_width", Some(64))?;
    if head_width <= 0 {
        return Err(format!("model_cfg.vision_cfg.head_width is {head_width}; it must be positive"));
    }
    let vision_config = VisionConfig {
        hidden_size: width,
        intermediate_size: hidden,
        num_attention_heads: width / head_width,
        num_hidden_layers: vision.number("layers", Some(12))?,
        image_size: vision.number("image_size", Some(224))?,
        patch_size: vision.number("patch_size", Some(16))?,
        hidden_act: activation,
        ..VisionConfig::default()
    };
    // Keys for attention pooling only, and for training only.
    vision.ignore(&["patch_dropout", "attn_pooler_queries", "attn_pooler_heads", "output_tokens"]);
    vision.ignore(&[
        "timm_model_pretrained",
        "timm_pool",
        "timm_proj",
        "timm_proj_bias",
        "timm_drop",
        "timm_drop_path",
    ]);
    vision.done(&[("pool_type", json!("tok")), ("pos_embed_type", json!("learnable"))])?;

    let width = text.number("width", Some(512))?;
    let text_config = TextConfig {
        hidden_size: width,
        intermediate_size: (width as f64 * text.ratio()?) as i64,
        num_attention_heads: text.number("heads", Some(8))?,
        num_hidden_layers: text.number("layers", Some(12))?,
        max_position_embeddings: text.number("context_length", Some(77))?,
        vocab_size: text.number("vocab_size", Some(49408))?,
        hidden_act: activation,
        ..TextConfig::default()
    };
    text.ignore(&["output_tokens", "pad_id", "eos_id", "hf_model_pretrained", "hf_proj_type", "hf_pooler_type"]);
    text.ignore(&["hf_tokenizer_name"]); // the tokeniser is read from the files beside the weights
    text.done(&[("pool_type", json!("argmax")), ("proj_type", json!("linear"))])?;
    Ok(ClipConfig {
        model_type: "clip".to_owned(),
        projection_dim,
        text_config,
        vision_config,
        logit_scale_init_value: 2.6592,
    })
}

/// The preprocessing in the form of `preprocessor_config.json`.
pub fn preprocessing(stated: &Value, config: &ClipConfig) -> Result<Value, String> {
    let mut plain = published(config);
    let stated = stated.get("preprocess_cfg").ok_or(
        "preprocess_cfg is missing; add it with the mean and std of the model's training: \"preprocess_cfg\": \
         {\"mean\": [R, G, B], \"std\": [R, G, B]}",
    )?;
    let mut section = Section::new("preprocess_cfg", stated)?;
    for (key, ours) in [("mean", "image_mean"), ("std", "image_std")] {
        let value = section.left.remove(key).filter(|value| !value.is_null());
        plain[ours] = value
            .ok_or_else(|| format!("preprocess_cfg.{key} is missing; add the one that the model was trained with"))?;
    }
    let side = match section.left.remove("size") {
        None | Some(Value::Null) => json!(config.vision_config.image_size),
        Some(Value::Array(sides)) if sides.len() == 2 && sides[0] == sides[1] => sides[0].clone(),
        Some(side) => side,
    };
    // The defaults of these two keys have always been the same in open_clip.
    let word = |section: &mut Section, key: &str, default: &str| match section.left.remove(key) {
        None | Some(Value::Null) => Ok(default.to_owned()),
        Some(Value::String(word)) => Ok(word),
        Some(other) => Err(format!("preprocess_cfg.{key} is {other}; a word is needed")),
    };
    let resize = word(&mut section, "resize_mode", "shortest")?;
    plain["size"] = match resize.as_str() {
        "shortest" => json!({ "shortest_edge": side }),
        "squash" => json!({ "height": side, "width": side }),
        _ => {
            return Err(format!(
                "preprocess_cfg.resize_mode is {resize:?}; only \"shortest\" and \"squash\" are supported"
            ));
        }
    };
    plain["crop_size"] = side;
    let filter = word(&mut section, "interpolation", "bicubic")?;
    plain["resample"] = match filter.as_str() {
        "bicubic" => json!(3),
        "bilinear" => json!(2),
        _ => {
            let supported = "only \"bicubic\" and \"bilinear\" are supported";
            return Err(format!("preprocess_cfg.interpolation is {filter:?}; {supported}"));
        }
    };
    section.ignore(&["fill_color"]); // the colour of padding in another resize mode
    section.done(&[("mode", json!("RGB"))])?;
    Ok(plain)
}

/// The preprocessing of the models that OpenAI published.
pub fn published(config: &ClipConfig) -> Value {
    let side = config.vision_config.image_size;
    json!({
        "do_resize": true, "size": {"shortest_edge": side}, "resample": 3,
        "do_center_crop": true, "crop_size": side,
        "do_rescale": true, "do_normalize": true,
        "image_mean": [0.481_454_66, 0.457_827_5, 0.408_210_73],
        "image_std": [0.268_629_54, 0.261_302_58, 0.275_777_11],
    })
}

/// Tensors that a file may hold in addition: a mask that follows from the window, and sizes.
const BESIDES: [&str; 5] = ["attn_mask", "input_resolution", "context_length", "vocab_size", "text.attn_mask"];

/// Renames the tensors to the names of a `CLIPModel`.
pub fn named(raw: Weights) -> Result<Weights, String> {
    let mut tensor_refs = BTreeMap::new();
    for (name, tensor_ref) in raw.iter() {
        if !BESIDES.contains(&name) {
            add(name.strip_prefix("text.").unwrap_or(name), tensor_ref, &mut tensor_refs)?;
        }
    }
    Ok(raw.renamed(tensor_refs))
}

fn add(name: &str, tensor_ref: &TensorRef, tensor_refs: &mut BTreeMap<String, TensorRef>) -> Result<(), String> {
    let rank = |rank: usize| {
        let fits = tensor_ref.shape.len() == rank;
        let found = &tensor_ref.shape;
        if fits {
            Ok(())
        } else {
            Err(format!("tensor {name} has shape {found:?}; one of {rank} dimensions is expected"))
        }
    };
    let plain = match name {
        "visual.class_embedding" => "vision_model.embeddings.class_embedding",
        "visual.conv1.weight" => "vision_model.embeddings.patch_embedding.weight",
        "visual.positional_embedding" => "vision_model.embeddings.position_embedding.weight",
        "visual.ln_pre.weight" => "vision_model.pre_layrnorm.weight",
        "visual.ln_pre.bias" => "vision_model.pre_layrnorm.bias",
        "visual.ln_post.weight" => "vision_model.post_layernorm.weight",
        "visual.ln_post.bias" => "vision_model.post_layernorm.bias",
        "token_embedding.weight" => "text_model.embeddings.token_embedding.weight",
        "positional_embedding" => "text_model.embeddings.position_embedding.weight",
        "ln_final.weight" => "text_model.final_layer_norm.weight",
        "ln_final.bias" => "text_model.final_layer_norm.bias",
        _ => "",
    };
    if !plain.is_empty() {
        tensor_refs.insert(plain.to_owned(), tensor_ref.clone());
        return Ok(());
    }
    match name {
        // These matrices are stored transposed.
        "visual.proj" | "text_projection" => {
            rank(2)?;
            let ours = if name == "visual.proj" { "visual_projection.weight" } else { "text_projection.weight" };
            tensor_refs.insert(ours.to_owned(), tensor_ref.transposed());
            return Ok(());
        }
        // Some files hold it as a list with one element.
        "logit_scale" if tensor_ref.shape == [1] => {
            tensor_refs
                .insert(name.to_owned(), TensorRef { shape: Vec::new(), strides: Vec::new(), ..tensor_ref.clone() });
            return Ok(());
        }
        _ => {}
    }
    let block = [("visual.transformer.resblocks.", "vision_model"), ("transformer.resblocks.", "text_model")];
    let block = block.into_iter().find_map(|(prefix, tower)| {
        let (layer, part) = name.strip_prefix(prefix)?.split_once('.')?;
        Some((format!("{tower}.encoder.layers.{layer}"), part))
    });
    let Some((block, part)) = block else {
        // Kept under its own name. `logit_scale` is expected; the check of the shapes refuses any other name.
        tensor_refs.insert(name.to_owned(), tensor_ref.clone());
        return Ok(());
    };
    if let Some(kind) = part.strip_prefix("attn.in_proj_") {
        // Query, key and value are stacked along the rows.
        rank(if kind == "weight" { 2 } else { 1 })?;
        if !tensor_ref.shape[0].is_multiple_of(3) {
            return Err(format!("tensor {name} has shape {:?}; a multiple of 3 rows is expected", tensor_ref.shape));
        }
        let rows = tensor_ref.shape[0] / 3;
        for (i, which) in ["q", "k", "v"].into_iter().enumerate() {
            tensor_refs.insert(format!("{block}.self_attn.{which}_proj.{kind}"), tensor_ref.rows(i * rows, rows));
        }
        return Ok(());
    }
    let parts = [
        ("ln_1.", "layer_norm1."),
        ("ln_2.", "layer_norm2."),
        ("attn.out_proj.", "self_attn.out_proj."),
        ("mlp.c_fc.", "mlp.fc1."),
        ("mlp.c_proj.", "mlp.fc2."),
    ];
    let ours = parts.into_iter().find_map(|(theirs, ours)| Some(format!("{ours}{}", part.strip_prefix(theirs)?)));
    tensor_refs.insert(ours.map_or_else(|| name.to_owned(), |part| format!("{block}.{part}")), tensor_ref.clone());
    Ok(())
}
