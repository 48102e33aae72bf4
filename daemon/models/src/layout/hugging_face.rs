//! Hugging Face's `CLIPModel`, whose tensor names coft uses for all layouts.

use super::json;
use crate::config::{ClipConfig, TextConfig, VisionConfig};
use crate::error::ModelError;
use crate::weights::Weights;
use coft_vision::Preprocess;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::{Path, PathBuf};

pub const CONFIG: &str = "config.json";
/// Most preferred first.
pub const WEIGHTS: [&str; 4] =
    ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];
/// File that `transformers` 5 writes instead of [`coft_vision::CONFIG_FILE`], with the same content below a key.
pub const PROCESSOR: &str = "processor_config.json";
const NESTED: &str = "image_processor";
const MODEL_TYPE: &str = "clip";

/// Whether a `config.json` describes a `CLIPModel`. Other programs, such as `timm`, use the same file name.
pub fn is_clip(stated: &Value) -> bool {
    stated["model_type"] == MODEL_TYPE
}

/// The sizes. A key that the file lacks has `transformers`' default, because that library does not write defaults.
pub fn config(stated: &Value) -> Result<ClipConfig, String> {
    if let Some(other) = other_model(stated) {
        return Err(other);
    }
    #[derive(serde::Deserialize)]
    struct Whole {
        #[serde(default = "crate::config::projection_dim")]
        projection_dim: i64,
        #[serde(default = "crate::config::logit_scale")]
        logit_scale_init_value: f64,
    }
    let Whole { projection_dim, logit_scale_init_value } =
        serde_json::from_value(stated.clone()).map_err(|error| error.to_string())?;
    let text_config: TextConfig = section(stated, "text_config")?;
    let vision_config: VisionConfig = section(stated, "vision_config")?;
    let model_type = MODEL_TYPE.to_owned();
    Ok(ClipConfig { model_type, projection_dim, text_config, vision_config, logit_scale_init_value })
}

/// Why this is not a `CLIPModel`; `None` if it is one.
fn other_model(stated: &Value) -> Option<String> {
    let Some(found) = stated.get("model_type") else {
        if let Some(architecture) = stated["architecture"].as_str() {
            return Some(format!(
                "this is timm's description of {architecture}, which has no text encoder; get the model in open_clip's \
                 files (open_clip_config.json) or as a CLIPModel of transformers"
            ));
        }
        return Some(format!(
            "model_type is missing; it is \"{MODEL_TYPE}\" in what transformers writes for a CLIPModel"
        ));
    };
    let name = found.as_str().unwrap_or_default();
    let why = match name {
        MODEL_TYPE => return None,
        "clip_vision_model" => " (this is the image encoder alone; coft needs the text encoder too)",
        "clip_text_model" => " (this is the text encoder alone; coft needs the image encoder too)",
        _ if name.starts_with("siglip") => {
            " (SigLIP has no class token and pools by attention: another model, not another size of this one)"
        }
        _ => "",
    };
    Some(format!("model_type is {found}; only \"{MODEL_TYPE}\" is supported{why}"))
}

fn section<T: DeserializeOwned>(stated: &Value, key: &str) -> Result<T, String> {
    let section = stated.get(key).filter(|section| section.is_object());
    let section = section.ok_or_else(|| format!("{key} is missing"))?;
    // Old files state some values a second time below this key, and `transformers` silently uses those.
    let old = stated.get(format!("{key}_dict")).and_then(Value::as_object);
    for (name, value) in old.into_iter().flatten() {
        if section.get(name).is_some_and(|found| found != value) {
            return Err(format!(
                "{key}.{name} is {}, and {key}_dict.{name} is {value}; remove {key}_dict if the first is right",
                section[name]
            ));
        }
    }
    if let Some(channels) = section.get("num_channels").filter(|channels| channels.as_i64() != Some(3)) {
        return Err(format!("{key}.num_channels is {channels}; only images of 3 channels are supported"));
    }
    let mut whole = section.clone();
    for (name, value) in old.into_iter().flatten() {
        whole[name] = value.clone();
    }
    serde_json::from_value(whole).map_err(|error| format!("{key}: {error}"))
}

/// The preprocessing, and the file that states it.
pub fn preprocessing(dir: &Path) -> Result<(Value, PathBuf), ModelError> {
    let (plain, processor) = (dir.join(coft_vision::CONFIG_FILE), dir.join(PROCESSOR));
    let stated = |path: &Path| if path.is_file() { json::<Value>(path).map(Some) } else { Ok(None) };
    let nested = stated(&processor)?.and_then(|mut all| all.get_mut(NESTED).map(Value::take));
    match (stated(&plain)?, nested.filter(Value::is_object)) {
        (Some(one), None) => Ok((one, plain)),
        (None, Some(one)) => Ok((one, processor)),
        (Some(one), Some(other)) => {
            let differs = Preprocess::from_file(&one, &plain)? != Preprocess::from_file(&other, &processor)?;
            if !differs {
                return Ok((one, plain));
            }
            let fault = format!(
                "its {NESTED} prepares images otherwise than {} beside it; remove the one that is wrong",
                coft_vision::CONFIG_FILE
            );
            Err(ModelError::Config { path: processor, fault })
        }
        (None, None) => Err(ModelError::Incomplete {
            dir: dir.to_owned(),
            lacking: format!(
                "{} (or {PROCESSOR} with an {NESTED}), which says how images are prepared; copy it from where the \
                 model comes from",
                coft_vision::CONFIG_FILE
            ),
        }),
    }
}

/// Leaves out the position ids of old checkpoints: they count from 0, and nothing reads them.
pub fn named(raw: Weights) -> Weights {
    let tensor_refs = raw.iter().filter(|(name, _)| !name.ends_with(".position_ids"));
    let tensor_refs = tensor_refs.map(|(name, tensor_ref)| (name.to_owned(), tensor_ref.clone())).collect();
    raw.renamed(tensor_refs)
}
