//! The configuration file: read and checked at the start and at each reload.
//!
//! Each section is a struct of the module that uses it. This module puts the sections together, resolves paths against
//! the file's own directory, and checks what concerns several sections. `check` looks at the files that the
//! configuration names; `reload` decides which parts of a new configuration can be used without a restart.

pub mod check;
mod classifiers;
pub mod edit;
mod import;
mod key;
mod reload;

pub use classifiers::Other;
pub use import::{ImportSettings, read_key};
pub use key::Key;

use crate::round::RoundSettings;
use crate::{answers, decode_budget, ingest, model, serve, watch};
use coft_core::schedule::Schedule;
use coft_core::settings::{Deploy, Settings};
use coft_core::shown::{shown, shown_path};
use ingest::Place;
use serde::Deserialize;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

pub const DEFAULT_FILE: &str = "/etc/coft/coft.toml";

/// Directory inside the state directory for the data of classifiers that have a file of their own.
const CLASSIFIERS: &str = "classifiers";

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Directory of everything that the service writes.
    pub state_dir: PathBuf,
    /// `system`, `session` or a D-Bus address.
    pub bus: String,
    pub classifier: model::Settings,
    #[serde(rename = "source")]
    pub sources: Vec<watch::Source>,
    pub ingest: ingest::Settings,
    pub answers: answers::Settings,
    pub decode: decode_budget::Settings,
    pub schedule: Schedule,
    pub round: RoundSettings,
    /// `[training]`; in files from before 2026-12 the section is called `[settings]`, see [`Loaded::deprecated`].
    #[serde(alias = "settings")]
    pub training: Settings,
    pub serve: serve::Settings,
    pub import: ImportSettings,
    /// Whether the classifier has a file of its own, and so a directory of its own below the state directory.
    #[serde(skip)]
    pub apart: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/coft".into(),
            bus: "system".into(),
            classifier: model::Settings::default(),
            sources: Vec::new(),
            ingest: ingest::Settings::default(),
            answers: answers::Settings::default(),
            decode: decode_budget::Settings::default(),
            schedule: Schedule::default(),
            round: RoundSettings::default(),
            training: Settings::default(),
            serve: serve::Settings::default(),
            import: ImportSettings::default(),
            apart: false,
        }
    }
}

#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("the configuration {} cannot be read: {source}; --config names another file", shown_path(path))]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: {problem}", shown_path(path))]
    Bad { path: PathBuf, problem: Problem },
}

impl ConfigError {
    /// The file that has the mistake, or cannot be read.
    pub fn path(&self) -> &Path {
        let (ConfigError::Bad { path, .. } | ConfigError::Read { path, .. }) = self;
        path
    }
}

/// A mistake in the text of a configuration.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Problem {
    #[error("line {line}: {message}")]
    Syntax { line: usize, message: String },
    #[error("{key}: {message}")]
    Value { key: Key, message: String },
}

/// Values from the command line that replace those of the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    pub state_dir: Option<PathBuf>,
    pub bus: Option<String>,
}

/// The origin of a configuration, so that it can be read again.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    pub path: PathBuf,
    pub overrides: Overrides,
}

/// All configuration files as they were read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration file: the settings of the service, and of the classifier that the file itself describes.
    pub config: Config,
    /// Text of the configuration file.
    text: String,
    /// The classifiers that have a file of their own.
    pub others: Vec<Other>,
    /// Files of classifiers that cannot be used; the service runs without these classifiers.
    pub unusable: Vec<Arc<ConfigError>>,
}

impl Loaded {
    /// The configuration of each classifier. The one in the configuration file comes first; it is left out if the file
    /// describes no classifier and there are others.
    pub fn classifiers(&self) -> impl Iterator<Item = &Config> {
        let alone = self.others.is_empty().then_some(&self.config);
        self.own().or(alone).into_iter().chain(self.others.iter().map(|other| &other.config))
    }

    /// The classifier that the configuration file describes, if it describes one.
    fn own(&self) -> Option<&Config> {
        let table: toml::Table = toml::from_str(&self.text).unwrap_or_default();
        ["classifier", "source"].iter().any(|key| table.contains_key(*key)).then_some(&self.config)
    }

    fn read_others(&mut self, dir: &Path) -> io::Result<()> {
        for path in classifiers::files(dir)? {
            let known: Vec<&Config> =
                self.own().into_iter().chain(self.others.iter().map(|other| &other.config)).collect();
            match classifiers::read(&path, (&self.config, &self.text, dir), &known) {
                Ok(other) => self.others.push(other),
                Err(error) => self.unusable.push(Arc::new(error)),
            }
        }
        Ok(())
    }

