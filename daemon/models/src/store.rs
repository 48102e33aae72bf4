//! The store: a directory in which each model has the digest of its content as its name, and in which other names point
//! to some of the models.
//!
//! ```text
//! sha256-DIGEST/        the files, read-only, and model.json, which describes them and their origin
//! names/NAME            symbolic link to one of those
//! .incoming-*           a model that is being put together; the next change of the store removes abandoned ones
//! .lock                 locked by the process that changes the store
//! ```
//!
//! The weights are safetensors. A coft of an earlier version also kept pickles; such a model is listed, and
//! [`Entry::model`] says how to import it again.
//!
//! A model appears by one rename, after all of it is on the disk; so does a name. Readers need no lock. Every user who
//! may write to the directory may change the store: there is no other access control.

mod record;

pub use record::{FileRecord, RECORD, Record};

use crate::error::ModelError;
use crate::layout::ModelFiles;
use crate::model::Model;
use coft_core::shown::shown_path;
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why the store cannot be read or changed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A file or directory cannot be read or written.
    #[error("{}: {source}", shown_path(path))]
    Io {
        /// Its path.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The disk is full, or the quota is used up.
    #[error("no space is left on the disk of {}; make room, then run this again", shown_path(path))]
    Full {
        /// The file or directory that could not be written.
        path: PathBuf,
    },
    /// This user may not change the store.
    #[error(
        "the store {} may not be changed by this user; run this as the user who owns it (sudo -u coftd …)",
        shown_path(dir)
    )]
    NotAllowed {
        /// Directory of the store.
        dir: PathBuf,
    },
    /// Another program is changing the store now.
    #[error("the store {} is being changed by another program; try again when it is done", shown_path(dir))]
    Busy {
        /// Directory of the store.
        dir: PathBuf,
    },
    /// No model has this name or digest.
    #[error("there is no model {name:?} in {}", shown_path(dir))]
    Unknown {
        /// The name or digest that was asked for.
        name: String,
        /// Directory of the store.
        dir: PathBuf,
    },
    /// The first digits of a digest fit several models.
    #[error("{name:?} fits several models: {}; give more of the digest", candidates.join(", "))]
    Ambiguous {
        /// The digits that were asked for.
        name: String,
        /// The first 12 digits of each model's digest.
        candidates: Vec<String>,
    },
    /// This is not allowed as a name, see [`check_name`].
    #[error(
        "{name:?} is no name for a model: use 1 to 100 letters, digits, `.`, `_` and `-`, no `.` or `-` first, and not the form of a digest"
    )]
    BadName {
        /// The name.
        name: String,
    },
    /// The name belongs to a model of another origin.
    #[error(
        "the name {name:?} is that of another model, from {source_of}; choose one with --name, or remove that first"
    )]
    NameTaken {
        /// The name.
        name: String,
        /// Where the model with this name came from.
        source_of: String,
    },
    /// A file of the store differs from its record.
    #[error("{}: {problem}", shown_path(path))]
    Damaged {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with it, in words.
        problem: String,
    },
    /// An earlier coft has installed the model with its pickles.
    #[error(
        "an earlier coft imported this model with its PyTorch pickle {pickle}, and this one reads safetensors: run \
         coftctl model --store {} import {}{}",
        shown_path(store),
        shown_path(dir),
        if *named { String::new() } else { format!(" --name NAME, then remove it: coftctl model remove {digest}") }
    )]
    Earlier {
        /// Name of the pickle, or of the index of its shards.
        pickle: String,
        /// Directory of the store.
        store: PathBuf,
        /// What to import: the link with a name of the model, or its directory.
        dir: PathBuf,
        /// The first digits of its digest.
        digest: String,
        /// Whether the model has a name.
        named: bool,
    },
    /// The files are not a usable model.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl StoreError {
    /// The error for `source` at `path`. A full disk is a case of its own.
    pub fn at(path: &Path) -> impl Fn(io::Error) -> StoreError + use<> {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                StoreError::Full { path: path.clone() }
            }
            _ => StoreError::Io { path: path.clone(), source },
        }
    }
}

/// A directory of models. Making this value does not access the disk.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
}

