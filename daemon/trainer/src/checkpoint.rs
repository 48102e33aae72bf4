//! A CLIP on disk: a Hugging Face `CLIPModel` directory with `config.json`, `model.safetensors`, `tokenizer.json` and
//! `preprocessor_config.json`. Every fault names the file, and the tensor with both shapes.

use crate::clip::tensors::TensorError;
use crate::clip::{ClipConfig, Tensors, TextTower, VisionTower};
use coft_vision::Preprocess;
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};
use thiserror::Error;
use tokenizers::Tokenizer;

#[derive(Debug, Error)]
pub enum CheckpointError {
    #[error("{path}: {cause}")]
    Read { path: PathBuf, cause: std::io::Error },
    #[error("{path}: {cause}")]
    Json { path: PathBuf, cause: serde_json::Error },
    #[error("{path}: {fault}")]
    Config { path: PathBuf, fault: String },
    #[error("{path}: {cause}")]
    Safetensors { path: PathBuf, cause: safetensors::SafeTensorError },
    #[error("{path}: tensor {name} has element type {dtype:?}; only F32, F16 and BF16 are read")]
    Dtype { path: PathBuf, name: String, dtype: Dtype },
    #[error("{path}: {cause}")]
    Tensor { path: PathBuf, cause: TensorError },
    #[error("{path}: {cause}")]
    Tokenizer { path: PathBuf, cause: tokenizers::Error },
    #[error("{0}")]
    Preprocess(#[from] coft_vision::PreprocessError),
    #[error(
        "class {class:?} needs {tokens} tokens in the prompt {template:?}, the model's text window has {window}; \
         shorten the class name"
    )]
    TooLong { class: String, template: String, tokens: usize, window: i64 },
}

/// The pretrained model, on its device, frozen.
#[derive(Debug)]
pub struct Checkpoint {
    pub config: ClipConfig,
    pub tensors: Tensors,
    pub vision: VisionTower,
    pub text: TextTower,
    /// exp(logit_scale) = 1/τ.
    pub logit_scale: f64,
    pub preprocess: Preprocess,
    /// `preprocessor_config.json` as it was.
    pub preprocessing: serde_json::Value,
    /// SHA-256 of `model.safetensors`, hex.
    pub digest: String,
    pub device: Device,
    tokenizer: Tokenizer,
}

impl Checkpoint {
    pub fn load(dir: &Path, device: Device) -> Result<Self, CheckpointError> {
        let config: ClipConfig = json(&dir.join("config.json"))?;
        if let Some(fault) = config.fault() {
            return Err(CheckpointError::Config { path: dir.join("config.json"), fault });
        }
        let preprocessing: serde_json::Value = json(&dir.join("preprocessor_config.json"))?;
        let preprocess = Preprocess::from_dir(dir)?;
        if i64::from(preprocess.crop) != config.vision_config.image_size {
            let fault = format!(
                "crop_size is {}; config.json asks for images of {}",
                preprocess.crop, config.vision_config.image_size
            );
            return Err(CheckpointError::Config { path: dir.join("preprocessor_config.json"), fault });
        }
        let path = dir.join("tokenizer.json");
        let mut tokenizer = Tokenizer::from_file(&path).map_err(|cause| CheckpointError::Tokenizer { path, cause })?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).expect("switching truncation off cannot fail");

        let path = dir.join("model.safetensors");
        let (tensors, digest) = weights(&path, device)?;
        let faulty = |cause| CheckpointError::Tensor { path: path.clone(), cause };
        let vision = VisionTower::new(&config, &tensors).map_err(faulty)?;
        let text = TextTower::new(&config, &tensors).map_err(faulty)?;
        let logit_scale = tensors.get("logit_scale", &[]).map_err(faulty)?.double_value(&[]).exp();
        Ok(Self { config, tensors, vision, text, logit_scale, preprocess, preprocessing, digest, device, tokenizer })
    }

    /// Token ids of a text, with the start and end tokens.
    pub fn tokens(&self, text: &str) -> Vec<i64> {
        let encoding = self.tokenizer.encode(text, true).expect("a loaded tokeniser encodes any string");
        encoding.get_ids().iter().map(|&id| i64::from(id)).collect()
    }

    /// Token ids of each class in the template, refused where one outgrows the text window.
    ///
    /// `extra` tokens are kept free for learnable context.
    pub fn prompts(&self, template: &str, classes: &[String], extra: usize) -> Result<Vec<Vec<i64>>, CheckpointError> {
        classes
            .iter()
            .map(|class| {
                let ids = self.tokens(&template.replace("{}", &class.replace('_', " ")));
                let tokens = ids.len() + extra;
                if tokens as i64 > self.text.window() {
                    let (class, template, window) = (class.clone(), template.to_owned(), self.text.window());
                    return Err(CheckpointError::TooLong { class, template, tokens, window });
                }
                Ok(ids)
            })
            .collect()
    }
}

fn json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, CheckpointError> {
    let text = fs::read(path).map_err(|cause| CheckpointError::Read { path: path.to_owned(), cause })?;
    serde_json::from_slice(&text).map_err(|cause| CheckpointError::Json { path: path.to_owned(), cause })
}

fn weights(path: &Path, device: Device) -> Result<(Tensors, String), CheckpointError> {
    let bytes = fs::read(path).map_err(|cause| CheckpointError::Read { path: path.to_owned(), cause })?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|cause| CheckpointError::Safetensors { path: path.to_owned(), cause })?;
    let mut tensors = Tensors::default();
    for (name, view) in file.tensors() {
        let kind = match view.dtype() {
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            // Old checkpoints carry their position ids; they are the numbers from 0 and nothing reads them.
            Dtype::I64 if name.ends_with("position_ids") => continue,
            dtype => return Err(CheckpointError::Dtype { path: path.to_owned(), name, dtype }),
        };
        let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
        let tensor = Tensor::from_data_size(view.data(), &shape, kind);
        tensors.insert(name, tensor.to_kind(Kind::Float).to_device(device));
    }
    Ok((tensors, format!("{:x}", Sha256::digest(&bytes))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    /// The embedded model with one of its files replaced.
    fn fault(file: &str, content: &[u8]) -> String {
        let dir = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(fixture::model_dir()).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
        fs::write(dir.path().join(file), content).unwrap();
        Checkpoint::load(dir.path(), Device::Cpu).unwrap_err().to_string()
    }

    #[test]
    fn every_fault_names_its_file() {
        for (file, content) in [
            ("config.json", "{}"),
            ("preprocessor_config.json", "no json"),
            ("tokenizer.json", "{}"),
            ("model.safetensors", "short"),
        ] {
            let told = fault(file, content.as_bytes());
            assert!(told.contains(file), "{told}");
        }
    }

    #[test]
    fn weights_of_another_element_type_are_named() {
        let numbers = 1i32.to_le_bytes();
        let view = safetensors::tensor::TensorView::new(Dtype::I32, vec![1], &numbers).unwrap();
        let told = fault("model.safetensors", &safetensors::serialize([("logit_scale", view)], None).unwrap());
        assert!(told.contains("logit_scale") && told.contains("I32"), "{told}");
    }

    #[test]
    fn a_class_name_that_outgrows_the_window_is_named() {
        let name = "very ".repeat(40) + "long";
        let classes = ["bolt".to_owned(), name.clone()];
        let told = fixture::checkpoint().prompts(fixture::TEMPLATE, &classes, 0).unwrap_err().to_string();
        assert!(told.contains(&name) && !told.contains("\"bolt\""), "{told}");
    }
}
