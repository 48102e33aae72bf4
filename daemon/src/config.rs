//! The configuration file: read and checked, at the start and whenever it is to be read again.
//!
//! Each section is a struct of the module that uses it; here they are put together, paths are resolved against the
//! file's own directory, and what no section can know alone is checked. `check` looks at the files that it names,
//! `reload` says what of a new one can be used without a restart.

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

/// Directory, in the state directory, of what belongs to the classifiers that have a file to themselves.
const CLASSIFIERS: &str = "classifiers";

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Everything that the service writes lies here.
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
    /// `[training]`; files of before 2026-12 call it `[settings]`, see [`Loaded::deprecated`].
    #[serde(alias = "settings")]
    pub training: Settings,
    pub serve: serve::Settings,
    pub import: ImportSettings,
    /// Whether the classifier has a file to itself, and so a directory to itself below the state directory.
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
    /// The file that it is about.
    pub fn path(&self) -> &Path {
        let (ConfigError::Bad { path, .. } | ConfigError::Read { path, .. }) = self;
        path
    }
}

/// What is wrong with the text of a configuration.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Problem {
    #[error("line {line}: {message}")]
    Syntax { line: usize, message: String },
    #[error("{key}: {message}")]
    Value { key: Key, message: String },
}

/// What the command line says instead of the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    pub state_dir: Option<PathBuf>,
    pub bus: Option<String>,
}

/// Where a configuration comes from, so that it can be read again.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    pub path: PathBuf,
    pub overrides: Overrides,
}

/// A configuration as it was read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the configuration file says: of the service as a whole, and of the classifier that stands in it.
    pub config: Config,
    /// Of the configuration file.
    text: String,
    /// The classifiers that have a file each.
    pub others: Vec<Other>,
    /// Files of classifiers that cannot be used; the service goes on without these.
    pub unusable: Vec<Arc<ConfigError>>,
}

impl Loaded {
    /// What each classifier is configured as: that of the configuration file first, unless it names none and others
    /// are there.
    pub fn classifiers(&self) -> impl Iterator<Item = &Config> {
        let alone = self.others.is_empty().then_some(&self.config);
        self.own().or(alone).into_iter().chain(self.others.iter().map(|other| &other.config))
    }

    /// The classifier that stands in the configuration file, where one does.
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

    /// What the file should have another name for, though the service still reads it: the name, and what to write.
    pub fn deprecated(&self) -> Option<(Key, &'static str)> {
        let table: toml::Table = toml::from_str(&self.text).ok()?;
        let advice = "[settings] is called [training] now, and [settings.phase1] is [training.phase1]: write that; the \
                      old name is still read";
        table.contains_key("settings").then(|| ("settings".into(), advice))
    }
}

impl ConfigFile {
    /// Reads, resolves and checks it.
    ///
    /// # Errors
    /// It cannot be read, or there is a mistake in it.
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

    /// The bus that it names, as far as it can be read at all.
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
    /// Links and mounts may lead from a source to the state directory, or the other way, where their names do not.
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

    /// What tells its settings from those of the configuration file, in front of their names.
    pub fn prefix(&self) -> String {
        if self.apart { format!("{}: ", self.classifier.name) } else { String::new() }
    }

    /// Directory of what is kept for this classifier alone.
    pub fn home(&self) -> PathBuf {
        if self.apart { self.state_dir_of(&self.classifier.name) } else { self.state_dir.clone() }
    }

    /// The same of a classifier of this name that has a file to itself.
    pub fn state_dir_of(&self, name: &str) -> PathBuf {
        self.state_dir.join(CLASSIFIERS).join(name)
    }

    /// Directory of the store of pretrained models, which all classifiers share.
    pub fn models(&self) -> PathBuf {
        self.state_dir.join("models")
    }