    /// A setting with an old name that is still accepted, and the advice what to write instead.
    pub fn deprecated(&self) -> Option<(Key, &'static str)> {
        let table: toml::Table = toml::from_str(&self.text).ok()?;
        let advice = "[settings] is called [training] now, and [settings.phase1] is [training.phase1]: write that; the \
                      old name is still read";
        table.contains_key("settings").then(|| ("settings".into(), advice))
    }
}

impl ConfigFile {
    /// Reads the files, resolves the paths and checks the settings.
    ///
    /// # Errors
    /// The file cannot be read, or has a mistake.
    pub fn read(&self) -> Result<Loaded, ConfigError> {
        let path = &self.path;
        let read = |source| ConfigError::Read { path: path.clone(), source };
        let text = fs::read_to_string(path).map_err(read)?;
        let dir = std::path::absolute(path).map_err(read)?;
        let dir = dir.parent().unwrap_or(Path::new("/"));
        let bad = |problem| ConfigError::Bad { path: path.clone(), problem };
        let mut config = Config::parse(&text).map_err(bad)?;
        config.resolve(dir);
        let Overrides { state_dir, bus } = self.overrides.clone();
        if let Some(state_dir) = state_dir {
            config.state_dir = std::path::absolute(state_dir).map_err(read)?;
        }
        if let Some(bus) = bus {
            config.bus = bus;
        }
        config.check().map_err(bad)?;
        config.check_places().map_err(bad)?;
        let mut loaded = Loaded { config, text, others: Vec::new(), unusable: Vec::new() };
        loaded.read_others(dir).map_err(read)?;
        Ok(loaded)
    }

    /// The bus that the file names, as far as the file can be read.
    pub fn bus(&self) -> String {
        let named = || {
            let text = fs::read_to_string(&self.path).ok()?;
            let table: toml::Table = toml::from_str(&text).ok()?;
            Some(table.get("bus")?.as_str()?.to_owned())
        };
        self.overrides.bus.clone().or_else(named).unwrap_or_else(|| Config::default().bus)
    }
}

impl Config {
    /// Checks that no link or mount leads from a source to the state directory or back, although their paths are apart.
    fn check_places(&self) -> Result<(), Problem> {
        for (index, source) in self.sources.iter().enumerate() {
            require(
                Key::OfSource { index, path: source.path.clone(), name: "path".into() },
                !watch::overlaps(&source.path, &self.state_dir),
                "overlaps with state-dir through a link or a mount; keep them apart",
            )?;
        }
        Ok(())
    }

    /// Prefix of the names of this classifier's settings in messages, which distinguishes them from those of the
    /// configuration file.
    pub fn prefix(&self) -> String {
        if self.apart { format!("{}: ", self.classifier.name) } else { String::new() }
    }

    /// Directory of the data of this classifier.
    pub fn home(&self) -> PathBuf {
        if self.apart { self.state_dir_of(&self.classifier.name) } else { self.state_dir.clone() }
    }

    /// Directory of the data of a classifier with this name that has a file of its own.
    pub fn state_dir_of(&self, name: &str) -> PathBuf {
        self.classifiers_dir().join(name)
    }

    /// Directory of what is kept for the classifiers that have a file each.
    pub fn classifiers_dir(&self) -> PathBuf {
        self.state_dir.join(CLASSIFIERS)
    }

    /// Directory of the store of pretrained models, which all classifiers share.
    pub fn models(&self) -> PathBuf {
        self.state_dir.join("models")
    }

    /// Directory and used part of each source, by the source's key.
    pub fn places(&self) -> HashMap<PathBuf, Place> {
        let place = |source: &watch::Source| Place { dir: source.path.clone(), region: source.crop };
        self.sources.iter().map(|source| (source.key(), place(source))).collect()
    }

    fn parse(text: &str) -> Result<Self, Problem> {
        toml::from_str(text).map_err(|error| {
            let line = key::line_at(text, error.span().map_or(0, |span| span.start));
            Problem::Syntax { line, message: error.message().to_owned() }
        })
    }

    fn resolve(&mut self, dir: &Path) {
        let Self { classifier, round, serve, import, .. } = self;
        // A single word is the name of a model in the store, unless a directory of that name is beside the file.
        let named = |path: &PathBuf| path.components().count() == 1 && path.is_relative() && !dir.join(path).is_dir();
        let model::Settings { labels, templates, given_labels, model, student, .. } = classifier;
        let models = [model, student].map(|model| model.as_mut().filter(|path| !named(path)));
        let files = [labels, templates, given_labels, &mut round.trainer, &mut serve.library, &mut import.trusted_key]
            .map(Option::as_mut);
        let paths = files.into_iter().chain(models);
        let paths = paths.into_iter().flatten().chain(self.sources.iter_mut().map(|source| &mut source.path));
        for path in paths.chain([&mut self.state_dir]) {
            // `join` keeps an absolute path; `components` drops trailing slashes and inner dots.
            *path = dir.join(&*path).components().collect();
        }
    }

