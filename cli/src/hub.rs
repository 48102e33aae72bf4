//! Downloads of a model repository: which of its files are needed, and whether they have the digests that the hub
//! states.
//!
//! HF_ENDPOINT names the hub, HF_HOME the directory with a token and with the cache of other programs. If
//! HF_HUB_OFFLINE is set, nothing is downloaded, and files come from that cache. A file is accepted only if its content
//! has the digest that the hub states for it (SHA-256, or git's for small files).

mod transport;

use crate::error::CliError;
use crate::render;
use coft_core::shown::shown_path;
use coft_models::store::StoreError;
use coft_models::{ARCHIVE, DESCRIPTIONS, ShardIndex, tokenizer, weights_named_in};
use hf_hub::{Cache, Repo, RepoType};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use sha1::Digest;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};
use transport::{Hub, Problem};

/// Directory in the store, so that a finished file becomes part of a model without a copy.
const DOWNLOADS: &str = ".downloads";
/// Extension of a file that is incomplete, or not yet compared with its digest.
const PART: &str = "part";

pub struct Download {
    id: String,
    revision: String,
    origin: Origin,
    dir: PathBuf,
}

enum Origin {
    Hub(Online),
    /// The cache of other programs, if downloads are not allowed.
    Cache(Cache),
}

struct Online {
    hub: Hub,
    commit: String,
    files: BTreeMap<String, Listed>,
}

/// The hub's answer about a repository.
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

/// The hub's answer about a file of the repository; mirrors leave out all of this.
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
    /// For a large file, `blob_id` is the digest of a pointer file in its place.
    fn digest(&self) -> Option<&str> {
        let stated = match &self.lfs {
            Some(lfs) => lfs.sha256.as_deref(),
            None => self.blob_id.as_deref(),
        };
        stated.filter(|digest| is_digest(digest))
    }
}

impl Download {
    /// Asks the hub for the commit of a revision and for its files.
    ///
    /// # Errors
    /// The hub cannot be reached, or does not know the repository.
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
            // From here on the commit is used instead of the revision, which could change during the download.
            let files = siblings.into_iter().map(|file| (file.rfilename, file.listed)).collect();
            Origin::Hub(Online { hub, commit: sha, files })
        };
        Ok(Self { id: id.to_owned(), revision, origin, dir })
    }

    /// The commit of the revision at the hub; `None` where downloads are not allowed.
    pub fn commit(&self) -> Option<&str> {
        match &self.origin {
            Origin::Hub(online) => Some(&online.commit),
            Origin::Cache(_) => None,
        }
    }

    /// Puts the model's files into `to`, and returns their commit.
    ///
    /// # Errors
    /// A file is not available or does not have the digest that the hub states, or there are no weights of a CLIP.
    pub fn fetch(&self, to: &Path) -> Result<String, CliError> {
        for name in DESCRIPTIONS.into_iter().chain(tokenizer::FILES) {
            self.file(name, to)?;
        }
        // A repository may have two kinds of description. Together they determine the weights.
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
            let index = ShardIndex::read(&to.join(&weights));
            for shard in index.map_err(|error| CliError::Hub(format!("{}: {error}", self.id)))?.shards() {
                let shard = shard.file_name().unwrap_or_default().to_string_lossy();
                if !self.file(&shard, to)? {
                    return Err(CliError::Hub(format!("{}: {weights} lists {shard}, which is not there", self.id)));
                }
            }
        }
        Ok(self.commit().unwrap_or(&self.revision).to_owned())
    }

    /// Removes the parts that were kept for an interrupted download, after the model is installed.
    pub fn forget(&self) {
        if let Origin::Hub(_) = self.origin {
            // If this fails, the files take space, and the next download of the same files finds them.
            let _ = fs::remove_dir_all(self.kept());
            let _ = fs::remove_dir(&self.dir);
        }
    }

    /// Directory in which the files of all commits are kept during a download.
    fn kept(&self) -> PathBuf {
        self.dir.join(Repo::model(self.id.clone()).folder_name())
    }

    /// The name of the only PyTorch archive, as in OpenAI's repositories.
    fn archive(&self) -> Option<String> {
        let Origin::Hub(online) = &self.origin else { return None };
        let extension = format!(".{ARCHIVE}");
        let mut archives = online.files.keys().filter(|name| name.ends_with(&extension) && !name.contains('/'));
        archives.next().filter(|_| archives.next().is_none()).cloned()
    }

    /// Gets one file and verifies it; `false` if no file has this name.
    fn file(&self, name: &str, to: &Path) -> Result<bool, CliError> {
        let path = match &self.origin {
            Origin::Cache(cache) => self.cached(cache, name)?,
            Origin::Hub(online) => {
                online.files.get(name).map(|listed| self.downloaded(online, name, listed)).transpose()?
            }
        };
        let Some(path) = path else { return Ok(false) };
        let target = to.join(name);
        // A hard link; or a copy where a link is impossible, because the cache may be on another disk.
        if fs::hard_link(&path, &target).is_err() {
            fs::copy(&path, &target).map_err(StoreError::at(&target))?;
        }
        Ok(true)
    }

    /// A file from the cache of other programs, which use the digest of a file's content as its name.
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
            // Continuing this download could never succeed.
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

/// A progress bar on a terminal, otherwise a line.
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

/// Reads the setting with the same values as the Python library.
fn offline() -> bool {
    std::env::var("HF_HUB_OFFLINE")
        .is_ok_and(|value| ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str()))
}

/// Whether the text is a SHA-256 with 64 digits, or git's digest of a blob with 40.
fn is_digest(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether the file has this digest.
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
