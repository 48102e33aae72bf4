//! Which of the known layouts a directory has. What they differ in is one file each.

mod hugging_face;
mod open_clip;
mod openai;

use crate::config::ClipConfig;
use crate::model::ModelError;
use crate::weights::Weights;
use serde::Serialize;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// `config.json` of a `CLIPModel` and its weights.
    HuggingFace,
    /// `open_clip_config.json` and the weights beside it.
    OpenClip,
    /// One `.pt` file, as OpenAI published them; sizes are those of its tensors.
    Openai,
}

/// What a directory turned out to be.
#[derive(Debug)]
pub(crate) struct Found {
    pub layout: Layout,
    dir: PathBuf,
    /// The file with the weights, or the index of its shards.
    weights: PathBuf,
}

pub(crate) fn find(dir: &Path) -> Result<Found, ModelError> {
    let has = |name: &&str| dir.join(name).is_file();
    let found = |layout, weights: PathBuf| Ok(Found { layout, dir: dir.to_owned(), weights });
    let lacks = |lacking: String| Err(ModelError::Incomplete { dir: dir.to_owned(), lacking });
    let hugging_face = dir.join(hugging_face::CONFIG).is_file();
    if hugging_face && let Some(weights) = hugging_face::WEIGHTS.iter().find(|name| has(name)) {
        return found(Layout::HuggingFace, dir.join(weights));
    }
    if dir.join(open_clip::CONFIG).is_file() {
        return match open_clip::WEIGHTS.iter().find(|name| has(name)) {
            Some(weights) => found(Layout::OpenClip, dir.join(weights)),
            None => lacks(format!("its weights: one of {}", open_clip::WEIGHTS.join(", "))),
        };
    }
    if hugging_face {
        return lacks(format!("{} (or {})", hugging_face::WEIGHTS[0], hugging_face::WEIGHTS[1..].join(", ")));
    }
    let entries = fs::read_dir(dir).map_err(|source| ModelError::Read { path: dir.to_owned(), source })?;
    let mut archives: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "pt"))
        .collect();
    match (archives.pop(), archives.len()) {
        (Some(weights), 0) => found(Layout::Openai, weights),
        (Some(_), more) => lacks(format!("a way to tell which of its {} .pt files is meant; leave one", more + 1)),
        (None, _) => lacks(format!("{} or {}, or a single .pt file", hugging_face::CONFIG, open_clip::CONFIG)),
    }
}

impl Found {
    pub fn weights(&self) -> Result<Weights, ModelError> {
        let shards = self.weights.extension().is_some_and(|extension| extension == "json");
        Ok(if shards { Weights::open_shards(&self.weights)? } else { Weights::open(&self.weights)? })
    }

    /// The file that states the sizes.
    pub fn stated_in(&self) -> PathBuf {
        match self.layout {
            Layout::HuggingFace => self.dir.join(hugging_face::CONFIG),
            Layout::OpenClip => self.dir.join(open_clip::CONFIG),
            Layout::Openai => self.weights.clone(),
        }
    }

    /// The model's sizes, and what states them.
    pub fn config(&self, raw: &Weights) -> Result<(ClipConfig, &'static str), ModelError> {
        match self.layout {
            Layout::HuggingFace => Ok((json(&self.stated_in())?, hugging_face::CONFIG)),
            Layout::OpenClip => Ok((self.stated(open_clip::config)?, open_clip::CONFIG)),
            Layout::Openai => {
                let fault = |fault| ModelError::Config { path: self.stated_in(), fault };
                Ok((openai::config(raw).map_err(fault)?, "the other tensors"))
            }
        }
    }

    /// The tensors under the names of a `CLIPModel`.
    pub fn named(&self, raw: Weights) -> Result<Weights, ModelError> {
        let fault = |fault| ModelError::Config { path: self.weights.clone(), fault };
        match self.layout {
            Layout::HuggingFace => Ok(hugging_face::named(raw)),
            Layout::OpenClip | Layout::Openai => open_clip::named(raw).map_err(fault),
        }
    }

    pub fn preprocessing(&self, config: &ClipConfig) -> Result<Value, ModelError> {
        match self.layout {
            Layout::HuggingFace => json(&self.dir.join(coft_vision::CONFIG_FILE)),
            Layout::OpenClip => self.stated(|stated| open_clip::preprocessing(stated, config)),
            Layout::Openai => Ok(open_clip::published(config)),
        }
    }

    fn stated<T>(&self, read: impl FnOnce(&Value) -> Result<T, String>) -> Result<T, ModelError> {
        let path = self.stated_in();
        read(&json(&path)?).map_err(|fault| ModelError::Config { path, fault })
    }
}

fn json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ModelError> {
    let text = fs::read(path).map_err(|source| ModelError::Read { path: path.to_owned(), source })?;
    serde_json::from_slice(&text).map_err(|source| ModelError::Json { path: path.to_owned(), source })
}
