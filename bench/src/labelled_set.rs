//! A labelled set on disk: `<split>/<class folder>/*`, `labels.csv`, `classes.json`, `names.json`, `prompts.json`.

use anyhow::{Context, ensure};
use serde::Deserialize;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

#[derive(Debug)]
pub struct LabelledSet {
    pub name: String,
    /// Class names in label order.
    pub classes: Vec<String>,
    pub template: String,
    pub adapt: Vec<Labelled>,
    pub test: Vec<Labelled>,
    /// Directory of an unpacked archive.
    _unpacked: Option<TempDir>,
}

#[derive(Clone, Debug)]
pub struct Labelled {
    pub path: PathBuf,
    /// Position in [`LabelledSet::classes`].
    pub label: usize,
    /// 0 for the picture itself, other numbers for pictures that look nearly the same.
    pub copy: u32,
}

#[derive(Deserialize)]
struct Row {
    path: PathBuf,
    split: String,
    class: String,
}

#[derive(Default, Deserialize)]
struct Prompts {
    eval_template: Option<String>,
}

impl LabelledSet {
    /// Reads a set from its directory or from a `.tar.gz` of it; `only` keeps those class folders.
    pub fn read(path: &Path, only: &[String]) -> anyhow::Result<Self> {
        if !path.is_file() {
            return Self::from_dir(path, only, None);
        }
        let dir = TempDir::with_prefix("coft-set-")?;
        let archive = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        tar::Archive::new(flate2::read::GzDecoder::new(archive))
            .unpack(dir.path())
            .with_context(|| format!("unpacking {}", path.display()))?;
        let inner = fs::read_dir(dir.path())?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.join("labels.csv").is_file())
            .with_context(|| format!("{} holds no set", path.display()))?;
        Self::from_dir(&inner, only, Some(dir))
    }

    fn from_dir(dir: &Path, only: &[String], unpacked: Option<TempDir>) -> anyhow::Result<Self> {
        let folders: Vec<String> = json(&dir.join("classes.json"))?;
        let names: Vec<String> = json(&dir.join("names.json"))?;
        ensure!(folders.len() == names.len(), "{}: classes.json and names.json differ in length", dir.display());
        for folder in only {
            ensure!(folders.contains(folder), "{} has no class folder {folder:?}", dir.display());
        }
        let kept: Vec<(String, String)> =
            folders.into_iter().zip(names).filter(|(folder, _)| only.is_empty() || only.contains(folder)).collect();
        let prompts = dir.join("prompts.json");
        let prompts: Prompts = if prompts.is_file() { json(&prompts)? } else { Prompts::default() };
        let (mut adapt, mut test) = (Vec::new(), Vec::new());
        let labels = dir.join("labels.csv");
        let mut reader = csv::Reader::from_path(&labels).with_context(|| format!("reading {}", labels.display()))?;
        for row in reader.deserialize() {
            let row: Row = row.with_context(|| format!("reading {}", labels.display()))?;
            let Some(label) = kept.iter().position(|(folder, _)| *folder == row.class) else { continue };
            let image = Labelled { path: dir.join(&row.path), label, copy: 0 };
            match row.split.as_str() {
                "adapt" => adapt.push(image),
                "test" => test.push(image),
                _ => {} // these have labels in pretraining: never used
            }
        }
        ensure!(!adapt.is_empty() && !test.is_empty(), "{}: no adapt or no test images", labels.display());
        Ok(Self {
            name: dir.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            classes: kept.into_iter().map(|(_, name)| name).collect(),
            template: prompts.eval_template.unwrap_or_else(|| "a photo of a {}.".to_owned()),
            adapt,
            test,
            _unpacked: unpacked,
        })
    }

    /// Keeps only the classes at these positions, in this order.
    pub fn keep_classes(&mut self, kept: &[usize]) {
        self.classes = kept.iter().map(|&class| self.classes[class].clone()).collect();
        for images in [&mut self.adapt, &mut self.test] {
            images.retain_mut(|image| match kept.iter().position(|&class| class == image.label) {
                Some(place) => {
                    image.label = place;
                    true
                }
                None => false,
            });
        }
    }
}

fn json<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("reading {}", path.display()))
}
