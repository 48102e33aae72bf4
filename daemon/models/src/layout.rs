//! Recognises which of the known layouts a directory has. Each layout has a file of its own with what is particular to
//! it.

mod hugging_face;
mod open_clip;
mod openai;

use crate::config::ClipConfig;
use crate::error::ModelError;
use crate::weights::{ShardIndex, Weights, WeightsError};
use coft_core::shown::shown_path;
use coft_vision::Preprocess;
use serde::Serialize;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeSet;
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
    /// Weights as OpenAI published them, and no configuration. The shapes of the tensors give the sizes.
    Openai,
}

/// The files of a model directory, recognised by their names. The weights have not been opened.
#[derive(Debug)]
pub struct ModelFiles {
    layout: Layout,
    dir: PathBuf,
    /// The file with the weights, or the index of its shards.
    weights: PathBuf,
}

/// Extensions of the files that PyTorch pickles. Besides weights, these are the states of optimisers and the like.
const PICKLED: [&str; 5] = ["bin", "pt", "pth", "ckpt", "pkl"];
/// Extension of PyTorch's archives that have no fixed name, as those of OpenAI and of training programs.
pub const ARCHIVE: &str = "pt";
const INDEX: &str = ".index.json";

/// Every file that describes a model; a directory has some of them.
pub const DESCRIPTIONS: [&str; 4] =
    [hugging_face::CONFIG, open_clip::CONFIG, coft_vision::CONFIG_FILE, hugging_face::PROCESSOR];

/// Whether a file of this name is one that PyTorch has pickled, or an index of such files.
pub fn is_pickle(name: &str) -> bool {
    let name = name.strip_suffix(INDEX).unwrap_or(name);
    PICKLED.iter().any(|extension| name.rsplit_once('.').is_some_and(|(_, found)| found == *extension))
}

/// File names that the weights may have, most preferred first, according to the description files in `dir`. Without a
/// description, or with OpenCLIP's, the weights may also be in a single archive with the extension [`ARCHIVE`].
pub fn weights_named_in(dir: &Path) -> Vec<&'static str> {
    named(&described(dir)).into_iter().map(|(_, name)| name).collect()
}

