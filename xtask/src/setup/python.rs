//! A Python with the packages of `tests/requirements.txt`, for the checks against other implementations.

use super::{cache, debian, once, repository, room};
use anyhow::{Context, ensure};
use sha2::{Digest, Sha256};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The wheels and the unpacked packages side by side, bytes. Measured: 2.3 GB and 4.0 GB.
const ROOM: u64 = 6_500_000_000;

/// The interpreter; it is made anew when the requirements change.
pub fn install() -> anyhow::Result<PathBuf> {
    debian::install(&[debian::PYTHON, debian::VENV])?;
    let requirements = repository().join("tests/requirements.txt");
    let text = fs::read(&requirements).with_context(|| format!("reading {}", requirements.display()))?;
    let home = cache()?.join(format!("python-{:.12}", format!("{:x}", Sha256::digest(&text))));
    let python = home.join("bin/python");
    once(&home, || {
        let parent = home.parent().context("the cache directory has a parent")?;
        room(parent, ROOM)?;
        eprintln!("installing Python packages for the checks (about 2300 MB, most of it torch and its libraries) ...");
        let made = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home).stdout(io::stderr()).status()?;
        ensure!(made.success(), "python3 could not make a virtual environment in {}", home.display());
        let installed = Command::new(&python)
            .args(["-m", "pip", "install", "--no-cache-dir", "--disable-pip-version-check"])
            .args(["--no-deps", "--only-binary=:all:", "--no-compile", "-r"])
            .arg(&requirements)
            .env("TMPDIR", parent) // the system's may be small
            .stdin(Stdio::null())
            .stdout(io::stderr())
            .status()?;
        ensure!(
            installed.success(),
            "pip could not install tests/requirements.txt (it says why above); check the network, then run this again"
        );
        Ok(())
    })?;
    Ok(python)
}
