//! Changes of the configuration that a program requests. Each change is a change of files, which people may edit as
//! well.
//!
//! Only files of `classifiers.d` are written, and their comments are kept. The new files are first computed and then
//! written together. The change can be undone if the resulting configuration cannot be used.

use super::classifiers::DIR;
use super::{ConfigFile, Loaded};
use crate::edit::{Edit, New};
use coft_core::labels;
use coft_core::shown::{shown, shown_path};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use thiserror::Error;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

/// Why a change cannot be made.
#[derive(Debug, Error)]
pub enum EditError {
    /// The requested change is not possible.
    #[error("{0}")]
    Invalid(String),
    #[error(
        "{}: {cause}; let the service's user write there: chown coftd {}",
        shown_path(path),
        shown_path(dir_of(path))
    )]
    Write { path: PathBuf, cause: io::Error },
}

/// Files with their new content; files without content are to be removed.
#[derive(Debug, Default)]
pub struct Files(Vec<(PathBuf, Option<Vec<u8>>)>);

impl Edit {
    /// The files that have to change.
    ///
    /// # Errors
    /// The change is not possible; the error has the reason and the remedy.
    pub fn files(&self, file: &ConfigFile, loaded: &Loaded) -> Result<Files, EditError> {
        let dir = std::path::absolute(dir_of(&file.path)).unwrap_or_default().join(DIR);
        match self {
            Self::Create(new) => new.files(&dir),
            Self::Remove { name, .. } => {
                need_a_name(name)?;
                let path = dir.join(format!("{name}.toml"));
                // A file that cannot be read may be removed as well.
                if !path.exists() {
                    Own::read(file, loaded, name)?;
                }
                let (mut files, labels) = (vec![(path, None)], label_file(&dir, name));
                files.extend(labels.exists().then_some((labels, None)));
                Ok(Files(files))
            }
            Self::SetClasses { name, classes } => {
                let (mut own, labels) = (Own::read(file, loaded, name)?, label_file(&dir, name));
                let section = own.document.entry("classifier").or_insert(toml_edit::table());
                section["labels"] = value(shown_path(&labels).into_owned());
                Ok(Files(vec![(labels, Some(label_text(classes)?)), own.changed()]))
            }
            Self::AddSource { name, path, called } => {
                let mut own = Own::read(file, loaded, name)?;
                own.sources()?.push(source(path, called.as_deref()));
                Ok(Files(vec![own.changed()]))
            }
            Self::RemoveSource { name, source } => {
                let mut own = Own::read(file, loaded, name)?;
                let config = loaded.classifiers().find(|config| config.classifier.name == *name);
                let sources = config.map(|config| config.sources.as_slice()).unwrap_or_default();
                let index = sources.iter().position(|known| known.key() == Path::new(source)).ok_or_else(|| {
                    let there: Vec<_> = sources.iter().map(|known| shown_path(&known.key()).into_owned()).collect();
                    let there = if there.is_empty() { "none".into() } else { there.join(", ") };
                    EditError::Invalid(format!("{name} has no source {:?}; it has: {there}", shown(source.as_bytes())))
                })?;
                own.sources()?.remove(index);
                Ok(Files(vec![own.changed()]))
            }
        }
    }
}

impl New {
    fn files(&self, dir: &Path) -> Result<Files, EditError> {
        let Self { name, classes, model, template, watch } = self;
        need_a_name(name)?;
        let path = dir.join(format!("{name}.toml"));
        if path.exists() {
            let path = shown_path(&path);
            return Err(EditError::Invalid(format!("there is a classifier {name} already, in {path}")));
        }
        let (mut document, mut files) = (DocumentMut::new(), Vec::new());
        let mut section = Table::new();
        if !classes.is_empty() {
            let labels = label_file(dir, name);
            section["labels"] = value(shown_path(&labels).into_owned());
            files.push((labels, Some(label_text(classes)?)));
        }
        model.iter().for_each(|model| section["model"] = value(model));
        template.iter().for_each(|template| section["template"] = value(template));
        document["classifier"] = Item::Table(section);
        if !watch.is_empty() {
            document["source"] = Item::ArrayOfTables(watch.iter().map(|path| source(path, None)).collect());
        }
        // The classifier's file comes last, so that the class list that it names already exists when the file is read.
        files.push((path, Some(document.to_string().into_bytes())));
        Ok(Files(files))
    }
}

/// Whether this can be the name of a classifier, and so of its file and its directory.
pub fn is_a_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=64).contains(&name.len()) && name.bytes().all(plain)
}

fn need_a_name(name: &str) -> Result<(), EditError> {
    match is_a_name(name) {
        true => Ok(()),
        false => Err(EditError::Invalid(format!(
            "{:?} cannot be the name of a classifier; use 1 to 64 letters, digits and `_`",
            shown(name.as_bytes())
        ))),
    }
}

