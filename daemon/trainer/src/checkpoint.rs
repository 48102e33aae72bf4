//! Loads a CLIP from its files onto a device. `coft-models` knows the layouts and the tensor names; this module copies
//! the tensors out of the mapped files one by one, and makes the tokeniser. Every error names the file, and a wrong
//! tensor with both shapes.

#[cfg(test)]
mod parity;
mod positions;
mod tokenizer;

use crate::clip::tensors::TensorError;
use crate::clip::{ClipConfig, Tensors, TextTower, VisionTower};
use coft_models::{Element, Model, TensorRef, Weights};
use coft_vision::Preprocess;
use std::path::{Path, PathBuf};
use std::thread;
use tch::{Device, Kind, Tensor};
use thiserror::Error;
use tokenizers::Tokenizer;

#[derive(Debug, Error)]
pub enum CheckpointError {
    #[error(transparent)]
    Model(#[from] coft_models::ModelError),
    #[error("{path}: {cause}")]
    Read { path: PathBuf, cause: std::io::Error },
    #[error("{path}: {fault}")]
    Config { path: PathBuf, fault: String },
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
    TooLong {
        class: String,
        /// Index of the class in label order, from 0.
        number: usize,
        template: String,
        tokens: usize,
        window: i64,
    },
}

/// The pretrained model on its device, frozen.
#[derive(Debug)]
pub struct Checkpoint {
    pub config: ClipConfig,
    pub tensors: Tensors,
    pub vision: VisionTower,
    pub text: TextTower,
    /// exp(logit_scale) = 1/τ.
    pub logit_scale: f64,
    pub preprocess: Preprocess,
    /// The preprocessing, as `preprocessor_config.json` states it.
    pub preprocessing: serde_json::Value,
    /// SHA-256 of the weights, hex.
    pub digest: String,
    pub device: Device,
    tokenizer: Tokenizer,
}

impl Checkpoint {
    pub fn load(dir: &Path, device: Device) -> Result<Self, CheckpointError> {
        Self::load_for(dir, device, None)
    }

    /// Like `load`, for images of another side in px, a multiple of the patch side. Position embeddings are
    /// interpolated.
    pub fn load_for(dir: &Path, device: Device, image_size: Option<u32>) -> Result<Self, CheckpointError> {
        let model = Model::open(dir)?;
        // The digest is computed while the tensors are copied: hashing reads the files from the disk, and copying takes
        // what is in memory already.
        let (mut tensors, digest, tokenizer) = thread::scope(|scope| {
            let digest = scope.spawn(|| model.digest());
            let tokenizer = scope.spawn(|| tokenizer::load(dir, model.config.text_config.vocab_size));
            let tensors = tensors(&model.weights, device);
            let no_panic = "neither hashing nor reading a tokeniser panics";
            (tensors, digest.join().expect(no_panic), tokenizer.join().expect(no_panic))
        });
        let tokenizer = tokenizer?;
        let path = model.weights.paths().into_iter().next().expect("a model has weights");
        let Model { mut config, mut preprocessing, .. } = model;
        let digest = digest.map_err(|cause| CheckpointError::Read { path: path.clone(), cause })?;
        let faulty = |cause| CheckpointError::Tensor { path: path.clone(), cause };
        if let Some(side) = image_size {
            let fault = |fault| CheckpointError::Config { path: dir.to_owned(), fault };
            positions::interpolate(&mut config, &mut tensors, i64::from(side)).map_err(fault)?;
            preprocessing = coft_vision::with_image_size(&preprocessing, side)?;
        }
        let preprocess = Preprocess::from_json(&preprocessing)?;
        if i64::from(preprocess.crop) != config.vision_config.image_size {
            let fault = format!(
                "crop_size is {}; the model reads images of {}",
                preprocess.crop, config.vision_config.image_size
            );
            return Err(CheckpointError::Config { path: dir.join(coft_vision::CONFIG_FILE), fault });
        }
        let vision = VisionTower::new(&config, &tensors).map_err(faulty)?.frozen();
        let text = TextTower::new(&config, &tensors).map_err(faulty)?.frozen();
        let logit_scale = tensors.get("logit_scale", &[]).map_err(faulty)?.double_value(&[]).exp();
        Ok(Self { config, tensors, vision, text, logit_scale, preprocess, preprocessing, digest, device, tokenizer })
    }

    /// Token ids of a text, with the start and end tokens.
    pub fn tokens(&self, text: &str) -> Vec<i64> {
        let encoding = self.tokenizer.encode(text, true).expect("a loaded tokeniser encodes any string");
        encoding.get_ids().iter().map(|&id| i64::from(id)).collect()
    }

