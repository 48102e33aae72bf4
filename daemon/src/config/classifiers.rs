//! Further classifiers: each has a file in the directory `classifiers.d` beside the configuration file.
//!
//! The name of such a file, without `.toml`, is the name of its classifier. The file has the sections of the
//! configuration file, except those of the service as a whole. Settings that it leaves out are taken from the
//! configuration file, but never `[classifier]` and `[[source]]`. A mistake in a file affects only its own classifier.

use super::{Config, ConfigError, Key, Problem};
use crate::watch;
use coft_core::shown::shown_path;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use toml::Table;

/// Name of the directory beside the configuration file.
pub const DIR: &str = "classifiers.d";

/// Settings of the service as a whole.
pub(super) const OF_THE_SERVICE: [&str; 4] = ["state-dir", "bus", "decode", "serve.memory"];
/// Sections that are never taken over from the configuration file.
const OF_ITS_OWN: [&str; 2] = ["classifier", "source"];

/// A classifier that has a file of its own.
#[derive(Clone, Debug)]
pub struct Other {
    pub path: PathBuf,
    pub config: Config,
    /// Text of the file.
    pub(super) text: String,
}

/// The files in `classifiers.d` of this directory, sorted by name.
///
/// # Errors
/// The directory exists but cannot be read.
pub fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    match fs::read_dir(dir.join(DIR)) {
        Ok(entries) => {
            for entry in entries {
                let path = entry?.path();
                let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
                if path.extension() == Some(OsStr::new("toml")) && !is_hidden {
                    files.push(path);
                }
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    files.sort();
    Ok(files)
}

/// Reads a classifier's own file. `main` is the configuration file as it was read from `dir`, and `text` is its text;
/// `others` are the classifiers that exist already.
///
/// # Errors
/// The file cannot be read, or has a mistake.
pub fn read(path: &Path, (main, text, dir): (&Config, &str, &Path), others: &[&Config]) -> Result<Other, ConfigError> {
    let own = fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let config = over(main, text, path, &own).and_then(|mut config| {
        config.resolve(dir);
        (config.state_dir, config.bus) = (main.state_dir.clone(), main.bus.clone());
        config.check()?;
        config.check_places()?;
        apart(&config, others)?;
        Ok(config)
    });
    let config = config.map_err(|problem| ConfigError::Bad { path: path.to_owned(), problem })?;
    Ok(Other { path: path.to_owned(), config, text: own })
}

/// The configuration that results from a classifier's own file together with the configuration file.
fn over(main: &Config, text: &str, path: &Path, own: &str) -> Result<Config, Problem> {
    let bad = |key: &str, message: String| Problem::Value { key: key.into(), message };
    // Parsed alone first, so that an unknown setting is reported with its line.
    Config::parse(own)?;
    let (mut table, own) = (sections(text), sections(own));
    if let Some(key) = OF_THE_SERVICE.iter().find(|key| has(&own, key)) {
        return Err(bad(key, "it is of the service as a whole; set it in the configuration file alone".into()));
    }
    let name = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
    let said = own.get("classifier").and_then(|section| section.get("name")).and_then(|said| said.as_str());
    if said.is_some_and(|said| said != name) {
        return Err(bad(
            "classifier.name",
            format!("this file's name says {name:?}; leave it out, or rename the file"),
        ));
    }
    OF_ITS_OWN.iter().for_each(|section| drop(table.remove(*section)));
    lay_over(&mut table, own);
    let mut config: Config = table.try_into().map_err(|error| bad("classifier", error.to_string()))?;
    config.classifier.name = name.to_owned();
    config.decode = main.decode.clone();
    config.apart = true;
    Ok(config)
}

/// The sections of a text that was parsed; a section with an old name gets its present name.
fn sections(text: &str) -> Table {
    let mut table: Table = text.parse().unwrap_or_default();
    if let Some(training) = table.remove("settings") {
        table.insert("training".into(), training);
    }
    table
}

/// Whether a setting is present. `key` is its sections and name, joined with dots.
fn has(table: &Table, key: &str) -> bool {
    match key.split_once('.') {
        Some((section, rest)) => {
            table.get(section).and_then(toml::Value::as_table).is_some_and(|inner| has(inner, rest))
        }
        None => table.contains_key(key),
    }
}

fn lay_over(table: &mut Table, own: Table) {
    for (key, value) in own {
        match (table.get_mut(&key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(value)) => lay_over(below, value),
            (_, value) => drop(table.insert(key, value)),
        }
    }
}

/// Checks that the names of classifiers, and the names of their sources, are unique.
fn apart(config: &Config, others: &[&Config]) -> Result<(), Problem> {
    let name = &config.classifier.name;
    if others.iter().any(|other| other.classifier.name == *name) {
        let key = "classifier.name".into();
        return Err(Problem::Value { key, message: format!("another classifier is called {name}; rename the file") });
    }
    for (index, source) in config.sources.iter().enumerate() {
        let same = |other: &&&Config| other.sources.iter().map(watch::Source::key).any(|key| key == source.key());
        if let Some(other) = others.iter().find(same) {
            let (other, key) = (&other.classifier.name, shown_path(&source.key()).into_owned());
            let message = format!("the classifier {other} has a source {key}, too; give this one a name of its own");
            let key = Key::OfSource { index, path: source.path.clone(), name: "name".into() };
            return Err(Problem::Value { key, message });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{ConfigFile, Loaded, Overrides};
    use super::*;
    use std::time::Duration;
    use tempfile::TempDir;

    fn site(main: &str, others: &[(&str, &str)]) -> (TempDir, Loaded) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(DIR)).unwrap();
        fs::write(dir.path().join("coft.toml"), main).unwrap();
        for (name, text) in others {
            fs::write(dir.path().join(DIR).join(name), text).unwrap();
        }
        let loaded = ConfigFile { path: dir.path().join("coft.toml"), overrides: Overrides::default() }.read().unwrap();
        (dir, loaded)
    }

    fn names(loaded: &Loaded) -> Vec<&str> {
        loaded.classifiers().map(|config| config.classifier.name.as_str()).collect()
    }

    #[test]
    fn each_file_is_a_classifier_with_what_the_main_file_says_of_all() {
        let main = "state-dir = \"state\"\n[classifier]\nthresholds = { nut = 0.5 }\n[[source]]\npath = \"parts\"\n\
                    [settings.phase1]\nlambda = 0.5\n[schedule]\nnew-images = 50\n[round]\nniceness = 3\n";
        let lamps = "[classifier]\nlabels = \"lamps.txt\"\n[[source]]\npath = \"lamps\"\n[schedule]\n\
                     automatic = false\n[training.phase1]\nseed-share = 0.5\n";
        let files = [("lamps.toml", lamps), ("gates.toml", ""), (".old.toml", "x"), ("readme.txt", "x")];
        let (dir, loaded) = site(main, &files);
        assert_eq!(names(&loaded), ["default", "gates", "lamps"]);
        assert!(loaded.unusable.is_empty());
        let of = |name: &str| loaded.classifiers().find(|config| config.classifier.name == name).unwrap();
        let (parts, lamps) = (of("default"), of("lamps"));
        assert_eq!(parts.home(), dir.path().join("state"), "where it was before there were others");
        assert_eq!(lamps.home(), dir.path().join("state/classifiers/lamps"));
        assert_eq!(lamps.classifier.labels.as_deref(), Some(dir.path().join("lamps.txt").as_path()));
        assert!(lamps.classifier.thresholds.is_empty() && of("gates").sources.is_empty());
        assert_eq!((lamps.schedule.new_images, lamps.schedule.automatic, lamps.round.niceness), (50, false, 3));
        assert_eq!((lamps.training.phase1.lambda, lamps.training.phase1.seed_share), (0.5, 0.5));
        assert!(parts.schedule.automatic);
        assert_eq!(lamps.sources[0].path, dir.path().join("lamps"));
        assert_eq!(lamps.sources[0].quiet_period, Duration::from_secs(2));
    }

    #[test]
    fn the_main_file_needs_no_classifier_where_others_are() {
        let (_dir, loaded) = site("bus = \"session\"\n", &[("lamps.toml", "")]);
        assert_eq!(names(&loaded), ["lamps"]);
        assert_eq!(names(&site("bus = \"session\"\n", &[]).1), ["default"]);
        assert_eq!(names(&site("[[source]]\npath = \"a\"\n", &[("lamps.toml", "")]).1), ["default", "lamps"]);
    }

    /// A mistake in one classifier's file must not stop the others.
    #[test]
    fn a_mistake_costs_its_own_classifier_alone() {
        for (file, text, told) in [
            ("lamps.toml", "[classifier]\ncolour = 1\n", "lamps.toml: line 2: unknown field `colour`"),
            ("lamps.toml", "bus = \"session\"\n", "lamps.toml: bus: it is of the service as a whole"),
            ("lamps.toml", "[serve]\nmemory = \"1GiB\"\n", "lamps.toml: serve.memory: it is of the service as a whole"),
            ("lamps.toml", "[decode]\nmemory = \"1GiB\"\n", "lamps.toml: decode: it is of the service as a whole"),
            (
                "lamps.toml",
                "[classifier]\nname = \"l\"\n",
                "lamps.toml: classifier.name: this file's name says \"lamps\"",
            ),
            ("street lamps.toml", "", "street lamps.toml: classifier.name: use 1 to 64 letters"),
            ("default.toml", "", "default.toml: classifier.name: another classifier is called default"),
            ("lamps.toml", "[[source]]\npath = \"parts\"\n", "the classifier default has a source"),
            ("lamps.toml", "[round]\nniceness = 40\n", "lamps.toml: round.niceness: use 0 to 19"),
        ] {
            let (_dir, loaded) = site("[[source]]\npath = \"parts\"\n", &[(file, text), ("gates.toml", "")]);
            let mut there = names(&loaded);
            there.sort_unstable();
            assert_eq!(there, ["default", "gates"], "{text}");
            let problems: Vec<String> = loaded.unusable.iter().map(ToString::to_string).collect();
            assert!(problems.len() == 1 && problems[0].contains(told), "{problems:?}");
        }
        let named = "[[source]]\npath = \"parts\"\nname = \"parts_for_lamps\"\n";
        let (_dir, loaded) = site("[[source]]\npath = \"parts\"\n", &[("lamps.toml", named)]);
        assert!(loaded.unusable.is_empty(), "one camera may feed two classifiers: {:?}", loaded.unusable);
    }
}