/// A classifier's own file, for editing.
struct Own {
    path: PathBuf,
    document: DocumentMut,
}

impl Own {
    fn read(file: &ConfigFile, loaded: &Loaded, name: &str) -> Result<Self, EditError> {
        let Some(other) = loaded.others.iter().find(|other| other.config.classifier.name == name) else {
            let path = shown_path(&file.path);
            if !loaded.classifiers().any(|config| config.classifier.name == name) {
                return Err(EditError::Invalid(format!(
                    "there is no classifier {name}; see which there are: coftctl classifier list"
                )));
            }
            return Err(EditError::Invalid(format!(
                "the classifier {name} stands in {path}, which the service does not write; edit it, then: \
                 coftctl reload"
            )));
        };
        let failed = |cause: String| EditError::Invalid(format!("{}: {cause}", shown_path(&other.path)));
        let text = fs::read_to_string(&other.path).map_err(|error| failed(error.to_string()))?;
        let document = text.parse().map_err(|error: toml_edit::TomlError| failed(error.message().to_owned()))?;
        Ok(Self { path: other.path.clone(), document })
    }

    fn sources(&mut self) -> Result<&mut ArrayOfTables, EditError> {
        let sources = self.document.entry("source").or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
        let path = shown_path(&self.path).into_owned();
        let inline = || EditError::Invalid(format!("{path}: write each source as [[source]], then try again"));
        sources.as_array_of_tables_mut().ok_or_else(inline)
    }

    fn changed(self) -> (PathBuf, Option<Vec<u8>>) {
        (self.path, Some(self.document.to_string().into_bytes()))
    }
}

fn source(path: &Path, called: Option<&str>) -> Table {
    let mut table = Table::new();
    called.iter().for_each(|called| table["name"] = value(*called));
    table["path"] = value(path.to_string_lossy().into_owned());
    table
}

/// Path of the class list for classes that a program has set.
fn label_file(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.labels.txt"))
}

fn label_text(classes: &[String]) -> Result<Vec<u8>, EditError> {
    let text: String = classes.iter().map(|class| format!("{class}\n")).collect();
    let read = labels::parse(text.as_bytes()).map_err(|error| EditError::Invalid(format!("classes: {error}")))?;
    match read.iter().map(|(_, class)| class).eq(classes) {
        true => Ok(text.into_bytes()),
        false => Err(EditError::Invalid(
            "classes: a name has a line break, blanks around it, or begins as a comment; write plain names".into(),
        )),
    }
}

impl Files {
    /// Writes all files, and returns the files that undo the change. If one cannot be written, all are restored.
    ///
    /// # Errors
    /// A file cannot be written or removed.
    pub fn write(self) -> Result<Files, EditError> {
        let mut before = Files::default();
        for (path, content) in self.0 {
            let old = match fs::read(&path) {
                Ok(old) => Some(old),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(cause) => return Err(before.after(path, cause)),
            };
            if let Err(cause) = put(&path, content.as_deref()) {
                return Err(before.after(path, cause));
            }
            before.0.insert(0, (path, old));
        }
        Ok(before)
    }

    /// Undoes the changes made before the one that failed.
    fn after(self, path: PathBuf, cause: io::Error) -> EditError {
        for (path, content) in self.0 {
            // A file that cannot be restored is reported at the next start.
            let _ = put(&path, content.as_deref());
        }
        EditError::Write { path, cause }
    }
}

/// Replaces a file's content, or removes the file. At any moment the disk has the old file or the new one.
fn put(path: &Path, content: Option<&[u8]>) -> io::Result<()> {
    let dir = dir_of(path);
    match content {
        Some(content) => {
            fs::create_dir_all(dir)?;
            coft_fs::replace_with(path, |new| {
                fs::write(new, content)?;
                // The same mode as files that administrators write; by default the service's files are readable for
                // itself alone.
                fs::set_permissions(new, Permissions::from_mode(0o644))
            })
        }
        None => {
            coft_fs::remove_tree(path)?;
            coft_fs::sync_dir(dir)
        }
    }
}

