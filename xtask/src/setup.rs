//! `cargo xtask setup`: installs once what a fresh Debian 12 or Ubuntu 22.04 lacks.
//!
//! Everything is in the user's cache directory. Nothing is written elsewhere, except for Debian packages where a
//! program is missing. A second run does nothing, and an interrupted set-up is repeated.

mod arm64;
mod cross;
mod debian;
mod libraries;
mod python;
mod system;

pub use arm64::install as for_emulation;
pub use cross::within;
pub use libraries::Libraries;

use crate::target::Target;
use anyhow::{Context, ensure};
use std::env;
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(clap::Args)]
pub struct Args {
    /// Installs what training on an NVIDIA GPU takes, too (2.3 GB downloaded, 2.8 GB kept); its driver is for you to install.
    #[arg(long)]
    cuda: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    if args.cuda {
        ensure!(
            env::var_os("LIBTORCH").map_or(Ok(true), |set| libraries::is_ours(&set))?,
            "LIBTORCH names a libtorch of your own: CUDA comes with it or not at all; unset it to install coft's"
        );
        libraries::install()?;
        libraries::install_cuda()?;
    }
    for_testing().map(drop)
}

/// The environment variables of every build and run.
#[derive(Clone, Debug, Default)]
pub struct Environment(Vec<(&'static str, OsString)>);

impl Environment {
    pub fn apply(&self, command: &mut Command) {
        command.envs(self.variables());
    }

    pub fn variables(&self) -> impl Iterator<Item = (&'static str, &OsString)> {
        self.0.iter().map(|(key, value)| (*key, value))
    }

    pub fn add(&mut self, key: &'static str, value: impl Into<OsString>) {
        self.0.push((key, value.into()));
    }

    /// The variables as shell commands.
    pub fn exports(&self) -> String {
        let quoted = |value: &OsString| value.to_string_lossy().replace('\'', r"'\''");
        self.variables().map(|(key, value)| format!("export {key}='{}'\n", quoted(value))).collect()
    }
}

/// File that is written last into each directory of the set-up. A directory without it is made again.
const STAMP: &str = "complete";

/// Prepares for building and running.
pub fn for_running() -> anyhow::Result<Environment> {
    debian::install(&[debian::COMPILER, debian::CMAKE, debian::NASM, debian::BUS])?;
    let (libtorch, onnxruntime) = match (env::var_os("LIBTORCH"), env::var_os("ORT_DYLIB_PATH")) {
        (Some(libtorch), Some(onnxruntime)) => (libtorch, onnxruntime),
        _ => libraries::install()?,
    };
    Ok(Environment(vec![
        ("LIBTORCH", libtorch),
        ("ORT_DYLIB_PATH", onnxruntime),
        ("ORT_DISABLE_TELEMETRY", "1".into()),
    ]))
}

/// Prepares for building, running and testing.
pub fn for_testing() -> anyhow::Result<Environment> {
    let mut environment = for_running()?;
    debian::install(&[debian::BINDFS, debian::POLKIT, debian::SYSTEMD, debian::BROKER_CLIENTS, debian::OPENSSL])?;
    debian::install_idle(&[debian::BROKER, debian::PROMETHEUS])?;
    environment.add("COFT_TEST_PYTHON", python::install(&python::CHECKS)?);
    debian::install(&[debian::HEIF])?;
    let data = repository().join("../shared/data");
    if let Some(data) = env::var_os("COFT_TEST_DATA") {
        environment.add("COFT_TEST_DATA", data);
    } else if data.is_dir() {
        environment.add("COFT_TEST_DATA", data.canonicalize()?);
    }
    Ok(environment)
}

/// Adds a bare Debian, in which packages are installed and which is booted, where that is possible. Returns whether it
/// is.
pub fn add_system(environment: &mut Environment) -> anyhow::Result<bool> {
    let is_root = nix::unistd::geteuid().is_root();
    if is_root {
        environment.add("COFT_TEST_SYSTEM", system::install()?);
    } else {
        eprintln!("the packages are not tried in a booted system: only root can make one and boot it");
    }
    Ok(is_root)
}

/// What building packages needs.
pub struct Packaging {
    /// The environment of the build on this machine.
    pub environment: Environment,
    /// The libraries that the set-up installs, whatever LIBTORCH says.
    pub libraries: Libraries,
    /// Root directory of the Debian in which packages for another architecture are made.
    pub root: Option<PathBuf>,
}

pub fn for_packaging(target: Target) -> anyhow::Result<Packaging> {
    ensure!(cfg!(target_arch = "x86_64"), "packages are made on x86_64 alone, those for aarch64 as well");
    let root = match target {
        Target::X86_64 => None,
        Target::Aarch64 => Some(cross::install()?),
    };
    let environment = for_running()?;
    if root.is_none() {
        debian::install(&[debian::DEBHELPER])?;
    }
    Ok(Packaging { environment, libraries: libraries::to_package(target)?, root })
}

/// The Python for the servers of `cargo xtask bench serve`.
pub fn for_serving_peers() -> anyhow::Result<PathBuf> {
    python::install(&python::SERVERS)
}

/// Root of this repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository")
}

fn cache() -> anyhow::Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?).join(".cache"),
    };
    Ok(base.join("coft"))
}

/// Returns an error if the disk of `dir` has less than `bytes` free.
fn room(dir: &Path, bytes: u64) -> anyhow::Result<()> {
    let disk = nix::sys::statvfs::statvfs(dir)?;
    let free = disk.blocks_available() as u64 * disk.fragment_size() as u64;
    let mega = |bytes: u64| bytes / 1_000_000;
    ensure!(
        free > bytes,
        "{} has {} MB free and set-up needs {} MB for a while; make room, or set XDG_CACHE_HOME to a larger disk",
        dir.display(),
        mega(free),
        mega(bytes)
    );
    Ok(())
}

fn remove(dir: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Calls `make` unless `home` is complete, then marks it as complete. One process at a time does this; others wait.
fn once(home: &Path, make: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let stamp = home.join(STAMP);
    if stamp.is_file() {
        return Ok(());
    }
    let parent = home.parent().context("the cache directory has a parent")?;
    fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
    let name = home.file_name().context("the cache directory has a name")?;
    let path = parent.join(format!(".{}.lock", name.to_string_lossy()));
    let lock = File::create(&path).with_context(|| format!("making {}", path.display()))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("waiting for another set-up to finish ...");
            lock.lock().with_context(|| format!("locking {}", path.display()))?;
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(|| format!("locking {}", path.display())),
    }
    if !stamp.is_file() {
        make()?;
        fs::write(&stamp, "").with_context(|| format!("writing {}", stamp.display()))?;
    }
    Ok(())
}
