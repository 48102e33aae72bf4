//! Downloads of a model repository: which of its files are wanted, and whether they are what the hub says they are.
//!
//! HF_ENDPOINT names the hub, HF_HOME where a token and the cache of other programs are. Under HF_HUB_OFFLINE nothing
//! is asked; files come from that cache. A file is taken if its content has the digest that the hub states of it
//! (SHA-256, or git's for small ones), and no other is.

mod transport;

use crate::error::CliError;
use crate::render;
use coft_core::shown::shown_path;
use coft_models::store::StoreError;
use coft_models::{ARCHIVE, DESCRIPTIONS, tokenizer, weights_named_in};
use hf_hub::{Cache, Repo, RepoType};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use sha1::Digest;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};
use transport::{Hub, Problem};

/// Below the store, so that a finished file becomes part of a model without being copied.
const DOWNLOADS: &str = ".downloads";
/// Behind the name of a file that is not complete, or not yet held against its digest.
const PART: &str = "part";

pub struct Download {
    id: String,
    revision: String,
    origin: Origin,
    dir: PathBuf,
}

enum Origin {
    Hub(Online),
    /// Of other programs, where nothing may be asked.
    Cache(Cache),
}

struct Online {
    hub: Hub,
    commit: String,
    files: BTreeMap<String, Listed>,
}

/// What the hub says of a repository.
#[derive(Deserialize)]
struct Info {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    #[serde(flatten)]
    listed: Listed,
}

/// What it says of a file there; mirrors leave out all of it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    blob_id: Option<String>,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
}

impl Listed {
    /// Of a large file the other digest is that of a note in its place.
    fn digest(&self) -> Option<&str> {
        let stated = match &self.lfs {
            Some(lfs) => lfs.sha256.as_deref(),
            None => self.blob_id.as_deref(),
        };
        stated.filter(|digest| is_digest(digest))
    }
}

impl Download {
    /// Asks the hub which commit a revision is, and which files it has.
    ///
    /// # Errors
    /// Where the hub cannot be reached, or does not know the repository.
    pub fn new(store: &Path, id: &str, revision: Option<&str>) -> Result<Self, CliError> {
        let revision = revision.unwrap_or("main").to_owned();
        let (dir, cache) = (store.join(DOWNLOADS), Cache::from_env());
        let origin = if offline() {
            Origin::Cache(cache)
        } else {
            let hub = Hub::from_env(cache.token()).map_err(Problem::failure)?;
            let parts = ["api", "models"].into_iter().chain(id.split('/')).chain(["revision", &revision]);
            let url = hub.url(parts) + "?blobs=true";
            let Info { sha, siblings } = hub.ask(&url).map_err(Problem::failure)?;
            if sha.is_empty() || !sha.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                return Err(CliError::Hub(format!("{url}: the server says that {revision} is the commit {sha:?}")));
            }
            // From here on the commit stands for the revision: it cannot move while files are fetched.
            let files = siblings.into_iter().map(|file| (file.rfilename, file.listed)).collect();
            Origin::Hub(Online { hub, commit: sha, files })
        };
        Ok(Self { id: id.to_owned(), revision, origin, dir })
    }

    /// What the revision is at the hub; unknown where nothing may be asked.
    pub fn commit(&self) -> Option<&str> {
        match &self.origin {
            Origin::Hub(online) => Some(&online.commit),
            Origin::Cache(_) => None,
        }
    }

    /// Puts the model's files into `to` and says of which commit they are.
    ///
    /// # Errors
    /// Where a file cannot be had, is not what the hub says, or there are no weights of a CLIP.
    pub fn fetch(&self, to: &Path) -> Result<String, CliError> {
        for name in DESCRIPTIONS.into_iter().chain(tokenizer::FILES) {
            self.file(name, to)?;
        }
        // Two kinds of description may lie side by side; which weights are meant, they say together.
        let known = weights_named_in(to);
        let mut weights = None;
        for name in &known {
            if self.file(name, to)? {
                weights = Some((*name).to_owned());
                break;
            }
        }
        if weights.is_none()
            && let Some(archive) = self.archive()
        {
            self.file(&archive, to)?;
            weights = Some(archive);
        }
        let Some(weights) = weights else {
            let place = match &self.origin {
                Origin::Hub(_) => "the repository",
                Origin::Cache(_) => "the cache (HF_HUB_OFFLINE is set)",
            };
            let lacking = match known.is_empty() {
                true => format!("has neither {} nor a single .{ARCHIVE} file", DESCRIPTIONS[..2].join(" nor ")),
                false => format!("has no weights of a CLIP; looked for {}", known.join(", ")),
            };
            return Err(CliError::Hub(format!("{}: {place} {lacking}", self.id)));
        };
        if weights.ends_with(".index.json") {
            for shard in shards(&to.join(&weights))? {
                if !self.file(&shard, to)? {
                    return Err(CliError::Hub(format!("{}: {weights} lists {shard}, which is not there", self.id)));
                }
            }
        }
        Ok(self.commit().unwrap_or(&self.revision).to_owned())
    }

    /// Removes what was kept to go on with; the model is installed.
    pub fn forget(&self) {
        if let Origin::Hub(_) = self.origin {
            // What cannot be removed now costs space, and is found again by the next download of the same files.
            let _ = fs::remove_dir_all(self.kept());
            let _ = fs::remove_dir(&self.dir);
        }
    }

    /// Where the files of all commits are kept while they are fetched.
    fn kept(&self) -> PathBuf {
        self.dir.join(Repo::model(self.id.clone()).folder_name())
    }

    /// A single PyTorch archive, as OpenAI's models come.
    fn archive(&self) -> Option<String> {
        let Origin::Hub(online) = &self.origin else { return None };
        let extension = format!(".{ARCHIVE}");
        let mut archives = online.files.keys().filter(|name| name.ends_with(&extension) && !name.contains('/'));
        archives.next().filter(|_| archives.next().is_none()).cloned()
    }

    /// One file, verified; false where there is none of that name.
    fn file(&self, name: &str, to: &Path) -> Result<bool, CliError> {
        let path = match &self.origin {
            Origin::Cache(cache) => self.cached(cache, name)?,
            Origin::Hub(online) => {
                online.files.get(name).map(|listed| self.downloaded(online, name, listed)).transpose()?
            }
        };
        let Some(path) = path else { return Ok(false) };
        let target = to.join(name);
        // A second name for the same bytes; where that cannot be (the cache may be on another disk), a copy.
        if fs::hard_link(&path, &target).is_err() {
            fs::copy(&path, &target).map_err(StoreError::at(&target))?;
        }
        Ok(true)
    }

    /// What other programs have downloaded: they name a file's content by its digest.
    fn cached(&self, cache: &Cache, name: &str) -> Result<Option<PathBuf>, CliError> {
        let repo = Repo::with_revision(self.id.clone(), RepoType::Model, self.revision.clone());
        let Some(path) = cache.repo(repo).get(name) else { return Ok(None) };
        let path = fs::canonicalize(&path).map_err(StoreError::at(&path))?;
        let digest = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let problem = match is_digest(digest) {
            true if matches(&path, digest).map_err(StoreError::at(&path))? => return Ok(Some(path)),
            true => format!("its content has not the digest {digest}; have the program that downloaded it do so again"),
            false => "its name is no digest, so that it cannot be checked".to_owned(),
        };
        Err(CliError::Hub(format!("{}: {}: {problem}", self.id, shown_path(&path))))
    }

    fn downloaded(&self, online: &Online, name: &str, listed: &Listed) -> Result<PathBuf, CliError> {
        let dir = self.kept().join(&online.commit);
        fs::create_dir_all(&dir).map_err(StoreError::at(&dir))?;
        let (whole, part) = (dir.join(name), dir.join(format!("{name}.{PART}")));
        if whole.is_file() {
            return Ok(whole);
        }
        let bar = progress(name, listed.size);
        let url = online.hub.url(self.id.split('/').chain(["resolve", &online.commit, name]));
        let digest = online.hub.fetch(&url, listed.digest(), &part, &bar).map_err(Problem::failure)?;
        bar.finish_and_clear();
        if !matches(&part, &digest).map_err(StoreError::at(&part))? {
            // Going on with it would never end well.
            fs::remove_file(&part).map_err(StoreError::at(&part))?;
            return Err(CliError::Hub(format!(
                "{}: {name} is not what the hub announced (digest {digest}); it was thrown away, try again",
                self.id
            )));
        }
        let kept = File::open(&part).and_then(|file| file.sync_all()).and_then(|()| fs::rename(&part, &whole));
        kept.map_err(StoreError::at(&whole))?;
        Ok(whole)
    }
}

