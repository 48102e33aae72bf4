//! Turns `[classifier]` into a base: the base model's directory, the class names and the prompt.
//!
//! If no model is configured, the demo model that is built into the program is unpacked. A model that is configured by
//! name is looked up in the store. The trainer knows what a model computes; this module uses only its files, its
//! preprocessing and its digest.

use coft_core::disk::RoundSizes;
use coft_core::labels::{self, LabelsError};
use coft_core::shares::{Shares, SharesError};
use coft_core::shown::{shown, shown_path};
use coft_core::spec::Template;
use coft_core::templates::{self, TemplatesError};
use coft_models::Model;
use coft_models::store::Store;
use coft_vision::Preprocess;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

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

/// The reason why something that a setting names cannot be used.
#[derive(Debug, Error)]
#[error("{setting}: {cause}")]
pub struct SetupError {
    setting: &'static str,
    cause: Box<ModelError>,
}

impl SetupError {
    pub fn setting(&self) -> &'static str {
        self.setting
    }

    pub fn cause(&self) -> &ModelError {
        &self.cause
    }

    /// Whether only a change of the configuration can solve it. All other errors may be solved by files that appear or
    /// change: a disk that is mounted late, a copy that is not finished, a list that somebody corrects.
    pub fn is_configuration(&self) -> bool {
        matches!(
            *self.cause,
            ModelError::ImageSize { .. }
                | ModelError::StudentSize { .. }
                | ModelError::Shares(SharesError::Range { .. } | SharesError::NothingLeft { .. })
        )
    }
}

/// Adds the name of a setting to an error.
fn of<E: Into<ModelError>>(setting: &'static str) -> impl FnOnce(E) -> SetupError {
    move |cause| SetupError { setting, cause: Box::new(cause.into()) }
}

