//! `coftd --check`: finds mistakes in a configuration and in the files that it names, without starting the service.
//!
//! `coftctl config check` runs it. The alternative would be a library with the configuration in it. But each section is
//! a struct of the module that uses it, down to ONNX Runtime's, and a check by the installed program itself always
//! knows the same settings as the service.

use super::{Config, ConfigError, ConfigFile, Key, Other, Problem, key};
use crate::{model, serve, user_labels};
use coft_core::shown::shown_path;
use coft_core::{labels, lint};
use serde::Serialize;
use std::error::Error;
use std::fs;
use std::io;
use std::path::Path;

/// What `coftd --check` prints.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The configuration file.
    pub file: String,
    pub findings: Vec<Finding>,
}

/// One mistake, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The configuration file, or the file of a classifier.
    pub file: String,
    pub severity: Severity,
    /// Line of the file, from 1.
    pub line: Option<usize>,
    /// The setting's name, as `round.threads`. For a mistake in the file's syntax, the key as it is written there.
    pub key: Option<String>,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The service starts. It waits until this is solved, or works without the missing part.
    Warning,
    /// Must be corrected.
    Error,
}

impl Report {
    /// Checks a configuration file, and reads every file that it names.
    pub fn of(file: &ConfigFile) -> Self {
        let findings = match file.read() {
            Ok(loaded) => {
                let text = fs::read_to_string(&file.path).unwrap_or_default();
                let faults = named_files(&loaded.config, true).into_iter();
                let old = loaded.deprecated().map(|(key, advice)| Fault {
                    severity: Severity::Warning,
                    key,
                    message: advice.to_owned(),
                });
                let own = faults.chain(old).chain(names(&loaded.config)).map(|fault| fault.found_in(&file.path, &text));
                let others = loaded.others.iter().flat_map(in_its_file);
                own.chain(others).chain(loaded.unusable.iter().map(|error| mistake(error))).collect()
            }
            Err(error) => vec![mistake(&error)],
        };
        Self { file: shown_path(&file.path).into_owned(), findings }
    }

    /// Whether the service would not accept the configuration as it is.
    pub fn is_bad(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }
}

/// Mistakes in files that a classifier's own file names. Settings taken over from the configuration file are reported
/// for that file.
fn in_its_file(other: &Other) -> Vec<Finding> {
    let is_own = |fault: &Fault| {
        let of_its_own = matches!(&fault.key, Key::OfSource { .. }) || fault.key.to_string().starts_with("classifier.");
        of_its_own || fault.key.line(&other.text).is_some()
    };
    let faults = named_files(&other.config, true).into_iter().filter(is_own).chain(names(&other.config));
    faults.map(|fault| fault.found_in(&other.path, &other.text)).collect()
}

/// Class names that the model may not understand.
fn names(config: &Config) -> Vec<Fault> {
    let Some(path) = &config.classifier.labels else { return Vec::new() };
    // A file that cannot be read is reported by [`named_files`].
    let bytes = fs::read(path).unwrap_or_default();
    let of_name = |(line, name): (usize, String)| Some(format!("line {line}: {name:?}: {}", lint::of_name(&name)?));
    let of_names = labels::parse(&bytes).unwrap_or_default().into_iter().filter_map(of_name);
    let warning = |what: String| Fault {
        severity: Severity::Warning,
        key: "classifier.labels".into(),
        message: format!("{}: {what}", shown_path(path)),
    };
    lint::of_file(&bytes).into_iter().chain(of_names).map(warning).collect()
}

fn mistake(error: &ConfigError) -> Finding {
    let path = error.path();
    let text = fs::read_to_string(path).unwrap_or_default();
    let (line, key, message) = match error {
        ConfigError::Bad { problem: Problem::Syntax { line, message }, .. } => {
            (Some(*line), key::on_line(&text, *line), message.clone())
        }
        ConfigError::Bad { problem: Problem::Value { key, message }, .. } => {
            (key.line(&text), Some(key.to_string()), message.clone())
        }
        ConfigError::Read { source, .. } => (None, None, format!("it cannot be read: {source}")),
    };
    Finding { file: shown_path(path).into_owned(), severity: Severity::Error, line, key, message }
}

/// A mistake in a file that a setting names.
#[derive(Debug)]
pub struct Fault {
    pub severity: Severity,
    pub key: Key,
    pub message: String,
}

impl Fault {
    fn error(key: impl Into<Key>, message: impl ToString) -> Self {
        Self { severity: Severity::Error, key: key.into(), message: message.to_string() }
    }

