//! Turns `[classifier]` into a base: the base model's directory, the class names and the prompt.
//!
//! If no model is configured, the demo model that is built into the program is unpacked. A model that is configured by
//! name is looked up in the store. The trainer knows what a model computes; this module uses only its files, its
//! preprocessing and its digest.

mod demo;
mod errors;
mod lists;

pub use errors::{ModelError, SetupError};
pub use lists::{edited, read_labels};

use coft_core::disk::RoundSizes;
use coft_core::shares::Shares;
use coft_core::spec::Template;
use coft_models::Model;
use coft_models::store::Store;
use coft_vision::Preprocess;
use demo::{DEMO, unpack};
use errors::of;
use lists::{label_file, read_templates};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// `[classifier]` of the configuration.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Name of the classifier on the bus: 1 to 64 letters, digits and `_`.
    pub name: String,
    /// File of class names, one per line; if absent, the classes of the model itself, as of the demo model.
    pub labels: Option<PathBuf>,
    /// Prompt of the zero-shot labels; `{}` stands for the class name.
    pub template: String,
    /// File of prompts, one per line, whose text features are averaged for the zero-shot labels; if absent, `template`
    /// alone.
    pub templates: Option<PathBuf>,
    /// How often the user expects each class, 0 to 1; classes that are not named share the rest evenly. Empty if
    /// unknown.
    pub shares: BTreeMap<String, f64>,
    /// CSV file with the user's own labels for some of the images; see [`crate::user_labels`].
    pub given_labels: Option<PathBuf>,
    /// Probability from which a class is decided for, by class name, above 0 and below 1; see
    /// [`coft_core::decision::Thresholds`].
    pub thresholds: BTreeMap<String, f64>,
    /// Directory of a CLIP model, or its name or digest in the store; if absent, the demo model.
    pub model: Option<PathBuf>,
    /// Side of the images that the model reads, px, a multiple of the model's patch size; if absent, the model's own
    /// size.
    pub image_size: Option<u32>,
    /// Directory, name or digest of a CLIP model that is fine-tuned and served in place of `model`, usually a smaller
    /// one. `model` then labels and filters (distillation).
    pub student: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: "default".into(),
            labels: None,
            template: "a photo of a {}.".into(),
            templates: None,
            shares: BTreeMap::new(),
            given_labels: None,
            thresholds: BTreeMap::new(),
            model: None,
            image_size: None,
            student: None,
        }
    }
}

/// All that a classifier is made from.
#[derive(Clone, Debug)]
pub struct Base {
    pub dir: PathBuf,
    /// SHA-256 of the weights, hex.
    pub digest: String,
    /// Sizes that determine how much disk space a round takes, apart from the number of images.
    pub sizes: RoundSizes,
    pub preprocess: Preprocess,
    /// The configured size; `preprocess` already uses it.
    pub image_size: Option<u32>,
    pub classes: Vec<String>,
    /// Line of each class in the label file.
    pub class_lines: Vec<usize>,
    /// How often each class is expected, where the user has set it.
    pub shares: Option<Shares>,
    pub template: String,
    pub templates: Vec<Template>,
    pub student: Option<Student>,
}

/// The CLIP model that is fine-tuned and served in the base model's place.
#[derive(Clone, Debug)]
pub struct Student {
    pub dir: PathBuf,
    pub preprocess: Preprocess,
    sizes: RoundSizes,
}

impl Base {
    /// The preprocessing of the served model; the pool is kept with that of the base model.
    pub fn served(&self) -> &Preprocess {
        self.student.as_ref().map_or(&self.preprocess, |student| &student.preprocess)
    }

    /// The same base with its classes in the order of `classes`, which must contain the same names.
    pub fn ordered(mut self, settings: &Settings, classes: &[String]) -> Self {
        let place = |class: &String| classes.iter().position(|other| other == class);
        let mut lines: Vec<(String, usize)> = self.classes.into_iter().zip(self.class_lines).collect();
        lines.sort_by_key(|(class, _)| place(class));
        (self.classes, self.class_lines) = lines.into_iter().unzip();
        // The shares were valid for the same classes in another order.
        self.shares = self.shares.and_then(|_| Shares::new(&settings.shares, &self.classes).ok());
        self
    }
}

const MODEL: &str = "classifier.model";

/// Finds or unpacks the base model and reads the class names. `models` is the service's store of models.
///
/// # Errors
/// A file that a setting names is missing, cannot be read, or has the wrong content. The weights are read last, when
/// everything else is correct.
pub fn prepare(settings: &Settings, models: &Path) -> Result<Base, SetupError> {
    let dir = match &settings.model {
        Some(model) => located(model, models).map_err(of(MODEL))?,
        None => {
            let dir = models.join("demo");
            unpack(&DEMO, &dir).map_err(|source| of("state-dir")(ModelError::Unpack { dir: dir.clone(), source }))?;
            dir
        }
    };
    let (model, base) = described(settings, dir, models)?;
    Ok(Base { digest: digest(&model)?, ..base })
}