/// On a terminal a bar, elsewhere a line.
fn progress(name: &str, size: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        let size = size.map(|size| format!(", {}", render::bytes(size))).unwrap_or_default();
        eprintln!("downloading {name}{size}");
        return ProgressBar::hidden();
    }
    let template = "{msg} {wide_bar} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left";
    let style = ProgressStyle::with_template(template).expect("a fixed template");
    ProgressBar::new(size.unwrap_or(0)).with_style(style).with_message(name.to_owned())
}

/// The setting of the Python library, in its words.
fn offline() -> bool {
    std::env::var("HF_HUB_OFFLINE")
        .is_ok_and(|value| ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str()))
}

/// SHA-256 in 64 digits, or git's of a blob in 40.
fn is_digest(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a file has the digest.
fn matches(path: &Path, digest: &str) -> io::Result<bool> {
    if digest.len() == 64 {
        return Ok(coft_fs::sha256_file(path)? == digest);
    }
    let mut file = File::open(path)?;
    let mut hash = sha1::Sha1::new();
    hash.update(format!("blob {}\0", file.metadata()?.len()));
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => {
                let found = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
                return Ok(found == digest);
            }
            read => hash.update(&buffer[..read]),
        }
    }
}

fn shards(index: &Path) -> Result<Vec<String>, CliError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let text = fs::read(index).map_err(StoreError::at(index))?;
    let Index { weight_map } =
        serde_json::from_slice(&text).map_err(|error| CliError::Hub(format!("{}: {error}", shown_path(index))))?;
    let mut shards: Vec<String> = weight_map.into_values().collect();
    shards.sort();
    shards.dedup();
    match shards.iter().find(|shard| shard.contains('/') || shard.starts_with('.')) {
        Some(shard) => Err(CliError::Hub(format!("{}: {shard:?} is no name of a shard", shown_path(index)))),
        None => Ok(shards),
    }
}
