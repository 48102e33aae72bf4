//! `cargo xtask package`: set-up, the programs, and coft-packaging, which makes packages of them.

use crate::build::{self, cargo};
use crate::setup::{self, Environment, Libraries};
use anyhow::{Context, ensure};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Args {
    /// Directory that gets the packages [default: target/packages].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let (environment, libraries) = setup::for_packaging()?;
    let out = args.out.clone().unwrap_or_else(|| build::target_dir().join("packages"));
    let out = std::path::absolute(&out).with_context(|| format!("using {}", out.display()))?;
    let programs = build::for_packages(&environment)?;
    make(&environment, &libraries, &programs, &out, &[])
}

/// Packages of the programs that tests run, in a directory of theirs. They are large, and quickly made.
pub fn for_testing(environment: &Environment) -> anyhow::Result<PathBuf> {
    let (_, libraries) = setup::for_packaging()?;
    let programs = std::path::absolute(build::target_dir().join("debug"))?;
    let out = programs.join("packages");
    make(environment, &libraries, &programs, &out, &["--for-tests"])?;
    Ok(out)
}

fn make(
    environment: &Environment,
    libraries: &Libraries,
    programs: &Path,
    out: &Path,
    more: &[&str],
) -> anyhow::Result<()> {
    let mut packaging = cargo(environment);
    packaging.args(["run", "--quiet", "--package", "coft-packaging", "--"]);
    packaging.arg("--programs").arg(programs).arg("--out").arg(out).args(more);
    packaging.arg("--libtorch").arg(&libraries.torch).arg("--onnxruntime").arg(&libraries.onnxruntime);
    for library in &libraries.bundled {
        packaging.arg("--bundled").arg(library.told());
    }
    ensure!(packaging.status().context("starting cargo")?.success(), "no packages were made");
    Ok(())
}