/// A model of the store.
#[derive(Clone, Debug)]
pub struct Entry {
    /// SHA-256 over the list of its files, hex. It identifies the model.
    pub digest: String,
    /// Where its files are.
    pub dir: PathBuf,
    /// The names that point to it, sorted; empty where there are none.
    pub names: Vec<String>,
    /// The content of its `model.json`.
    pub record: Record,
}

impl Entry {
    /// Opens the model, see [`Model::open`].
    ///
    /// # Errors
    /// [`StoreError::Earlier`] if an earlier coft has installed it with pickles; [`StoreError::Model`] otherwise.
    pub fn model(&self) -> Result<Model, StoreError> {
        self.check_format()?;
        Ok(Model::open(&self.dir)?)
    }

    /// Checks that the weights are not pickles. Reads nothing but descriptions.
    ///
    /// # Errors
    /// [`StoreError::Earlier`].
    pub fn check_format(&self) -> Result<(), StoreError> {
        // A directory without weights is reported when the model is opened.
        let Ok(files) = ModelFiles::find(&self.dir) else { return Ok(()) };
        if !files.is_pickled() {
            return Ok(());
        }
        let store = coft_fs::parent(&self.dir).to_owned();
        let dir = self.names.first().map_or_else(|| self.dir.clone(), |name| store.join(NAMES).join(name));
        let (digest, named) = (self.digest.chars().take(12).collect(), !self.names.is_empty());
        Err(StoreError::Earlier { pickle: files.weights_name().into_owned(), store, dir, digest, named })
    }
}

/// The exclusive right to change the store, and a directory in which a model is put together.
#[derive(Debug)]
pub struct Incoming<'a> {
    store: &'a Store,
    dir: PathBuf,
    /// The files from which the weights were converted; see [`Record::converted_from`].
    pub converted_from: BTreeMap<String, FileRecord>,
    _lock: File,
}

const NAMES: &str = "names";
const INCOMING: &str = ".incoming-";
const LOCK: &str = ".lock";
const PREFIX: &str = "sha256-";
/// Fewest digits of a digest that may be used in its place.
const SHORTEST: usize = 6;