    fn found_in(self, file: &Path, text: &str) -> Finding {
        let Self { severity, key, message } = self;
        Finding {
            file: shown_path(file).into_owned(),
            severity,
            line: key.line(text),
            key: Some(key.to_string()),
            message,
        }
    }
}

/// Checks every file that a configuration names. If `thorough`, the weights of the models and the images of the label
/// list are read as well, which takes seconds or more.
pub fn named_files(config: &Config, thorough: bool) -> Vec<Fault> {
    let (classifier, mut faults) = (&config.classifier, Vec::new());
    let (classes, found) = model::look_over(classifier, &config.models(), thorough);
    for error in found {
        let hidden = not_allowed(&error);
        let (severity, message) = match hidden {
            true => (Severity::Warning, format!("{}; it is not checked: run this with sudo", error.cause())),
            false => (Severity::Error, error.cause().to_string()),
        };
        faults.push(Fault { severity, key: error.setting().into(), message });
    }
    if let (Some(list), Some(classes), true) = (&classifier.given_labels, classes, thorough)
        && let Err(error) =
            user_labels::List::read(list, &classes, &config.places(), &|| true).and_then(user_labels::List::labels)
    {
        faults.push(Fault::error("classifier.given-labels", error));
    }
    // Without the setting, the trainer is searched for; a missing installation is no mistake of the configuration.
    if let (Some(_), Err(error)) = (&config.round.trainer, config.round.find_trainer()) {
        faults.push(Fault::error("round.trainer", error));
    }
    if let (Some(_), Err(error)) = (&config.serve.library, serve::find_library(&config.serve)) {
        faults.push(Fault::error("serve.library", error));
    }
    if let Err(problem) = config.import.check() {
        faults.push(Fault::error("import.trusted-key", problem));
    }
    for (index, source) in config.sources.iter().enumerate() {
        let problem = match fs::metadata(&source.path) {
            Ok(found) if found.is_dir() => continue,
            Ok(_) => "it is not a directory".to_owned(),
            Err(error) => error.to_string(),
        };
        let key = Key::OfSource { index, path: source.path.clone(), name: "path".into() };
        let message = format!("{problem}; the service waits for it");
        faults.push(Fault { severity: Severity::Warning, key, message });
    }
    faults
}

