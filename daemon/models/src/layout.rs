//! Recognises which of the known layouts a directory has. Each layout has a file of its own with what is particular to
//! it.

mod hugging_face;
mod open_clip;
mod openai;

use crate::config::ClipConfig;
use crate::error::ModelError;
use crate::weights::Weights;
use coft_vision::Preprocess;
use serde::Serialize;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// How the files of a model directory are arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// `config.json` of a `CLIPModel` and its weights.
    HuggingFace,
    /// `open_clip_config.json` and the weights beside it.
    OpenClip,
    /// One `.pt` file, as OpenAI published them. The shapes of its tensors give the sizes.
    Openai,
}

/// The layout and files that were found in a directory.
#[derive(Debug)]
pub(crate) struct Found {
    pub layout: Layout,
    dir: PathBuf,
    /// The file with the weights, or the index of its shards.
    weights: PathBuf,
}

pub(crate) fn find(dir: &Path) -> Result<Found, ModelError> {
    let found = |layout, weights: PathBuf| Ok(Found { layout, dir: dir.to_owned(), weights });
    let lacks = |lacking: String| Err(ModelError::Incomplete { dir: dir.to_owned(), lacking });
    let known = described(dir);
    for (layout, names) in &known {
        if let Some(name) = names.iter().find(|name| dir.join(name).is_file()) {
            return found(*layout, dir.join(name));
        }
    }
    let has_config = known.iter().any(|(layout, _)| *layout == Layout::OpenClip);
    if !known.is_empty() && !has_config {
        return lacks(format!("{} (or {})", hugging_face::WEIGHTS[0], hugging_face::WEIGHTS[1..].join(", ")));
    }
    // OpenAI and training programs use any file names.
    let entries = fs::read_dir(dir).map_err(|source| ModelError::Read { path: dir.to_owned(), source })?;
    let mut archives: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == ARCHIVE))
        .collect();
    let layout = if has_config { Layout::OpenClip } else { Layout::Openai };
    match (archives.pop(), archives.len()) {
        (Some(weights), 0) => found(layout, weights),
        (Some(_), more) => lacks(format!("a way to tell which of its {} .pt files is meant; leave one", more + 1)),
        (None, _) if has_config => {
            lacks(format!("its weights: one of {}, or a single .pt file", open_clip::WEIGHTS.join(", ")))
        }
        (None, _) => lacks(format!("{} or {}, or a single .pt file", hugging_face::CONFIG, open_clip::CONFIG)),
    }
}

/// Extension of PyTorch's archives, which have no fixed name.
pub const ARCHIVE: &str = "pt";

/// Every file that describes a model; a directory has some of them.
pub const DESCRIPTIONS: [&str; 4] =
    [hugging_face::CONFIG, open_clip::CONFIG, coft_vision::CONFIG_FILE, hugging_face::PROCESSOR];

/// File names that the weights may have, most preferred first, according to the description files in `dir`. Without a
/// description, or with OpenCLIP's, the weights may also be in a single archive with the extension [`ARCHIVE`].
pub fn weights_named_in(dir: &Path) -> Vec<&'static str> {
    described(dir).into_iter().flat_map(|(_, names)| names).collect()
}

/// The layouts that the description files of a directory state, with the names of their weights.
///
/// A directory may have descriptions of both a `CLIPModel` and OpenCLIP. They then describe the same model, and the
/// first is used. But `timm` also names its description `config.json`, and its models have only one tower.
fn described(dir: &Path) -> Vec<(Layout, Vec<&'static str>)> {
    let (config, has_open_clip) = (dir.join(hugging_face::CONFIG), dir.join(open_clip::CONFIG).is_file());
    let mut known = Vec::new();
    // If this is the only description, its errors are reported when it is read.
    let ours =
        config.is_file() && (!has_open_clip || json(&config).is_ok_and(|stated: Value| hugging_face::is_clip(&stated)));
    if ours {
        known.push((Layout::HuggingFace, hugging_face::WEIGHTS.to_vec()));
    }
    if has_open_clip {
        let old: &[&str] = if ours { &[] } else { &open_clip::OLD_WEIGHTS };
        known.push((Layout::OpenClip, [&open_clip::WEIGHTS, old].concat()));
    }
    known
}

impl Found {
    pub fn weights(&self) -> Result<Weights, ModelError> {
        let shards = self.weights.extension().is_some_and(|extension| extension == "json");
        let weights = if shards { Weights::open_shards(&self.weights)? } else { Weights::open(&self.weights)? };
        Ok(weights.without_prefixes())
    }

    /// Path of the file that states the sizes.
    pub fn stated_in(&self) -> PathBuf {
        match self.layout {
            Layout::HuggingFace => self.dir.join(hugging_face::CONFIG),
            Layout::OpenClip => self.dir.join(open_clip::CONFIG),
            Layout::Openai => self.weights.clone(),
        }
    }

    /// The model's sizes, and the name of the file that states them.
    pub fn config(&self, raw: &Weights) -> Result<(ClipConfig, &'static str), ModelError> {
        match self.layout {
            Layout::HuggingFace => Ok((self.stated(hugging_face::config)?, hugging_face::CONFIG)),
            Layout::OpenClip => Ok((self.stated(open_clip::config)?, open_clip::CONFIG)),
            Layout::Openai => {
                let fault = |fault| ModelError::Config { path: self.stated_in(), fault };
                Ok((openai::config(raw).map_err(fault)?, "the other tensors"))
            }
        }
    }

    /// Renames the tensors to the names of a `CLIPModel`.
    pub fn named(&self, raw: Weights) -> Result<Weights, ModelError> {
        let fault = |fault| ModelError::Config { path: self.weights.clone(), fault };
        match self.layout {
            Layout::HuggingFace => Ok(hugging_face::named(raw)),
            Layout::OpenClip | Layout::Openai => open_clip::named(raw).map_err(fault),
        }
    }

    /// The preprocessing in the form of `preprocessor_config.json`; an error if coft does not support it.
    pub fn preprocessing(&self, config: &ClipConfig) -> Result<Value, ModelError> {
        let (stated, path) = match self.layout {
            Layout::HuggingFace => hugging_face::preprocessing(&self.dir)?,
            Layout::OpenClip => (self.stated(|stated| open_clip::preprocessing(stated, config))?, self.stated_in()),
            Layout::Openai => (open_clip::published(config), self.stated_in()),
        };
        Preprocess::from_file(&stated, &path)?;
        Ok(stated)
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