#[derive(Debug, Error)]
pub enum ModelError {
    #[error("the label file {} cannot be read: {source}", shown_path(path))]
    ReadLabels { path: PathBuf, source: io::Error },
    #[error("the label file {}: {source}", shown_path(path))]
    Labels { path: PathBuf, source: LabelsError },
    #[error("the template file {} cannot be read: {source}", shown_path(path))]
    ReadTemplates { path: PathBuf, source: io::Error },
    #[error("the template file {}: {source}", shown_path(path))]
    Templates { path: PathBuf, source: TemplatesError },
    #[error("{} has no class names; set classifier.labels to a file with one class name a line", shown_path(dir))]
    NoLabels { dir: PathBuf },
    #[error("there is no class \"{}\"; it has to be named as in the label file", shown(class.as_bytes()))]
    Threshold { class: String },
    #[error("{0}")]
    Model(#[from] coft_models::ModelError),
    #[error("{0}")]
    Shares(#[from] SharesError),
    #[error("{0}; coftctl model list shows what there is")]
    Store(#[from] coft_models::store::StoreError),
    #[error("{0}")]
    Earlier(coft_models::store::StoreError),
    #[error("{side} is not a multiple of the model's patch size {patch}")]
    ImageSize { side: u32, patch: i64 },
    #[error("the model's weights {} cannot be read: {source}", shown_path(path))]
    ReadWeights { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Preprocess(#[from] coft_vision::PreprocessError),
    #[error(
        "the student {} reads images of {asked} px and classifier.model keeps them at {kept} px; choose a student that reads \
         {kept} px or less",
        shown_path(dir)
    )]
    StudentSize { dir: PathBuf, asked: u32, kept: u32 },
    #[error("the demo model cannot be unpacked to {}: {source}", shown_path(dir))]
    Unpack { dir: PathBuf, source: io::Error },
}

const LABELS: &str = "labels.txt";

macro_rules! demo_files {
    ($($name:literal),*) => {
        [$(($name, include_bytes!(concat!("../assets/demo-model/", $name)).as_slice())),*]
    };
}
/// The model that is built into the program.
const DEMO: [(&str, &[u8]); 5] =
    demo_files!["config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json", "labels.txt"];

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

/// The settings whose class or prompt files have changed since the base was made from them, with these files. A file
/// that cannot be read is left out: the service continues with the content that it has read.
pub fn edited(settings: &Settings, base: &Base) -> Vec<(&'static str, PathBuf)> {
    let labels = label_file(settings, &base.dir).ok().and_then(|path| {
        let same = match read_labels(&path) {
            // Only the set of names is compared: the order is that of the generations.
            Ok(lines) => {
                let read: BTreeSet<String> = lines.into_iter().map(|(_, class)| class).collect();
                read == base.classes.iter().cloned().collect()
            }
            Err(error) => error.is_unread(),
        };
        (!same).then_some(("classifier.labels", path))
    });
    let templates = settings.templates.as_ref().and_then(|path| {
        let same = match read_templates(path) {
            Ok(templates) => templates.iter().map(|t| &t.text).eq(base.templates.iter().map(|t| &t.text)),
            Err(error) => error.is_unread(),
        };
        (!same).then(|| ("classifier.templates", path.clone()))
    });
    labels.into_iter().chain(templates).collect()
}

impl ModelError {
    /// Whether the file was missing or could not be read.
    fn is_unread(&self) -> bool {
        matches!(self, ModelError::ReadLabels { .. } | ModelError::ReadTemplates { .. })
    }
}

/// The file of class names: the configured one, or the model's own.
fn label_file(settings: &Settings, dir: &Path) -> Result<PathBuf, ModelError> {
    match &settings.labels {
        Some(path) => Ok(path.clone()),
        None => {
            let own = dir.join(LABELS);
            if own.is_file() { Ok(own) } else { Err(ModelError::NoLabels { dir: dir.to_owned() }) }
        }
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

/// The class names of a label file, each with its line number.
pub fn read_labels(path: &Path) -> Result<Vec<(usize, String)>, ModelError> {
    let content = read_list(path).map_err(|source| ModelError::ReadLabels { path: path.to_owned(), source })?;
    labels::parse(&content).map_err(|source| ModelError::Labels { path: path.to_owned(), source })
}

fn read_templates(path: &Path) -> Result<Vec<Template>, ModelError> {
    let content = read_list(path).map_err(|source| ModelError::ReadTemplates { path: path.to_owned(), source })?;
    templates::parse(&content).map_err(|source| ModelError::Templates { path: path.to_owned(), source })
}

/// Reads a class or prompt file. Only regular files are read, because reading a pipe would wait for a writer.
fn read_list(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    fs::read(path)
}

/// Writes the files into `dir`, all or none. A directory that already has exactly this content is left as it is.
fn unpack(files: &[(&str, &[u8])], dir: &Path) -> io::Result<()> {
    let same = |(name, content): &(&str, &[u8])| fs::read(dir.join(name)).is_ok_and(|found| found == *content);
    if files.iter().all(same) {
        return Ok(());
    }
    fs::create_dir_all(coft_fs::parent(dir))?;
    coft_fs::replace_dir(dir, |new| {
        files.iter().try_for_each(|(name, content)| coft_fs::write_synced(&new.join(name), content))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [(&str, &[u8]); 2] = [("a", b"1"), ("b", b"2")];

    #[test]
    fn a_model_is_unpacked_once_and_again_when_it_differs() {
        let state = tempfile::tempdir().unwrap();
        let dir = state.path().join("models/demo");
        unpack(&FILES, &dir).unwrap();
        let first = fs::metadata(dir.join("a")).unwrap().modified().unwrap();
        unpack(&FILES, &dir).unwrap();
        assert_eq!(fs::metadata(dir.join("a")).unwrap().modified().unwrap(), first, "left alone");
        fs::write(dir.join("b"), "another version's").unwrap();
        fs::write(dir.join("stale"), "another version's").unwrap();
        unpack(&FILES, &dir).unwrap();
        assert_eq!(fs::read(dir.join("b")).unwrap(), b"2");
        assert!(!dir.join("stale").exists());
        assert_eq!(fs::read_dir(state.path().join("models")).unwrap().count(), 1, "nothing is left lying about");
    }

    #[test]
    fn the_demo_model_is_complete() {
        let state = tempfile::tempdir().unwrap();
        let base = prepare(&Settings::default(), state.path()).unwrap();
        assert_eq!(base.dir, state.path().join("demo"));
        assert!(base.classes.len() >= 2);
        assert_eq!(base.digest.len(), 64);
    }

    #[test]
    fn a_bad_label_file_names_its_line() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("labels.txt");
        fs::write(&path, "nut\nbolt\nnut\n").unwrap();
        let settings = Settings { labels: Some(path.clone()), ..Settings::default() };
        let error = prepare(&settings, state.path()).unwrap_err().to_string();
        let expected = "line 3: class \"nut\" was already named on line 1; remove one of them";
        assert_eq!(error, format!("classifier.labels: the label file {}: {expected}", path.display()));
    }

    /// The label file may be created or corrected later.
    #[test]
    fn a_threshold_of_a_class_that_is_not_in_the_list_is_named_with_its_setting() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("labels.txt");
        fs::write(&path, "nut\nbolt\n").unwrap();
        let with = |class: &str| {
            let thresholds = [(class.to_owned(), 0.8)].into();
            prepare(&Settings { labels: Some(path.clone()), thresholds, ..Settings::default() }, state.path())
        };
        with("bolt").unwrap();
        let error = with("screw").unwrap_err();
        let expected = "classifier.thresholds: there is no class \"screw\"; it has to be named as in the label file";
        assert_eq!((error.to_string().as_str(), error.is_configuration()), (expected, false));
    }

    #[test]
    fn a_model_is_found_in_the_store_by_its_name() {
        let state = tempfile::tempdir().unwrap();
        let demo = prepare(&Settings::default(), state.path()).unwrap();
        let store = Store::at(state.path());
        let incoming = store.incoming().unwrap();
        for (name, content) in DEMO {
            fs::write(incoming.dir().join(name), content).unwrap();
        }
        let entry = incoming.install("parts", "test").unwrap().entry;
        for model in ["parts", &entry.digest] {
            let base = prepare(&Settings { model: Some(model.into()), ..Settings::default() }, state.path()).unwrap();
            assert_eq!((base.dir, base.digest), (entry.dir.clone(), demo.digest.clone()));
        }
        let settings = Settings { model: Some("absent".into()), ..Settings::default() };
        let told = prepare(&settings, state.path()).unwrap_err().to_string();
        assert!(told.contains("there is no model \"absent\"") && told.contains("coftctl model list"), "{told}");
    }

    /// Nothing of the pickle is read here: any content will do.
    #[test]
    fn a_pickle_is_named_with_the_command_that_converts_it() {
        let (state, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let pickled = |dir: &Path| {
            unpack(&DEMO, dir).unwrap();
            fs::rename(dir.join("model.safetensors"), dir.join("pytorch_model.bin")).unwrap();
        };
        let dir = place.path().join("clip");
        pickled(&dir);
        let told = |model: &Path| {
            let settings = Settings { model: Some(model.into()), ..Settings::default() };
            let (_, found) = look_over(&settings, state.path(), true);
            assert_eq!(found.len(), 1);
            let started = prepare(&settings, state.path()).unwrap_err();
            assert_eq!(found[0].to_string(), started.to_string());
            assert!(!started.is_configuration(), "the files may still be exchanged");
            started.to_string()
        };
        assert_eq!(
            told(&dir),
            format!(
                "classifier.model: {0}/pytorch_model.bin is a PyTorch pickle, which coft reads only to import it: run \
                 coftctl model import {0} --name NAME, then use NAME in place of the directory",
                dir.display()
            )
        );

        // A model that an earlier coft has put into the store with its pickle.
        let entry = state.path().join(format!("sha256-{}", "0".repeat(64)));
        pickled(&entry);
        let record = r#"{"format": 1, "source": "a/clip@1", "weights": "", "files": {}}"#;
        fs::write(entry.join("model.json"), record).unwrap();
        fs::create_dir(state.path().join("names")).unwrap();
        std::os::unix::fs::symlink(&entry, state.path().join("names/clip")).unwrap();
        let told = told(Path::new("clip"));
        let command = format!("run coftctl model import {}/names/clip", state.path().display());
        assert!(told.contains("an earlier coft imported this model") && told.ends_with(&command), "{told}");

        // Beside safetensors, a pickle does not matter.
        fs::copy(dir.join("pytorch_model.bin"), dir.join("model.safetensors")).unwrap();
        let settings = Settings { model: Some(dir), ..Settings::default() };
        prepare(&settings, state.path()).unwrap();
    }

    #[test]
    fn an_image_size_has_to_fit_the_models_patches() {
        let state = tempfile::tempdir().unwrap();
        let plain = prepare(&Settings::default(), state.path()).unwrap();
        let side = 2 * plain.preprocess.crop;
        let wider = Settings { image_size: Some(side), ..Settings::default() };
        assert_eq!(prepare(&wider, state.path()).unwrap().preprocess.crop, side);
        let odd = Settings { image_size: Some(side + 1), ..Settings::default() };
        assert!(prepare(&odd, state.path()).unwrap_err().to_string().contains("classifier.image-size"));
    }

    #[test]
    fn an_incomplete_model_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.json"), "{}").unwrap();
        let settings = Settings { model: Some(dir.path().into()), ..Settings::default() };
        let error = prepare(&settings, dir.path()).unwrap_err().to_string();
        assert!(error.contains("lacks model.safetensors"), "{error}");
    }
}