/// The names with their layouts: of all descriptions, safetensors before pickles. Names that OpenCLIP used earlier come
/// last, because beside `timm`'s description they belong to a model with one tower.
fn named(described: &[(Layout, Vec<&'static str>)]) -> Vec<(Layout, &'static str)> {
    let all = described.iter().flat_map(|(layout, names)| names.iter().map(|name| (*layout, *name)));
    let mut all: Vec<_> = all.collect();
    all.sort_by_key(|(layout, name)| {
        (*layout == Layout::OpenClip && open_clip::OLD_WEIGHTS.contains(name), is_pickle(name))
    });
    all
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

impl ModelFiles {
    /// Finds the weights of a directory. Where it has both safetensors and pickles, safetensors are taken.
    ///
    /// # Errors
    /// [`ModelError::Incomplete`] says what is missing, or that it is unclear which file has the weights.
    pub fn find(dir: &Path) -> Result<Self, ModelError> {
        let found = |layout, weights: PathBuf| Ok(Self { layout, dir: dir.to_owned(), weights });
        let lacks = |lacking: String| Err(ModelError::Incomplete { dir: dir.to_owned(), lacking });
        let known = described(dir);
        if let Some((layout, name)) = named(&known).into_iter().find(|(_, name)| dir.join(name).is_file()) {
            return found(layout, dir.join(name));
        }
        let converted = dir.join(openai::WEIGHTS);
        if known.is_empty() && converted.is_file() {
            return found(Layout::Openai, converted);
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
            (Some(_), more) => lacks(format!(
                "a way to tell which of its {} .pt files is meant; import one of them: coftctl model import {}",
                more + 1,
                shown_path(&dir.join("FILE.pt"))
            )),
            (None, _) if has_config => {
                lacks(format!("its weights: one of {}, or a single .pt file", open_clip::WEIGHTS.join(", ")))
            }
            (None, _) => lacks(format!("{} or {}, or a single .pt file", hugging_face::CONFIG, open_clip::CONFIG)),
        }
    }

    /// The model whose weights are in this file. The other files of its directory describe it.
    pub fn with_weights(file: &Path) -> Self {
        let dir = coft_fs::parent(file);
        let known = described(dir);
        let names = named(&known);
        let by_name = names.iter().find(|(_, name)| file.file_name().is_some_and(|found| found == *name));
        // Training programs of OpenCLIP use any file names.
        let by_description = || {
            known.iter().find(|(layout, _)| *layout == Layout::OpenClip).or(known.first()).map(|(layout, _)| *layout)
        };
        let layout = by_name.map(|(layout, _)| *layout).or_else(by_description).unwrap_or(Layout::Openai);
        Self { layout, dir: dir.to_owned(), weights: file.to_owned() }
    }

    /// How the files are arranged.
    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// The file with the weights, or the index of its shards.
    pub fn path(&self) -> &Path {
        &self.weights
    }

    /// Whether the weights are PyTorch pickles, which [`crate::Model::open`] refuses.
    pub fn is_pickled(&self) -> bool {
        let name = self.weights_name();
        !name.strip_suffix(INDEX).unwrap_or(&name).ends_with(".safetensors")
    }

    /// Name of the safetensors file that this layout has for weights in one file.
    pub fn converted_name(&self) -> &'static str {
        match self.layout {
            Layout::HuggingFace => hugging_face::WEIGHTS[0],
            Layout::OpenClip => open_clip::WEIGHTS[0],
            Layout::Openai => openai::WEIGHTS,
        }
    }

    /// The index of the shards, where the weights are in shards.
    pub fn index(&self) -> Option<&Path> {
        self.weights_name().ends_with(INDEX).then_some(&*self.weights)
    }

    /// The file with the weights, or the shards.
    ///
    /// # Errors
    /// The index of the shards cannot be read or used.
    pub fn weights(&self) -> Result<Vec<PathBuf>, WeightsError> {
        match self.index() {
            Some(index) => Ok(ShardIndex::read(index)?.shards()),
            None => Ok(vec![self.weights.clone()]),
        }
    }

    /// Names of the files with the weights, with the index of shards. If the weights are converted, the result takes
    /// their place.
    ///
    /// # Errors
    /// The index of the shards cannot be read.
    pub fn weight_file_names(&self) -> Result<BTreeSet<String>, WeightsError> {
        let paths = self.weights()?.into_iter().chain([self.weights.clone()]);
        let name = |path: PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(paths.map(name).collect())
    }

    pub(crate) fn weights_name(&self) -> Cow<'_, str> {
        self.weights.file_name().unwrap_or_default().to_string_lossy()
    }

    pub(crate) fn open(&self) -> Result<Weights, ModelError> {
        if self.is_pickled() {
            return Err(ModelError::Pickle { path: self.weights.clone(), dir: self.dir.clone() });
        }
        let weights = match self.index() {
            Some(index) => Weights::open_shards(index)?,
            None => Weights::open(&self.weights)?,
        };
        Ok(weights.without_prefixes())
    }

    /// Path of the file that states the sizes.
    pub(crate) fn stated_in(&self) -> PathBuf {
        match self.layout {
            Layout::HuggingFace => self.dir.join(hugging_face::CONFIG),
            Layout::OpenClip => self.dir.join(open_clip::CONFIG),
            Layout::Openai => self.weights.clone(),
        }
    }

    /// The model's sizes, and the name of the file that states them.
    pub(crate) fn config(&self, raw: &Weights) -> Result<(ClipConfig, &'static str), ModelError> {
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
    pub(crate) fn named(&self, raw: Weights) -> Result<Weights, ModelError> {
        let fault = |fault| ModelError::Config { path: self.weights.clone(), fault };
        match self.layout {
            Layout::HuggingFace => Ok(hugging_face::named(raw)),
            Layout::OpenClip | Layout::Openai => open_clip::named(raw).map_err(fault),
        }
    }

    /// The preprocessing in the form of `preprocessor_config.json`; an error if coft does not support it.
    pub(crate) fn preprocessing(&self, config: &ClipConfig) -> Result<Value, ModelError> {
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
