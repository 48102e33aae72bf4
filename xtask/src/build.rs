//! Builds, in the environment that set-up prepared.

use crate::setup::{Environment, repository};
use anyhow::{Context, ensure};
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A cargo command in the repository's root.
pub fn cargo(environment: &Environment) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(repository());
    environment.apply(&mut command);
    command
}

/// What the demo and the benchmarks start, and the program that they are.
const RUN: [&str; 5] = ["coftd", "coft-launch", "coft-trainer", "coftctl", "coft-bench"];

/// The directory of the programs as the tests run them too: quickly built, and good enough to look at.
pub fn quick(environment: &Environment) -> anyhow::Result<PathBuf> {
    build(environment, &["--bins"])?;
    Ok(target_dir().join("debug"))
}

/// The directory of the optimised programs and of the examples that benchmarks hold them against.
pub fn release(environment: &Environment) -> anyhow::Result<PathBuf> {
    build(environment, &["--bins", "--examples", "--release"])?;
    Ok(target_dir().join("release"))
}

/// Builds all of them at once: cargo chooses the features of libraries by what is built together, and would compile
/// them again for another choice.
fn build(environment: &Environment, what: &[&str]) -> anyhow::Result<()> {
    eprintln!("building (the first time takes some minutes) ...");
    let packages = RUN.iter().flat_map(|package| ["--package", package]);
    let built = cargo(environment).arg("build").args(what).args(packages).status().context("starting cargo")?;
    ensure!(built.success(), "the build failed");
    Ok(())
}

/// The programs of a package, in a directory of their own: no path of this machine is in them.
pub fn for_packages(environment: &Environment) -> anyhow::Result<PathBuf> {
    eprintln!("building what is packaged (the first time takes some minutes) ...");
    let target = target_dir().join("packaged");
    fs::create_dir_all(&target).with_context(|| format!("making {}", target.display()))?;
    let target = target.canonicalize()?;
    let mut command = cargo(environment);
    command.args(["build", "--release", "--locked"]).arg("--target-dir").arg(&target);
    for package in ["coftd", "coft-launch", "coft-trainer", "coftctl", "coft-mqtt", "coft-exporter"] {
        command.args(["--package", package]);
    }
    // The last that fits counts for rustc and gcc alike, so the most particular ones come last.
    let mut places =
        vec![(cargo_home()?, "/cargo"), (repository().to_owned(), "/coft"), (target.clone(), "/coft/target")];
    if let Some((_, libtorch)) = environment.variables().find(|(name, _)| *name == "LIBTORCH") {
        places.push((PathBuf::from(libtorch), "/libtorch"));
    }
    let mapped = |option: &str| {
        let flags = places.iter().map(|(from, to)| format!("{option}={}={to}", from.display()));
        flags.collect::<Vec<_>>()
    };
    command.env_remove("RUSTFLAGS");
    command.env("CARGO_ENCODED_RUSTFLAGS", mapped("--remap-path-prefix").join("\u{1f}"));
    for variable in ["CFLAGS", "CXXFLAGS"] {
        command.env(variable, mapped("-ffile-prefix-map").join(" "));
    }
    ensure!(command.status().context("starting cargo")?.success(), "the build failed");
    Ok(target.join("release"))
}

/// Where cargo keeps the sources of crates.
fn cargo_home() -> anyhow::Result<PathBuf> {
    match env::var_os("CARGO_HOME") {
        Some(dir) => Ok(PathBuf::from(dir)),
        None => Ok(PathBuf::from(env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?).join(".cargo")),
    }
}

pub fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from)
}