fn dir_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::super::Overrides;
    use super::*;
    use tempfile::TempDir;

    struct Site(TempDir, ConfigFile);

    impl Site {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("coft.toml"), "[[source]]\npath = \"parts\"\n").unwrap();
            let file = ConfigFile { path: dir.path().join("coft.toml"), overrides: Overrides::default() };
            Self(dir, file)
        }

        fn make(&self, edit: &Edit) -> Result<Files, String> {
            let loaded = self.1.read().unwrap();
            edit.files(&self.1, &loaded).and_then(Files::write).map_err(|error| error.to_string())
        }

        fn text(&self, file: &str) -> String {
            let text = fs::read_to_string(self.0.path().join(DIR).join(file)).unwrap();
            text.replace(self.0.path().to_str().unwrap(), "DIR")
        }

        fn files(&self) -> Vec<String> {
            let entries = fs::read_dir(self.0.path().join(DIR)).unwrap();
            let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    fn lamps() -> Edit {
        let classes = vec!["lamp on".into(), "lamp off".into()];
        let (model, template) = (Some("clip".into()), Some("a lamp that is {}.".into()));
        Edit::Create(New { name: "lamps".into(), classes, model, template, watch: vec!["/srv/lamps".into()] })
    }

    #[test]
    fn a_classifier_is_made_changed_and_removed_and_comments_stay() {
        let site = Site::new();
        site.make(&lamps()).unwrap();
        let text = "[classifier]\nlabels = \"DIR/classifiers.d/lamps.labels.txt\"\nmodel = \"clip\"\n\
                    template = \"a lamp that is {}.\"\n\n[[source]]\npath = \"/srv/lamps\"\n";
        assert_eq!(site.text("lamps.toml"), text);
        assert_eq!(site.text("lamps.labels.txt"), "lamp on\nlamp off\n");
        assert_eq!(site.1.read().unwrap().others[0].config.classifier.template, "a lamp that is {}.");

        let path = site.0.path().join(DIR).join("lamps.toml");
        let commented =
            format!("# The hall.\n{}", fs::read_to_string(&path).unwrap().replace("model", "# ours\nmodel"));
        fs::write(&path, &commented).unwrap();
        let (name, classes) = ("lamps".to_owned(), vec!["bright".to_owned(), "dark".to_owned()]);
        site.make(&Edit::SetClasses { name: name.clone(), classes }).unwrap();
        let (yard, called) = (PathBuf::from("/srv/yard"), Some("yard".to_owned()));
        site.make(&Edit::AddSource { name: name.clone(), path: yard, called }).unwrap();
        assert_eq!(site.text("lamps.labels.txt"), "bright\ndark\n");
        let added = format!("{}\n[[source]]\nname = \"yard\"\npath = \"/srv/yard\"\n", commented);
        assert_eq!(fs::read_to_string(&path).unwrap(), added);
        site.make(&Edit::RemoveSource { name: name.clone(), source: "/srv/lamps".into() }).unwrap();
        let sources = &site.1.read().unwrap().others[0].config.sources;
        assert_eq!((sources.len(), sources[0].name.as_deref()), (1, Some("yard")));
        site.make(&Edit::Remove { name, purge: false }).unwrap();
        assert!(site.files().is_empty());
    }

    #[test]
    fn what_cannot_be_is_refused_and_changes_nothing() {
        let site = Site::new();
        site.make(&lamps()).unwrap();
        let before = (site.files(), site.text("lamps.toml"));
        let set = |classes: &[&str]| {
            let classes = classes.iter().map(|&class| class.into()).collect();
            Edit::SetClasses { name: "lamps".into(), classes }
        };
        for (edit, told) in [
            (lamps(), "there is a classifier lamps already"),
            (Edit::Create(New { name: "../x".into(), ..New::default() }), "cannot be the name of a classifier"),
            (set(&["on"]), "classes: class names: 1"),
            (set(&["on", "on"]), "classes: line 2: class \"on\" was already named"),
            (set(&["on", "off\nout"]), "classes: a name has a line break"),
            (set(&["on", "# off", "out"]), "classes: a name has a line break"),
            (Edit::Remove { name: "default".into(), purge: false }, "which the service does not write; edit it"),
            (Edit::RemoveSource { name: "lamps".into(), source: "/srv".into() }, "it has: /srv/lamps"),
        ] {
            let problem = site.make(&edit).unwrap_err();
            assert!(problem.contains(told), "{edit:?}: {problem}");
        }
        assert_eq!((site.files(), site.text("lamps.toml")), before);
    }

    #[test]
    fn a_change_is_taken_back_as_a_whole() {
        let site = Site::new();
        let undo = site.make(&lamps()).unwrap();
        undo.write().unwrap();
        assert!(site.files().is_empty());
        site.make(&lamps()).unwrap();
        let before = (site.text("lamps.toml"), site.text("lamps.labels.txt"));
        let edit = Edit::SetClasses { name: "lamps".into(), classes: vec!["bright".into(), "dark".into()] };
        site.make(&edit).unwrap().write().unwrap();
        assert_eq!((site.text("lamps.toml"), site.text("lamps.labels.txt")), before);
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_named() {
        let site = Site::new();
        fs::write(site.0.path().join(DIR), "a file is in the way").unwrap();
        let loaded = site.1.read();
        // The directory cannot be listed either.
        assert!(loaded.is_err());
        fs::remove_file(site.0.path().join(DIR)).unwrap();
        let loaded = site.1.read().unwrap();
        let files = lamps().files(&site.1, &loaded).unwrap();
        fs::write(site.0.path().join(DIR), "a file is in the way").unwrap();
        let problem = files.write().unwrap_err().to_string();
        assert!(problem.contains("let the service's user write there"), "{problem}");
    }
}