/// The class names, if they can be read, and all mistakes in what the settings name. If `thorough`, the weights are
/// read as well. Writes nothing into `models`.
pub fn look_over(settings: &Settings, models: &Path, thorough: bool) -> (Option<Vec<String>>, Vec<SetupError>) {
    let mut found = Vec::new();
    let labels = settings.labels.as_deref().map(|path| read_labels(path).map_err(of("classifier.labels")));
    let mut classes = match labels {
        Some(Ok(lines)) => Some(lines.into_iter().map(|(_, class)| class).collect()),
        Some(Err(error)) => {
            found.push(error);
            None
        }
        None => None,
    };
    found.extend(
        settings.templates.as_deref().and_then(|path| read_templates(path).map_err(of("classifier.templates")).err()),
    );
    let mut model = || -> Result<(), SetupError> {
        let scratch = tempfile::tempdir();
        let dir = match &settings.model {
            Some(model) => located(model, models).map_err(of(MODEL))?,
            None => {
                let dir = scratch.as_ref().map_or_else(|_| models.join("demo"), |scratch| scratch.path().join("demo"));
                unpack(&DEMO, &dir).map_err(|source| of(MODEL)(ModelError::Unpack { dir: dir.clone(), source }))?;
                dir
            }
        };
        // The other settings cannot be checked without the lists.
        if !found.is_empty() {
            return Model::open(&dir).map(drop).map_err(of(MODEL));
        }
        let (model, base) = described(settings, dir, models)?;
        classes = Some(base.classes);
        if thorough { digest(&model).map(drop) } else { Ok(()) }
    };
    let fault = model().err();
    found.extend(fault);
    (classes, found)
}

fn digest(model: &Model) -> Result<String, SetupError> {
    let read = |source| of(MODEL)(ModelError::ReadWeights { path: model.dir.clone(), source });
    model.digest().map_err(read)
}

/// The base of a model's directory, without the digest of its weights.
fn described(settings: &Settings, dir: PathBuf, models: &Path) -> Result<(Model, Base), SetupError> {
    let model = Model::open(&dir).map_err(of(MODEL))?;
    let labels = label_file(settings, &dir).map_err(of(MODEL))?;
    let (class_lines, classes): (_, Vec<String>) =
        read_labels(&labels).map_err(of("classifier.labels"))?.into_iter().unzip();
    check_thresholds(settings, &classes)?;
    let templates =
        settings.templates.as_deref().map(read_templates).transpose().map_err(of("classifier.templates"))?;
    let preprocess = match settings.image_size {
        Some(side) => resized(&model, side).map_err(of("classifier.image-size"))?,
        None => Preprocess::from_json(&model.preprocessing).map_err(of(MODEL))?,
    };
    let student = settings.student.as_deref().map(|student| open_student(student, models, &preprocess)).transpose();
    let student = student.map_err(of("classifier.student"))?;
    let own = sizes(&model, &preprocess);
    let trained = student.as_ref().map_or(own, |student: &Student| student.sizes);
    let sizes = RoundSizes { text_width: own.text_width, classes: classes.len() as u64, ..trained };
    let shares = match settings.shares.is_empty() {
        true => None,
        false => Some(Shares::new(&settings.shares, &classes).map_err(of("classifier.shares"))?),
    };
    let (image_size, template) = (settings.image_size, settings.template.clone());
    let (templates, digest) = (templates.unwrap_or_default(), String::new());
    let base =
        Base { dir, digest, sizes, preprocess, image_size, classes, class_lines, shares, template, templates, student };
    Ok((model, base))
}

/// Checks that every threshold belongs to a class.
///
/// # Errors
/// Names the first threshold whose class does not exist.
pub fn check_thresholds(settings: &Settings, classes: &[String]) -> Result<(), SetupError> {
    match settings.thresholds.keys().find(|class| !classes.contains(class)) {
        Some(class) => Err(of("classifier.thresholds")(ModelError::Threshold { class: class.clone() })),
        None => Ok(()),
    }
}

/// Opens a student, which must not read larger images than those kept for the base model.
fn open_student(student: &Path, models: &Path, kept: &Preprocess) -> Result<Student, ModelError> {
    let dir = located(student, models)?;
    let model = Model::open(&dir)?;
    let preprocess = Preprocess::from_json(&model.preprocessing)?;
    match (preprocess.shortest_edge, kept.shortest_edge) {
        (asked, kept) if asked > kept => Err(ModelError::StudentSize { dir, asked, kept }),
        _ => Ok(Student { dir, sizes: sizes(&model, &preprocess), preprocess }),
    }
}

/// Sizes that determine the disk space of a round that trains this model; the caller sets the numbers of images and
/// classes.
fn sizes(model: &Model, preprocess: &Preprocess) -> RoundSizes {
    let number = |stated: i64| u64::try_from(stated).unwrap_or(0);
    let (config, vision) = (&model.config, &model.config.vision_config);
    RoundSizes {
        encoder_values: model.encoder_parameters(),
        width: number(vision.hidden_size),
        embedding: number(config.projection_dim),
        blocks: number(vision.num_hidden_layers),
        text_width: number(config.text_config.hidden_size),
        image_side: u64::from(preprocess.crop),
        images: 0,
        classes: 0,
    }
}

/// The directory of a model that is given by name or by directory.
fn located(model: &Path, models: &Path) -> Result<PathBuf, ModelError> {
    match model.is_relative() {
        true => {
            let entry = Store::at(models).find(&model.to_string_lossy())?;
            entry.check_format().map_err(ModelError::Earlier)?;
            Ok(entry.dir)
        }
        false => Ok(model.to_owned()),
    }
}

/// The model's preprocessing for images of another size.
fn resized(model: &Model, side: u32) -> Result<Preprocess, ModelError> {
    let patch = model.config.vision_config.patch_size;
    if side == 0 || i64::from(side) % patch != 0 {
        return Err(ModelError::ImageSize { side, patch });
    }
    Ok(Preprocess::from_json(&coft_vision::with_image_size(&model.preprocessing, side)?)?)
}

#[cfg(test)]
mod tests;