    /// Token ids of each class name in the template. A prompt that is longer than the text window is an error.
    ///
    /// `extra` tokens are kept free for learnable context.
    pub fn prompts(&self, template: &str, classes: &[String], extra: usize) -> Result<Vec<Vec<i64>>, CheckpointError> {
        classes
            .iter()
            .enumerate()
            .map(|(number, class)| {
                let ids = self.tokens(&template.replace("{}", &class.replace('_', " ")));
                let tokens = ids.len() + extra;
                if tokens as i64 > self.text.window() {
                    let (class, template, window) = (class.clone(), template.to_owned(), self.text.window());
                    return Err(CheckpointError::TooLong { class, number, template, tokens, window });
                }
                Ok(ids)
            })
            .collect()
    }
}

/// Every tensor on the device in single precision, copied one at a time.
fn tensors(weights: &Weights, device: Device) -> Tensors {
    let mut tensors = Tensors::default();
    for (name, tensor_ref) in weights.iter() {
        tensors.insert(name, weights.with_bytes(tensor_ref, |bytes| tensor(tensor_ref, bytes, device)));
    }
    tensors
}

fn tensor(tensor_ref: &TensorRef, bytes: &[u8], device: Device) -> Tensor {
    let kind = match tensor_ref.element {
        Element::F32 => Kind::Float,
        Element::F16 => Kind::Half,
        Element::BF16 => Kind::BFloat16,
        Element::Other(_) => unreachable!("a model's tensors have been checked"),
    };
    let sizes = |sizes: &[usize]| sizes.iter().map(|&n| n as i64).collect::<Vec<_>>();
    let (shape, strides) = (sizes(&tensor_ref.shape), sizes(&tensor_ref.strides));
    // SAFETY: the view exists only within this function, during which the bytes stay borrowed. Nothing writes through
    // it, and the strides were checked to stay within the bytes. The copy on the device, of the right kind, does not
    // depend on them.
    let view = unsafe { Tensor::from_blob(bytes.as_ptr(), &shape, &strides, kind, Device::Cpu) };
    let copy = view.to_kind(Kind::Float).to_device(device).contiguous();
    let shared = copy.data_ptr() == view.data_ptr();
    if shared { copy.copy() } else { copy }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use half::{bf16, f16};
    use safetensors::tensor::TensorView;
    use safetensors::{Dtype, SafeTensors};
    use std::fs;

    /// Loads the embedded model with one of its files replaced.
    fn with(file: &str, content: &[u8]) -> Result<Checkpoint, CheckpointError> {
        let dir = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(fixture::model_dir()).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
        fs::write(dir.path().join(file), content).unwrap();
        Checkpoint::load(dir.path(), Device::Cpu)
    }

    fn fault(file: &str, content: &[u8]) -> String {
        with(file, content).unwrap_err().to_string()
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
        let view = TensorView::new(Dtype::I32, vec![1], &numbers).unwrap();
        let told = fault("model.safetensors", &safetensors::serialize([("logit_scale", view)], None).unwrap());
        assert!(told.contains("logit_scale") && told.contains("I32"), "{told}");
    }

    #[test]
    fn weights_are_read_in_every_element_type() {
        let stored = fs::read(fixture::model_dir().join("model.safetensors")).unwrap();
        let stored = SafeTensors::deserialize(&stored).unwrap().tensors();
        // The embedded weights are half-precision numbers. The factor moves each to a value between two of these, on
        // either side of the midpoint.
        let original = |bytes: &[u8]| f16::from_le_bytes([bytes[0], bytes[1]]).to_f32() * 1.0003;
        type Element = (Dtype, fn(f32) -> Vec<u8>, fn(f32) -> f32);
        let elements: [Element; 3] = [
            (Dtype::F32, |x| x.to_le_bytes().to_vec(), |x| x),
            (Dtype::F16, |x| f16::from_f32(x).to_le_bytes().to_vec(), |x| f16::from_f32(x).to_f32()),
            (Dtype::BF16, |x| bf16::from_f32(x).to_le_bytes().to_vec(), |x| bf16::from_f32(x).to_f32()),
        ];
        for (dtype, bytes, rounded) in elements {
            let (mut parts, mut expected) = (Vec::new(), Vec::new());
            let (mut moved, mut all) = (0, 0);
            for (name, view) in &stored {
                assert_eq!(view.dtype(), Dtype::F16, "{name}");
                let numbers: Vec<f32> = view.data().chunks(2).map(original).collect();
                moved += numbers.iter().filter(|&&x| rounded(x) != x).count();
                all += numbers.len();
                parts.push((name, view.shape(), numbers.iter().flat_map(|&x| bytes(x)).collect::<Vec<u8>>()));
                expected.push((name, view.shape(), numbers.into_iter().map(rounded).collect::<Vec<f32>>()));
            }
            assert!(dtype == Dtype::F32 && moved == 0 || dtype != Dtype::F32 && 2 * moved > all, "{dtype:?}: {moved}");
            let views =
                parts.iter().map(|(name, shape, bytes)| (name, TensorView::new(dtype, shape.to_vec(), bytes).unwrap()));
            let loaded = with("model.safetensors", &safetensors::serialize(views, None).unwrap()).unwrap();
            assert_eq!(loaded.tensors.names().count(), expected.len());
            for (name, shape, expected) in expected {
                let shape: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
                let tensor = loaded.tensors.get(name, &shape).unwrap();
                assert_eq!(tensor.kind(), Kind::Float, "{name}");
                let found = Vec::<f32>::try_from(tensor.reshape([-1])).unwrap();
                assert!(found == expected, "{dtype:?}: {name}");
            }
        }
    }

    #[test]
    fn a_class_name_that_outgrows_the_window_is_named() {
        let name = "very ".repeat(40) + "long";
        let classes = ["bolt".to_owned(), name.clone()];
        let told = fixture::checkpoint().prompts(fixture::TEMPLATE, &classes, 0).unwrap_err().to_string();
        assert!(told.contains(&name) && !told.contains("\"bolt\""), "{told}");
    }
}