/// Whether the file could not be opened for lack of permission; the service's user may have the permission.
fn not_allowed(error: &model::SetupError) -> bool {
    let mut cause: Option<&dyn Error> = Some(error.cause());
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::PermissionDenied) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;
    use std::path::PathBuf;
    use tempfile::TempDir;

    fn site(text: &str) -> (TempDir, ConfigFile) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("coft.toml");
        fs::create_dir(dir.path().join("in")).unwrap();
        fs::write(&path, text).unwrap();
        let file = ConfigFile { path, overrides: Overrides::default() };
        (dir, file)
    }

    /// Severity, line, key and message of the only finding.
    fn found(dir: &TempDir, file: &ConfigFile) -> (Severity, Option<usize>, Option<String>, String) {
        let report = Report::of(file);
        let [Finding { severity, line, key, message, .. }] = &report.findings[..] else { panic!("{report:?}") };
        let message = message.replace(dir.path().to_str().unwrap(), "DIR");
        (*severity, *line, key.clone(), message)
    }

    #[test]
    fn a_file_that_is_in_order_says_nothing_and_nothing_is_written() {
        let (dir, file) = site("state-dir = \"state\"\n[[source]]\npath = \"in\"\n");
        let report = Report::of(&file);
        assert!(report.findings.is_empty() && !report.is_bad(), "{report:?}");
        assert!(!dir.path().join("state").exists());
    }

    #[test]
    fn mistakes_name_line_and_key() {
        for (text, line, key, message) in [
            ("[round]\nthreads = \"all\"\n", 2, Some("threads"), "invalid type: string \"all\", expected u32"),
            ("[round]\nspeed = 1\n", 2, Some("speed"), "unknown field `speed`"),
            ("[round\n", 1, None, ""),
            ("[round]\nseed = 1\nniceness = 40\n", 3, Some("round.niceness"), "use 0 to 19"),
            ("[[source]]\npath = \"in\"\nquiet-period = \"0s\"\n", 3, Some("source 1 (DIR/in): quiet-period"), "use"),
        ] {
            let (dir, file) = site(text);
            let (severity, at, named, told) = found(&dir, &file);
            let named = named.map(|key| key.replace(dir.path().to_str().unwrap(), "DIR"));
            assert_eq!((severity, at, named.as_deref()), (Severity::Error, Some(line), key), "{text}");
            assert!(told.starts_with(message), "{told}");
        }
    }

    #[test]
    fn a_section_that_has_another_name_now_is_read_and_told() {
        let (dir, file) = site("[settings.phase1]\nlambda = 0.5\n");
        let (severity, line, key, told) = found(&dir, &file);
        assert_eq!((severity, line, key.as_deref()), (Severity::Warning, Some(1), Some("settings")));
        assert!(told.contains("write that"), "{told}");
        assert!(!Report::of(&file).is_bad());
    }

    #[test]
    fn a_file_that_is_not_there_is_said() {
        let file = ConfigFile { path: PathBuf::from("/nowhere/coft.toml"), overrides: Overrides::default() };
        let report = Report::of(&file);
        assert!(report.is_bad() && report.findings[0].message.starts_with("it cannot be read: No such file"));
    }

    #[test]
    fn each_file_that_is_named_is_read() {
        let labels = "[classifier]\nlabels = \"labels.txt\"\n";
        for (more, file, content, key, message) in [
            ("", "labels.txt", "nut\nbolt\nnut\n", "classifier.labels", "line 3: class \"nut\" was already named"),
            ("templates = \"t.txt\"\n", "t.txt", "no class\n", "classifier.templates", "the template file DIR/t.txt"),
            ("given-labels = \"g.csv\"\n", "g.csv", "path,class\na,gear\n", "classifier.given-labels", "line 2: there"),
            ("thresholds = { gear = 0.5 }\n", "x", "", "classifier.thresholds", "there is no class \"gear\""),
            ("model = \"./clip\"\n", "x", "", "classifier.model", "DIR/clip"),
            ("model = \"clip\"\n", "x", "", "classifier.model", "there is no model \"clip\""),
            ("[round]\ntrainer = \"t\"\n", "x", "", "round.trainer", "there is no program DIR/t"),
            ("[serve]\nlibrary = \"l.so\"\n", "x", "", "serve.library", "ONNX Runtime"),
            ("[import]\ntrusted-key = \"k.pem\"\n", "k.pem", "no key", "import.trusted-key", "DIR/k.pem"),
        ] {
            let (dir, configured) = site(&format!("state-dir = \"state\"\n{labels}{more}"));
            fs::write(dir.path().join("labels.txt"), "nut\nbolt\n").unwrap();
            fs::write(dir.path().join(file), content).unwrap();
            let (severity, line, named, told) = found(&dir, &configured);
            assert_eq!((severity, named.as_deref()), (Severity::Error, Some(key)), "{more}: {told}");
            assert!(told.contains(message) && line.is_some(), "{more}: {told}");
        }
    }

    #[test]
    fn the_files_of_classifiers_are_checked_each_on_its_own() {
        let (dir, file) = site("[round]\ntrainer = \"t\"\n[[source]]\npath = \"in\"\n");
        let write = |name: &str, text: &str| fs::write(dir.path().join("classifiers.d").join(name), text).unwrap();
        fs::create_dir(dir.path().join("classifiers.d")).unwrap();
        write("lamps.toml", "# The hall.\n[classifier]\nlabels = \"no.txt\"\n");
        write("gates.toml", "[classifier]\ncolour = 1\n");
        let found: Vec<_> = Report::of(&file).findings.into_iter().map(|f| (f.file, f.line, f.key)).collect();
        let of = |name: &str, line, key: &str| {
            (dir.path().join(name).to_str().unwrap().to_owned(), Some(line), Some(key.to_owned()))
        };
        assert_eq!(
            found,
            [
                of("coft.toml", 2, "round.trainer"),
                of("classifiers.d/lamps.toml", 3, "classifier.labels"),
                of("classifiers.d/gates.toml", 2, "colour"),
            ]
        );
    }

    #[test]
    fn several_faults_are_told_together() {
        let (dir, file) =
            site("[classifier]\nlabels = \"no.txt\"\ntemplates = \"t.txt\"\n[[source]]\npath = \"out\"\n");
        fs::write(dir.path().join("t.txt"), "no class\n").unwrap();
        let keys: Vec<_> = Report::of(&file).findings.into_iter().map(|f| (f.severity, f.line)).collect();
        assert_eq!(
            keys,
            [(Severity::Error, Some(2)), (Severity::Error, Some(3)), (Severity::Warning, Some(5))],
            "the source may come later"
        );
    }
}
