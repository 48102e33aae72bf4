//! A model directory that has been recognised: its sizes, its preprocessing, and its tensors by the names of a
//! `CLIPModel`.

use crate::config::ClipConfig;
use crate::error::ModelError;
use crate::layout::{Layout, ModelFiles};
use crate::shape;
use crate::tokenizer::TokenizerFiles;
use crate::weights::Weights;
use coft_vision::Preprocess;
use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};

/// A model directory whose weights are mapped and whose tensors have the right shapes.
#[derive(Debug)]
pub struct Model {
    /// The directory.
    pub dir: PathBuf,
    /// How its files are arranged.
    pub layout: Layout,
    /// Its sizes.
    pub config: ClipConfig,
    /// The preprocessing in the form of `preprocessor_config.json`.
    pub preprocessing: Value,
    /// Tensors by the names of Hugging Face's `CLIPModel`; others are left out.
    pub weights: Weights,
}

impl Model {
    /// Recognises the layout of a directory, maps its weights and checks every tensor's shape. Reads headers only.
    ///
    /// # Errors
    /// Names the file, and what is missing, unreadable or wrong; [`ModelError`] has every case.
    pub fn open(dir: &Path) -> Result<Self, ModelError> {
        let found = ModelFiles::find(dir)?;
        let raw = found.open()?;
        let (config, source) = found.config(&raw)?;
        config.validate().map_err(|fault| ModelError::Config { path: found.stated_in(), fault })?;
        let at = raw.paths().pop().expect("a layout has weights");
        let weights = found.named(raw)?;
        shape::check(&weights, &config, source).map_err(|source| ModelError::Shape { path: at, source })?;
        let preprocessing = found.preprocessing(&config)?;
        Ok(Self { dir: dir.to_owned(), layout: found.layout(), config, preprocessing, weights })
    }

    /// Checks that texts and images can be prepared for the model: the files of its tokeniser match each other and its
    /// vocabulary, and its preprocessing gives images of the size that it reads.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn check(&self) -> Result<(), ModelError> {
        TokenizerFiles::find(&self.dir)?.check(self.config.text_config.vocab_size)?;
        let (prepared, read) = (Preprocess::from_json(&self.preprocessing)?.crop, self.config.vision_config.image_size);
        if i64::from(prepared) != read {
            let fault = format!("images are prepared to {prepared} px, and the model reads {read} px");
            return Err(ModelError::Config { path: self.dir.clone(), fault });
        }
        Ok(())
    }

    /// Size of the weight files, bytes.
    ///
    /// # Errors
    /// A file does not exist any more, or its size cannot be read.
    pub fn bytes(&self) -> io::Result<u64> {
        self.weights.paths().iter().map(|path| Ok(std::fs::metadata(path)?.len())).sum()
    }

    /// Number of elements in all tensors.
    pub fn parameters(&self) -> u64 {
        self.values(|_| true)
    }

    /// Number of elements in the image encoder without its projection: what full fine-tuning trains.
    pub fn encoder_parameters(&self) -> u64 {
        self.values(|name| name.starts_with("vision_model."))
    }

    fn values(&self, which: impl Fn(&str) -> bool) -> u64 {
        let tensors = self.weights.iter().filter(|(name, _)| which(name));
        tensors.map(|(_, tensor_ref)| tensor_ref.shape.iter().map(|&n| n as u64).product::<u64>()).sum()
    }
}

#[cfg(test)]
mod tests;
