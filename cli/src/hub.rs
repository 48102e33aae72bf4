//! Downloads of a model repository: which of its files are wanted, and whether they are what the hub says they are.
//!
//! The transport is `hf-hub`, which honours HF_ENDPOINT, HF_HOME and the token there, and goes on with a file where it
//! was interrupted. Under HF_HUB_OFFLINE nothing is asked; files come from the cache that other programs filled. A file's
//! name at the hub is its content's digest (SHA-256, or git's for small ones), and no file is taken that has another.

use crate::failure::Failure;
use crate::render;
use coft_models::store::StoreError;
use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use indicatif::ProgressBar;
use sha1::Digest;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

/// Times that a broken download is gone on with; each try waits longer than the one before, 10 s at most. [choice]
const RETRIES: usize = 4;
/// Below the store, so that a finished file becomes part of a model without being copied.
const DOWNLOADS: &str = ".downloads";
/// Files that say what a model is; whichever of them there are.
const DESCRIPTIONS: [&str; 7] = [
    "config.json",
    "open_clip_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "bpe_simple_vocab_16e6.txt.gz",
];
/// The weights; the first of them that is there is enough. An index brings its shards.
const WEIGHTS: [&str; 6] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_pytorch_model.bin",
];

pub struct Download {
    id: String,
    revision: String,
    /// None where nothing may be asked.
    online: Option<Online>,
    cache: Cache,
    dir: PathBuf,
}

struct Online {
    api: ApiRepo,
    hub: hf_hub::api::sync::Api,
    commit: String,
    files: Vec<String>,
}

impl Download {
    /// Asks the hub which commit a revision is, and which files it has.
    pub fn new(store: &Path, id: &str, revision: Option<&str>) -> Result<Self, Failure> {
        let revision = revision.unwrap_or("main").to_owned();
        let dir = store.join(DOWNLOADS);
        let repo = |revision: String| Repo::with_revision(id.to_owned(), RepoType::Model, revision);
        if offline() {
            return Ok(Self { id: id.to_owned(), revision, online: None, cache: Cache::from_env(), dir });
        }
        let builder = ApiBuilder::from_env().with_cache_dir(dir.clone()).with_retries(RETRIES);
        let hub = builder.build().map_err(|error| failed(&error, "the hub"))?;
        let info = hub.repo(repo(revision.clone())).info().map_err(|error| failed(&error, id))?;
        let files = info.siblings.into_iter().map(|file| file.rfilename).collect();
        // From here on the commit stands for the revision: it cannot move while files are fetched.
        let api = hub.repo(repo(info.sha.clone()));
        let online = Some(Online { api, hub, commit: info.sha, files });
        Ok(Self { id: id.to_owned(), revision, online, cache: Cache::new(dir.clone()), dir })
    }

    /// What the revision is at the hub; unknown where nothing may be asked.
    pub fn commit(&self) -> Option<&str> {
        self.online.as_ref().map(|online| online.commit.as_str())
    }

    /// Puts the model's files into `to` and says of which commit they are.
    pub fn fetch(&self, to: &Path) -> Result<String, Failure> {
        let mut found = false;
        for name in DESCRIPTIONS {
            found |= self.file(name, to)?;
        }
        let mut weights = None;
        for name in WEIGHTS {
            // Two kinds of description may lie side by side; the weights decide, in the order that layouts are looked for.
            if self.file(name, to)? {
                weights = Some(name.to_owned());
                break;
            }
        }
        if weights.is_none()
            && let Some(archive) = self.archive()
        {
            self.file(&archive, to)?;
            weights = Some(archive);
        }
        let Some(weights) = weights.filter(|_| found || self.online.is_some()) else {
            let place = if self.online.is_some() { "the repository" } else { "the cache (HF_HUB_OFFLINE is set)" };
            return Err(Failure::Hub(format!(
                "{}: {place} has no weights of a CLIP; looked for {}",
                self.id,
                WEIGHTS.join(", ")
            )));
        };
        if weights.ends_with(".index.json") {
            for shard in shards(&to.join(&weights))? {
                if !self.file(&shard, to)? {
                    return Err(Failure::Hub(format!("{}: {weights} lists {shard}, which is not there", self.id)));
                }
            }
        }
        Ok(self.online.as_ref().map_or_else(|| self.revision.clone(), |online| online.commit.clone()))
    }

    /// Removes what was kept to go on with; the model is installed.
    pub fn forget(&self) {
        if self.online.is_some() {
            // What cannot be removed now costs space, and is found again by the next download of the same files.
            let _ = fs::remove_dir_all(self.dir.join(Repo::model(self.id.clone()).folder_name()));
            let _ = fs::remove_dir(&self.dir);
        }
    }

    /// A single PyTorch archive, as OpenAI's models come.
    fn archive(&self) -> Option<String> {
        let files = &self.online.as_ref()?.files;
        let mut archives = files.iter().filter(|name| name.ends_with(".pt") && !name.contains('/'));
        archives.next().filter(|_| archives.next().is_none()).cloned()
    }

