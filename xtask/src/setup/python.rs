//! A Python with the packages of `tests/requirements.txt`, for the checks against other implementations.

use super::{cache, debian, once, repository};
use anyhow::{Context, ensure};
use sha2::{Digest, Sha256};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The interpreter; it is made anew when the requirements change.
pub fn install() -> anyhow::Result<PathBuf> {
    debian::install(&[debian::PYTHON, debian::VENV])?;
    let requirements = repository().join("tests/requirements.txt");
    let text = fs::read(&requirements).with_context(|| format!("reading {}", requirements.display()))?;
    let home = cache()?.join(format!("python-{:.12}", format!("{:x}", Sha256::digest(&text))));
    let python = home.join("bin/python");
    once(&home, || {
        eprintln!("installing Python packages for the checks (about 60 MB) ...");
        let made = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home).stdout(io::stderr()).status()?;
        ensure!(made.success(), "python3 could not make a virtual environment in {}", home.display());
        let installed = Command::new(&python)
            .args(["-m", "pip", "install", "-q", "--disable-pip-version-check", "-r"])
            .arg(&requirements)
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
