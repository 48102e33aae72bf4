//! Builds, in the environment that set-up prepared.

use crate::setup::{Environment, repository};
use anyhow::{Context, ensure};
use coft_harness::programs::Programs;
use std::env;
use std::path::PathBuf;
use std::process::Command;

/// A cargo command in the repository's root.
pub fn cargo(environment: &Environment) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(repository());
    environment.apply(&mut command);
    command
}

/// The optimised programs, built if they are not.
pub fn release(environment: &Environment, packages: &[&str]) -> anyhow::Result<PathBuf> {
    eprintln!("building {} (the first time takes some minutes) ...", packages.join(", "));
    let mut command = cargo(environment);
    command.args(["build", "--release"]);
    for package in packages {
        command.args(["--package", package]);
    }
    ensure!(command.status().context("starting cargo")?.success(), "the build failed");
    Ok(target_dir().join("release"))
}

/// An optimised example program.
pub fn example(environment: &Environment, package: &str, name: &str) -> anyhow::Result<PathBuf> {
    let mut command = cargo(environment);
    command.args(["build", "--release", "--package", package, "--example", name]);
    ensure!(command.status().context("starting cargo")?.success(), "the build failed");
    Ok(target_dir().join("release/examples").join(name))
}

pub fn programs(environment: &Environment) -> anyhow::Result<Programs> {
    Programs::within(&release(environment, &["coftd", "coft-trainer", "coftctl"])?)
}

fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from)
}
