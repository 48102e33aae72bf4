//! Pythons with the packages of one requirements file each, for comparing coft with other implementations.

use super::{cache, debian, once, repository, room};
use anyhow::{Context, ensure};
use sha2::{Digest, Sha256};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A set of packages.
pub struct Packages {
    /// Path of the pinned list in the repository; the list includes all dependencies.
    requirements: &'static str,
    told: &'static str,
    /// Free space that is required, bytes: for the wheels and the unpacked packages together.
    room: u64,
}

/// Measured need: 2.3 GB and 4.0 GB.
pub const CHECKS: Packages = Packages {
    requirements: "tests/requirements.txt",
    told: "Python packages for the checks (about 2300 MB, most of it torch and its libraries)",
    room: 6_500_000_000,
};

/// Measured need: 60 MB and 220 MB. Python 3.11 or later.
pub const SERVERS: Packages = Packages {
    requirements: "tests/peers/serve-requirements.txt",
    told: "the servers to measure beside (about 60 MB)",
    room: 400_000_000,
};

/// Returns the interpreter. It is made again when the requirements change.
pub fn install(packages: &Packages) -> anyhow::Result<PathBuf> {
    debian::install(&[debian::PYTHON, debian::VENV])?;
    let requirements = repository().join(packages.requirements);
    let text = fs::read(&requirements).with_context(|| format!("reading {}", requirements.display()))?;
    let home = cache()?.join(format!("python-{:.12}", format!("{:x}", Sha256::digest(&text))));
    let python = home.join("bin/python");
    once(&home, || {
        let parent = home.parent().context("the cache directory has a parent")?;
        room(parent, packages.room)?;
        eprintln!("installing {} ...", packages.told);
        let made = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home).stdout(io::stderr()).status()?;
        ensure!(made.success(), "python3 could not make a virtual environment in {}", home.display());
        let installed = Command::new(&python)
            .args(["-m", "pip", "install", "--no-cache-dir", "--disable-pip-version-check"])
            .args(["--no-deps", "--only-binary=:all:", "--no-compile", "-r"])
            .arg(&requirements)
            .env("TMPDIR", parent) // the system's temporary directory may be too small
            .stdin(Stdio::null())
            .stdout(io::stderr())
            .status()?;
        ensure!(
            installed.success(),
            "pip could not install {} (it says why above); check the network, then run this again",
            packages.requirements
        );
        Ok(())
    })?;
    Ok(python)
}