impl Store {
    /// The store in a directory, which need not exist yet.
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The directory of the store.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Every model, those with names first, by name.
    ///
    /// # Errors
    /// The directory or a record in it cannot be read, or a record is damaged. A store that does not exist is empty.
    pub fn list(&self) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        let names = self.names()?;
        for (path, file_name) in children(&self.dir)? {
            let Some(digest) = file_name.strip_prefix(PREFIX) else { continue };
            entries.push(self.entry(digest, path, &names)?);
        }
        entries
            .sort_by(|a, b| (a.names.is_empty(), &a.names, &a.digest).cmp(&(b.names.is_empty(), &b.names, &b.digest)));
        Ok(entries)
    }

    /// Finds a model by its name, its digest, or the first digits of its digest (with or without `sha256-` or `sha256:`
    /// before them).
    ///
    /// # Errors
    /// [`StoreError::Unknown`] and [`StoreError::Ambiguous`]; otherwise the store cannot be read, or the model's record
    /// is damaged.
    pub fn find(&self, name: &str) -> Result<Entry, StoreError> {
        let names = self.names()?;
        if let Some((_, digest)) = names.iter().find(|(known, _)| known == name) {
            return self.entry(digest, self.dir.join(format!("{PREFIX}{digest}")), &names);
        }
        let digits = name.strip_prefix(PREFIX).or(name.strip_prefix("sha256:")).unwrap_or(name);
        let unknown = || StoreError::Unknown { name: name.to_owned(), dir: self.dir.clone() };
        if digits.len() < SHORTEST || !is_hex(digits) {
            return Err(unknown());
        }
        let fits = |(path, file): (PathBuf, String)| {
            let digest = file.strip_prefix(PREFIX)?.to_owned();
            digest.starts_with(digits).then_some((path, digest))
        };
        let mut found: Vec<_> = children(&self.dir)?.into_iter().filter_map(fits).collect();
        match found.len() {
            0 => Err(unknown()),
            1 => {
                let (path, digest) = found.pop().expect("there is one");
                self.entry(&digest, path, &names)
            }
            _ => {
                let candidates = found.into_iter().map(|(_, digest)| digest[..12].to_owned()).collect();
                Err(StoreError::Ambiguous { name: name.to_owned(), candidates })
            }
        }
    }

    fn entry(&self, digest: &str, dir: PathBuf, names: &[(String, String)]) -> Result<Entry, StoreError> {
        let record = Record::read(&dir)?;
        let names = names.iter().filter(|(_, of)| of == digest).map(|(name, _)| name.clone()).collect();
        Ok(Entry { digest: digest.to_owned(), dir, names, record })
    }

    /// The names, and the digests that they point to.
    fn names(&self) -> Result<Vec<(String, String)>, StoreError> {
        let mut names = Vec::new();
        for (path, name) in children(&self.dir.join(NAMES))? {
            let target = fs::read_link(&path).map_err(StoreError::at(&path))?;
            let digest = target.file_name().and_then(|target| target.to_str()?.strip_prefix(PREFIX));
            if let Some(digest) = digest {
                names.push((name, digest.to_owned()));
            }
        }
        names.sort();
        Ok(names)
    }

    /// Begins a change. Remains of an interrupted change are removed, except for downloads, which can be continued.
    ///
    /// # Errors
    /// [`StoreError::NotAllowed`] and [`StoreError::Busy`]; otherwise the directory cannot be made or cleared.
    pub fn incoming(&self) -> Result<Incoming<'_>, StoreError> {
        let not_allowed = |source: io::Error| match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                StoreError::NotAllowed { dir: self.dir.clone() }
            }
            _ => StoreError::at(&self.dir)(source),
        };
        DirBuilder::new().recursive(true).mode(0o755).create(self.dir.join(NAMES)).map_err(not_allowed)?;
        let lock = File::create(self.dir.join(LOCK)).map_err(not_allowed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(StoreError::Busy { dir: self.dir.clone() }),
            Err(fs::TryLockError::Error(source)) => return Err(StoreError::at(&self.dir)(source)),
        }
        for (path, name) in children(&self.dir)? {
            if name.starts_with(INCOMING) {
                remove(&path)?;
            }
        }
        let dir = self.dir.join(format!("{INCOMING}{}", std::process::id()));
        DirBuilder::new().mode(0o755).create(&dir).map_err(not_allowed)?;
        Ok(Incoming { store: self, dir, converted_from: BTreeMap::new(), _lock: lock })
    }

    /// Compares every file of a model with its record, and stops at the first difference.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] names the first file that differs from the record; otherwise a file cannot be read, or
    /// the files are not a usable model.
    pub fn verify(&self, entry: &Entry, mut progress: impl FnMut(&str, u64)) -> Result<(), StoreError> {
        for (name, file) in &entry.record.files {
            let path = entry.dir.join(name);
            let digest = coft_fs::sha256_file(&path).map_err(StoreError::at(&path))?;
            if digest != file.sha256 {
                let problem =
                    format!("its SHA-256 is {digest}, it came with {}; remove the model and get it again", file.sha256);
                return Err(StoreError::Damaged { path, problem });
            }
            progress(name, file.size);
        }
        if entry.record.digest() != entry.digest {
            let problem = format!("its list of files is not the one that {} stands for", entry.digest);
            return Err(StoreError::Damaged { path: entry.dir.join(RECORD), problem });
        }
        Ok(entry.model()?.check()?)
    }

    /// Removes a model's names, then its files. A classifier that uses the model cannot find it at its next start.
    ///
    /// # Errors
    /// The store cannot be changed, see [`Store::incoming`], or a file cannot be removed.
    pub fn remove(&self, entry: &Entry) -> Result<(), StoreError> {
        let _change = self.incoming()?;
        for name in &entry.names {
            let path = self.dir.join(NAMES).join(name);
            fs::remove_file(&path).map_err(StoreError::at(&path))?;
        }
        sync(&self.dir.join(NAMES))?;
        self.remove_files(entry)
    }

    /// Removes a model's files. Only who holds an [`Incoming`] may call this.
    fn remove_files(&self, entry: &Entry) -> Result<(), StoreError> {
        // Moved away first, so that the model disappears at once even if removing its files fails.
        let away = self.dir.join(format!("{INCOMING}removed"));
        remove(&away)?;
        fs::rename(&entry.dir, &away).map_err(StoreError::at(&entry.dir))?;
        sync(&self.dir)?;
        remove(&away)
    }
}

/// The result of an installation.
#[derive(Debug)]
pub struct Installed {
    /// The model in the store.
    pub entry: Entry,
    /// Whether the same content was in the store before; then at most a name is new.
    pub already: bool,
}