    fn check(&self) -> Result<(), Problem> {
        let classifier = &self.classifier;
        let plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        require(
            "classifier.name",
            (1..=64).contains(&classifier.name.len()) && plain(&classifier.name),
            "use 1 to 64 letters, digits and `_`",
        )?;
        require(
            "classifier.template",
            classifier.template.matches("{}").count() == 1,
            "write `{}` once, where the class name goes",
        )?;
        for (class, threshold) in &classifier.thresholds {
            let class = shown(class.as_bytes());
            let message = format!("the threshold of \"{class}\" is {threshold}; use a number above 0 and below 1");
            require("classifier.thresholds", *threshold > 0.0 && *threshold < 1.0, &message)?;
        }
        for (index, source) in self.sources.iter().enumerate() {
            let key = |name: &str| Key::OfSource { index, path: source.path.clone(), name: name.into() };
            require(key("quiet-period"), source.quiet_period >= Duration::from_millis(10), "use \"10ms\" or more")?;
            require(key("rescan-interval"), source.rescan_interval >= Duration::from_secs(1), "use \"1s\" or more")?;
            if let Err((name, rule)) = source.state.validate() {
                require(key(&format!("state.{name}")), false, rule)?;
            }
            if let Some(Err(rule)) = source.crop.map(|crop| crop.validate()) {
                require(key("crop"), false, rule)?;
            }
            if let Some(name) = &source.name {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
                let is_plain = (1..=64).contains(&name.len()) && name.bytes().all(plain);
                require(key("name"), is_plain, "use 1 to 64 letters, digits, `_` and `-`")?;
                let is_another = self.sources[..index].iter().any(|other| other.name.as_ref() == Some(name));
                require(key("name"), !is_another, "another source has this name")?;
            }
            let overlap = |other: &Path| source.path.starts_with(other) || other.starts_with(&source.path);
            require(key("path"), !overlap(&self.state_dir), "overlaps with state-dir; keep them apart")?;
            // Two sources may share a directory if each uses another part of the pictures.
            let apart = |other: &watch::Source| {
                source.path == other.path && source.crop != other.crop && source.name.is_some() && other.name.is_some()
            };
            let clashes = |other: &&watch::Source| overlap(&other.path) && !apart(other);
            if let Some(other) = self.sources[..index].iter().find(clashes) {
                let more = match source.path == other.path {
                    true => ", or give each a name and a crop of its own",
                    false => "",
                };
                let path = shown_path(&other.path);
                let message = format!("overlaps with source {path}; one of them is enough{more}");
                return Err(Problem::Value { key: key("path"), message });
            }
        }
        require("ingest.file-limit", self.ingest.file_limit.as_u64() >= 1024, "use \"1KiB\" or more")?;
        require(
            "ingest.most-images",
            self.ingest.most_images >= self.round.minimum_images,
            "use as many as round.minimum-images or more",
        )?;
        require("answers.keep", self.answers.keep >= Duration::from_secs(60), "use \"1m\" or more")?;
        require("answers.most", self.answers.most >= 1000, "use 1000 or more")?;
        require("decode.memory", self.decode.memory.as_u64() >= 32 << 20, "use \"32MiB\" or more")?;
        require("schedule.new-images", self.schedule.new_images >= 1, "use 1 or more")?;
        require("round.minimum-images", self.round.minimum_images >= 1, "use 1 or more")?;
        require("round.deadline", self.round.deadline >= Duration::from_secs(1), "use \"1s\" or more")?;
        require("round.niceness", (0..=19).contains(&self.round.niceness), "use 0 to 19")?;
        require("serve.gpu-idle", self.serve.gpu_idle >= Duration::from_secs(1), "use \"1s\" or more")?;
        require("serve.queue", self.serve.queue >= coft_dbus::MANY, "use 16 or more: a call may bring as many images")?;
        let of_phase_1 = matches!(self.training.deploy, Deploy::Phase1Model1 | Deploy::Phase1Model2);
        require(
            "training.deploy",
            classifier.student.is_none() || !of_phase_1,
            "use another: with classifier.student there is no model of Phase I to deploy",
        )?;
        match self.training.validate() {
            Err((key, rule)) => require(format!("training.{key}"), false, rule),
            Ok(()) => Ok(()),
        }
    }
}

fn require(key: impl Into<Key>, holds: bool, message: &str) -> Result<(), Problem> {
    if holds { Ok(()) } else { Err(Problem::Value { key: key.into(), message: message.into() }) }
}

#[cfg(test)]
mod tests;
