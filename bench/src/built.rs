//! Finds the programs that were built together with this one, and files of the repository.

use anyhow::{Context, ensure};
use coft_harness::programs::Programs;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Directory of this program.
fn directory() -> anyhow::Result<PathBuf> {
    let program = env::current_exe()?;
    Ok(program.parent().context("a program lies in a directory")?.to_owned())
}

pub fn programs() -> anyhow::Result<Programs> {
    Programs::within(&directory()?)
}

/// The program that measures parts of the trainer and trains the demo model.
pub fn coft_trainer_dev() -> anyhow::Result<PathBuf> {
    found(directory()?.join("coft-trainer-dev"))
}

/// An example program of coftd.
pub fn example(name: &str) -> anyhow::Result<PathBuf> {
    found(directory()?.join("examples").join(name))
}

fn found(program: PathBuf) -> anyhow::Result<PathBuf> {
    ensure!(program.is_file(), "{} is not built; start this by cargo xtask bench", program.display());
    Ok(program)
}

/// Root of this repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package lies in the repository")
}

/// The value of an environment variable that the set-up has set.
pub fn variable(name: &str) -> anyhow::Result<OsString> {
    env::var_os(name).with_context(|| format!("{name} is not set; start this by cargo xtask bench"))
}

/// A path in the test data.
pub fn data(name: &str) -> anyhow::Result<PathBuf> {
    let dir = env::var_os("COFT_TEST_DATA").context("there is no test data; COFT_TEST_DATA names its directory")?;
    Ok(Path::new(&dir).join(name))
}