    /// One file, verified; false where the repository has none of that name.
    fn file(&self, name: &str, to: &Path) -> Result<bool, Failure> {
        let path = match &self.online {
            None => {
                self.cache.repo(Repo::with_revision(self.id.clone(), RepoType::Model, self.revision.clone())).get(name)
            }
            Some(online) if online.files.iter().any(|file| file == name) => Some(self.downloaded(online, name)?),
            Some(_) => None,
        };
        let Some(path) = path else { return Ok(false) };
        let path = fs::canonicalize(&path).map_err(StoreError::at(&path))?;
        let expected = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        match matches(&path, &expected).map_err(StoreError::at(&path))? {
            Some(true) => {}
            Some(false) => {
                if self.online.is_some() {
                    // Going on with it would never end well.
                    fs::remove_file(&path).map_err(StoreError::at(&path))?;
                }
                return Err(Failure::Hub(format!(
                    "{}: {name} is not what the hub announced (digest {expected}); it was thrown away, try again",
                    self.id
                )));
            }
            None => {
                return Err(Failure::Hub(format!(
                    "{}: the hub gives no digest for {name} that could be checked ({expected:?})",
                    self.id
                )));
            }
        }
        let target = to.join(name);
        // A second name for the same bytes; where that cannot be (the cache may be on another disk), a copy.
        if fs::hard_link(&path, &target).is_err() {
            fs::copy(&path, &target).map_err(StoreError::at(&target))?;
        }
        Ok(true)
    }

    fn downloaded(&self, online: &Online, name: &str) -> Result<PathBuf, Failure> {
        let repo = Repo::with_revision(self.id.clone(), RepoType::Model, online.commit.clone());
        if let Some(path) = self.cache.repo(repo).get(name) {
            return Ok(path);
        }
        let failed = |error: ApiError| match error {
            ApiError::IoError(source) => StoreError::at(&self.dir)(source).into(),
            ApiError::TooManyRetries(inner) => match *inner {
                ApiError::IoError(source) if is_local(&source) => StoreError::at(&self.dir)(source).into(),
                inner => failed(&inner, name),
            },
            other => failed(&other, name),
        };
        let size = online.hub.metadata(&online.api.url(name)).map_err(&failed)?.size() as u64;
        if io::stderr().is_terminal() {
            let bar = ProgressBar::new(size);
            online.api.download_with_progress(name, bar).map_err(&failed)
        } else {
            eprintln!("downloading {name}, {}", render::bytes(size));
            online.api.download_with_progress(name, ()).map_err(&failed)
        }
    }
}

/// The setting of the Python library, in its words.
fn offline() -> bool {
    std::env::var("HF_HUB_OFFLINE")
        .is_ok_and(|value| ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str()))
}

/// Whether an error is of this machine's disk rather than of the connection.
fn is_local(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge | PermissionDenied | ReadOnlyFilesystem)
}

fn failed(error: &ApiError, what: &str) -> Failure {
    let text = error.to_string();
    let hint = if text.contains("404") {
        "is there such a repository and revision?"
    } else if text.contains("401") || text.contains("403") {
        "it may ask for a login: put a token into the file that HF_HOME names, or use one that is open"
    } else {
        "run the same command again to go on where it stopped; HF_ENDPOINT names another server"
    };
    Failure::Hub(format!("{what}: {text}\n  {hint}"))
}

/// Whether a file has the digest: SHA-256 in 64 digits, or git's of a blob in 40. None for any other.
fn matches(path: &Path, expected: &str) -> io::Result<Option<bool>> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    if !expected.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(None);
    }
    match expected.len() {
        64 => Ok(Some(coft_models::file_digest(path)? == expected)),
        40 => {
            let mut file = File::open(path)?;
            let mut hash = sha1::Sha1::new();
            hash.update(format!("blob {}\0", file.metadata()?.len()));
            let mut buffer = vec![0; 1 << 16];
            loop {
                match file.read(&mut buffer)? {
                    0 => return Ok(Some(hex(&hash.finalize()) == expected)),
                    read => hash.update(&buffer[..read]),
                }
            }
        }
        _ => Ok(None),
    }
}

fn shards(index: &Path) -> Result<Vec<String>, Failure> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let text = fs::read(index).map_err(StoreError::at(index))?;
    let Index { weight_map } =
        serde_json::from_slice(&text).map_err(|error| Failure::Hub(format!("{}: {error}", index.display())))?;
    let mut shards: Vec<String> = weight_map.into_values().collect();
    shards.sort();
    shards.dedup();
    match shards.iter().find(|shard| shard.contains('/') || shard.starts_with('.')) {
        Some(shard) => Err(Failure::Hub(format!("{}: {shard:?} is no name of a shard", index.display()))),
        None => Ok(shards),
    }
}