impl Incoming<'_> {
    /// Directory for the model's files, without subdirectories.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Checks the files in the directory, and installs them as a model of the store under a name.
    ///
    /// # Errors
    /// [`StoreError::BadName`] and [`StoreError::NameTaken`]; [`StoreError::Model`] where the files are not a usable
    /// model; otherwise a file cannot be read or written. After an error the store is unchanged, or it has the model
    /// without the name.
    ///
    /// If the name was that of a model with pickles, that model is removed with its last name.
    pub fn install(self, name: &str, source: &str) -> Result<Installed, StoreError> {
        check_name(name)?;
        let Self { store, dir, converted_from, .. } = &self;
        let taken = store.names()?.into_iter().find(|(known, _)| known == name).map(|(_, digest)| digest);
        if let Some(digest) = &taken {
            let other = Record::read(&store.dir.join(format!("{PREFIX}{digest}")))?;
            if origin(&other.source) != origin(source) {
                return Err(StoreError::NameTaken { name: name.to_owned(), source_of: other.source });
            }
        }
        let model = Model::open(dir)?;
        model.check()?;
        let record = Record { converted_from: converted_from.clone(), ..Record::make(&model, source)? };
        let digest = record.digest();
        let home = store.dir.join(format!("{PREFIX}{digest}"));
        let already = home.is_dir();
        if !already {
            record.write(dir)?;
            for (path, _) in children(dir)? {
                fs::set_permissions(&path, Permissions::from_mode(0o444)).map_err(StoreError::at(&path))?;
                sync(&path)?;
            }
            sync(dir)?;
            fs::rename(dir, &home).map_err(StoreError::at(&home))?;
            sync(&store.dir)?;
        }
        // The link is made under a temporary name and then renamed over the old link.
        let (names, fresh) = (store.dir.join(NAMES), store.dir.join(format!("{INCOMING}name")));
        remove(&fresh)?;
        symlink(Path::new("..").join(format!("{PREFIX}{digest}")), &fresh).map_err(StoreError::at(&fresh))?;
        let link = names.join(name);
        fs::rename(&fresh, &link).map_err(StoreError::at(&link))?;
        sync(&names)?;
        sync(&store.dir)?;
        if let Some(before) = taken.filter(|before| *before != digest) {
            let before = store.find(&before)?;
            if before.names.is_empty() && before.check_format().is_err() {
                // The new model is installed. What cannot be removed stays in the list, with what to do about it.
                let _ = store.remove_files(&before);
            }
        }
        let entry = store.find(&digest)?;
        Ok(Installed { entry, already })
    }
}

impl Drop for Incoming<'_> {
    fn drop(&mut self) {
        // After an installation the directory is gone. After a failure its remains are removed here, or by the next
        // change.
        let _ = remove(&self.dir);
    }
}

/// Checks that a model may have this name. A digest is not allowed, since it would identify another model.
///
/// # Errors
/// [`StoreError::BadName`]: a name has 1 to 100 letters, digits, `.`, `_` and `-`, begins with none of `.` and `-`, and
/// does not have the form of a digest.
pub fn check_name(name: &str) -> Result<(), StoreError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let digest = name.starts_with(PREFIX) || (name.len() >= SHORTEST && is_hex(name));
    if first && name.len() <= 100 && name.bytes().all(plain) && !digest {
        return Ok(());
    }
    Err(StoreError::BadName { name: name.to_owned() })
}

/// The part of `owner/name@revision` before the revision: another revision may take over a name, another repository may
/// not.
fn origin(source: &str) -> &str {
    source.split('@').next().unwrap_or(source)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// The entries of a directory, sorted; empty if it does not exist.
fn children(dir: &Path) -> Result<Vec<(PathBuf, String)>, StoreError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StoreError::at(dir)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(StoreError::at(dir))?;
        if let Ok(name) = entry.file_name().into_string() {
            found.push((entry.path(), name));
        }
    }
    found.sort();
    Ok(found)
}

fn sync(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(StoreError::at(path))
}

/// Removes a file, link or directory. It is no error if it does not exist.
fn remove(path: &Path) -> Result<(), StoreError> {
    coft_fs::remove_tree(path).map_err(StoreError::at(path))
}

#[cfg(test)]
mod tests;