    /// Where the files of each source are, by its key.
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
        // A single word that is no directory beside the file is the name of a model in the store.
        let named = |path: &PathBuf| path.components().count() == 1 && path.is_relative() && !dir.join(path).is_dir();
        let model::Settings { labels, templates, given_labels, model, student, .. } = classifier;
        let models = [model, student].map(|model| model.as_mut().filter(|path| !named(path)));
        let files = [labels, templates, given_labels, &mut round.trainer, &mut serve.library, &mut import.trusted_key]
            .map(Option::as_mut);
        let paths = files.into_iter().chain(models);
        let paths = paths.into_iter().flatten().chain(self.sources.iter_mut().map(|source| &mut source.path));
        for path in paths.chain([&mut self.state_dir]) {
            // `join` keeps an absolute path; the components drop trailing slashes and inner dots.
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
            if let Some((name, rule)) = source.state.fault() {
                require(key(&format!("state.{name}")), false, rule)?;
            }
            if let Some(rule) = source.crop.and_then(|crop| crop.fault()) {
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
            // Of one directory, each of two sources may look at a part of its own.
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
        match self.training.fault() {
            Some((key, rule)) => require(format!("training.{key}"), false, rule),
            None => Ok(()),
        }
    }
}

fn require(key: impl Into<Key>, holds: bool, message: &str) -> Result<(), Problem> {
    if holds { Ok(()) } else { Err(Problem::Value { key: key.into(), message: message.into() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Config, Problem> {
        let mut config = Config::parse(text)?;
        config.resolve(Path::new("/etc/coft"));
        config.check()?;
        Ok(config)
    }

    #[track_caller]
    fn refused(text: &str, why: &str) {
        let problem = parsed(text).unwrap_err().to_string();
        assert!(problem.starts_with(why), "{problem}");
    }

    #[test]
    fn the_shipped_example_is_the_default() {
        let example = parsed(include_str!("../../packaging/coft.toml")).unwrap();
        let sources = example.sources.clone();
        assert_eq!(sources.len(), 1, "the example watches one directory");
        assert_eq!(Config { sources: Vec::new(), ..example }, Config::default());
    }

    #[test]
    fn values_carry_units_and_paths_are_resolved() {
        let config = parsed(
            r#"
            state-dir = "state/"
            [classifier]
            labels = "labels.txt"
            [[source]]
            path = "/srv/camera/."
            quiet-period = "300ms"
            [ingest]
            file-limit = "3MiB"
            [schedule]
            minimum-interval = "1h 30m"
            "#,
        )
        .unwrap();
        assert_eq!(config.state_dir, Path::new("/etc/coft/state"));
        assert_eq!(config.classifier.labels.as_deref(), Some(Path::new("/etc/coft/labels.txt")));
        assert_eq!(config.sources[0].path, Path::new("/srv/camera"));
        assert_eq!(config.sources[0].quiet_period, Duration::from_millis(300));
        assert_eq!(config.ingest.file_limit.as_u64(), 3 << 20);
        assert_eq!(config.schedule.minimum_interval, Duration::from_secs(5400));
    }

    #[test]
    fn a_single_word_is_a_model_of_the_store_and_anything_else_a_path() {
        let model =
            |value: &str| parsed(&format!("[classifier]\nmodel = \"{value}\"")).unwrap().classifier.model.unwrap();
        assert_eq!(model("clip-vit-b32"), Path::new("clip-vit-b32"));
        assert_eq!(model("./clip"), Path::new("/etc/coft/clip"));
        assert_eq!(model("models/clip"), Path::new("/etc/coft/models/clip"));
        assert_eq!(model("/srv/clip"), Path::new("/srv/clip"));
    }

    #[test]
    fn a_mistake_names_its_line_or_key() {
        refused("[classifier]\nname = \"a\"\ncolour = 1\n", "line 3: unknown field `colour`, expected one of");
        refused("[schedule]\nnew-images = \"many\"\n", "line 2: invalid type: string \"many\", expected u64");
        refused("[[source]]\nquiet-period = \"2s\"\n", "line 1: missing field `path`");
        refused("[[source]]\npath = \"/a\"\nquiet-period = \"2 parsecs\"\n", "line 3: ");
        refused("[[source]]\npath = \"/a\"\nexclude = [\"a[\"]\n", "line 3: the pattern \"a[\" cannot be read");
        refused("[[source]]\npath = \"/a\"\ninclude = [\"\"]\n", "line 3: the pattern \"\" matches nothing");
        refused("[ingest\n", "line 1: ");
        refused("[classifier]\ntemplate = \"a photo\"\n", "classifier.template: write `{}` once");
        for threshold in ["0.0", "1.0", "-0.5", "1.5", "nan", "inf"] {
            refused(
                &format!("[classifier]\nthresholds = {{ \"blocked aisle\" = {threshold} }}\n"),
                "classifier.thresholds: the threshold of \"blocked aisle\" is",
            );
        }
        let text = "[classifier]\nthresholds = { \"blocked aisle\" = 0.8, nut = 0.3 }\n";
        assert_eq!(parsed(text).unwrap().classifier.thresholds.len(), 2);
        refused("[classifier]\nname = \"my parts\"\n", "classifier.name: use 1 to 64");
        refused(
            "[[source]]\npath = \"/a\"\nquiet-period = \"0s\"\n",
            "source 1 (/a): quiet-period: use \"10ms\" or more",
        );
        refused(
            "[[source]]\npath = \"/a\"\n[[source]]\npath = \"/a/b\"\n",
            "source 2 (/a/b): path: overlaps with source /a",
        );
        let two = |first: &str, second: &str| {
            format!("[[source]]\npath = \"/a\"\n{first}\n[[source]]\npath = \"/a/\"\n{second}\n")
        };
        let (left, right) =
            ("{ x = 0.0, y = 0.0, width = 0.5, height = 1.0 }", "{ x = 0.5, y = 0.0, width = 0.5, height = 1.0 }");
        let more = "source 2 (/a): path: overlaps with source /a; one of them is enough, or give each a name and a \
                    crop of its own";
        refused(&two(&format!("crop = {left}"), &format!("crop = {right}")), more);
        refused(&two("name = \"l\"", "name = \"r\""), more);
        refused(&two("name = \"l\"", &format!("crop = {right}")), more);
        refused(
            &two("name = \"l\"", &format!("name = \"l\"\ncrop = {right}")),
            "source 2 (/a): name: another source has this name",
        );
        refused(&two("name = \"in/l\"", ""), "source 1 (/a): name: use 1 to 64 letters, digits, `_` and `-`");
        let apart = two(&format!("name = \"l\"\ncrop = {left}"), "name = \"whole\"");
        let keys: Vec<PathBuf> = parsed(&apart).unwrap().sources.iter().map(watch::Source::key).collect();
        assert_eq!(keys, [Path::new("l"), Path::new("whole")]);
        refused("[[source]]\npath = \"/var/lib\"\n", "source 1 (/var/lib): path: overlaps with state-dir");
        refused("[ingest]\nmost-images = 15\n", "ingest.most-images: use as many as round.minimum-images");
        refused(
            "[[source]]\npath = \"/a\"\n[source.state]\nagree = 6\n",
            "source 1 (/a): state.agree: use 1 or more, and no more than window",
        );
        refused("[[source]]\npath = \"/a\"\n[source.state]\nwindows = 6\n", "line 4: unknown field `windows`");
        refused(
            "[[source]]\npath = \"/a\"\ncrop = { x = 0.5, y = 0.0, width = 0.6, height = 1.0 }\n",
            "source 1 (/a): crop: it leaves the picture; use 0 to 1",
        );
        refused("[[source]]\npath = \"/a\"\ncrop = { x = 0.5, y = 0.0 }\n", "line 3: missing field `width`");
        refused("[answers]\nmost = 10\n", "answers.most: use 1000 or more");
        refused("[answers]\nkeep = \"1s\"\n", "answers.keep: use \"1m\" or more");
        refused("[decode]\nmemory = \"1MiB\"\n", "decode.memory: use \"32MiB\" or more");
        refused("[round]\nniceness = -5\n", "round.niceness: use 0 to 19");
        refused("[serve]\ngpu-idle = \"0s\"\n", "serve.gpu-idle: use \"1s\" or more");
        refused("[serve]\nqueue = 15\n", "serve.queue: use 16 or more");
        refused(
            "[classifier]\nstudent = \"small\"\n[training]\ndeploy = \"phase1-model2\"\n",
            "training.deploy: use another: with classifier.student",
        );
        let old = "[settings.phase1]\nlambda = 0.25\n";
        assert_eq!(parsed(old).unwrap(), parsed(&old.replace("settings", "training")).unwrap());
        refused(&format!("{old}[training.phase2]\n"), "line 1: duplicate field `training`");
        refused("[training.phase1]\nlambda = -1.0\n", "training.phase1.lambda: use 0 to 1000");
        for epochs in ["2147483648", "4294967297", "-1", "0"] {
            let text = format!("[training.phase2.sgd]\nlearning-rate = 0.1\nepochs = {epochs}\n");
            refused(&text, "training.phase2.sgd.epochs: use 1 to 100000");
        }
        refused("[training.phase1.sgd]\nepochs = 2\n", "line 1: missing field `learning-rate`");
    }

    fn load(path: &Path, overrides: Overrides) -> Result<Config, ConfigError> {
        ConfigFile { path: path.to_owned(), overrides }.read().map(|loaded| loaded.config)
    }

    #[test]
    fn the_bus_of_a_configuration_with_a_mistake_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("coft.toml");
        let bus = |text: &str, bus: Option<&str>| {
            fs::write(&path, text).unwrap();
            let overrides = Overrides { state_dir: None, bus: bus.map(Into::into) };
            ConfigFile { path: path.clone(), overrides }.bus()
        };
        assert_eq!(bus("bus = \"session\"\nx = 1\n", None), "session");
        assert_eq!(bus("bus = \"session\"\nx = 1\n", Some("unix:path=/a")), "unix:path=/a");
        assert_eq!(bus("[ingest\n", None), "system");
        fs::remove_file(&path).unwrap();
        assert_eq!(ConfigFile { path, overrides: Overrides::default() }.bus(), "system");
    }

    #[test]
    fn the_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("coft.toml");
        let message = |path: &Path| load(path, Overrides::default()).unwrap_err().to_string();
        assert!(message(&path).contains(&format!("{} cannot be read", path.display())));
        fs::write(&path, "x = 1").unwrap();
        assert!(message(&path).starts_with(&format!("{}: line 1: unknown field `x`", path.display())));
    }

    /// Its pixels became images.
    #[test]
    fn a_state_directory_that_a_link_leads_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("coft.toml");
        fs::create_dir_all(dir.path().join("in/s")).unwrap();
        fs::create_dir_all(dir.path().join("state/in")).unwrap();
        std::os::unix::fs::symlink("in/s", dir.path().join("st")).unwrap();
        std::os::unix::fs::symlink("state/in", dir.path().join("src")).unwrap();
        for (state, source, fits) in [
            ("st", "in", false),
            ("st/new", "in", false),
            ("state", "src", false),
            ("state", "in", true),
            ("st", "src", true),
        ] {
            fs::write(&path, format!("state-dir = \"{state}\"\n[[source]]\npath = \"{source}\"\n")).unwrap();
            match load(&path, Overrides::default()) {
                Ok(_) => assert!(fits, "{state} and {source}"),
                Err(error) => {
                    assert!(!fits && error.to_string().contains("overlaps with state-dir through"), "{error}")
                }
            }
        }
    }

    #[test]
    fn the_command_line_wins() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("coft.toml");
        fs::write(&path, "state-dir = \"/a\"\nbus = \"session\"\n").unwrap();
        let overrides = Overrides { state_dir: Some("/b".into()), bus: None };
        let config = load(&path, overrides).unwrap();
        assert_eq!((config.state_dir.as_path(), config.bus.as_str()), (Path::new("/b"), "session"));
    }
}
