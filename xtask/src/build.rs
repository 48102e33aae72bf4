//! Builds, in the environment that the set-up has prepared.

use crate::setup::{self, Environment, Packaging, repository};
use crate::target::Target;
use anyhow::{Context, ensure};
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A cargo command in the root of the repository.
pub fn cargo(environment: &Environment) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(repository());
    environment.apply(&mut command);
    command
}

/// The programs that the demo and the benchmarks start, and the program that runs these.
const RUN: [&str; 5] = ["coftd", "coft-launch", "coft-trainer", "coftctl", "coft-bench"];

/// Builds the programs as for tests, quickly and without optimisation. Returns their directory.
pub fn quick(environment: &Environment) -> anyhow::Result<PathBuf> {
    build(environment, &["--bins"])?;
    Ok(target_dir().join("debug"))
}

/// Builds the optimised programs, and the examples that benchmarks compare them with. Returns their directory.
pub fn release(environment: &Environment) -> anyhow::Result<PathBuf> {
    build(environment, &["--bins", "--examples", "--release"])?;
    Ok(target_dir().join("release"))
}

/// Builds all of them in one call: cargo chooses the features of libraries by what is built together, and would compile
/// the libraries again for another combination.
fn build(environment: &Environment, what: &[&str]) -> anyhow::Result<()> {
    eprintln!("building (the first time takes some minutes) ...");
    let packages = RUN.iter().flat_map(|package| ["--package", package]);
    let built = cargo(environment).arg("build").args(what).args(packages).status().context("starting cargo")?;
    ensure!(built.success(), "the build failed");
    Ok(())
}

/// Builds the programs of the packages in a directory of their own. They contain no path of this machine.
pub fn for_packages(packaging: &Packaging) -> anyhow::Result<PathBuf> {
    eprintln!("building what is packaged (the first time takes some minutes) ...");
    let target = target_dir().join(if packaging.root.is_none() { "packaged" } else { "packaged-aarch64" });
    fs::create_dir_all(&target).with_context(|| format!("making {}", target.display()))?;
    let target = target.canonicalize()?;
    let libtorch = match packaging.environment.variables().find(|(name, _)| *name == "LIBTORCH") {
        Some((_, libtorch)) if packaging.root.is_none() => PathBuf::from(libtorch),
        _ => packaging.libraries.torch.clone(),
    };
    // The last prefix that matches counts, for rustc and gcc alike, so the most specific ones come last.
    let places = [
        (cargo_home()?, "/cargo"),
        (repository().to_owned(), "/coft"),
        (target.clone(), "/coft/target"),
        (libtorch, "/libtorch"),
    ];
    let mapped = |option: &str| {
        let flags = places.iter().map(|(from, to)| format!("{option}={}={to}", from.display()));
        flags.collect::<Vec<_>>()
    };
    let mut flags = mapped("--remap-path-prefix");
    let (mut command, programs) = match &packaging.root {
        None => (cargo(&packaging.environment), target.join("release")),
        Some(root) => {
            fetch(&packaging.environment)?;
            // The libraries that libtorch itself is linked with are not there, and are not needed for linking.
            flags.push("-Clink-arg=-Wl,--allow-shlib-undefined".into());
            let triple = Target::Aarch64.triple();
            let mut command = setup::within(root, &places.each_ref().map(|(place, _)| place.as_path()), "cargo");
            command.env("CARGO_HOME", &places[0].0).env("CARGO_NET_OFFLINE", "true").env("LIBTORCH", &places[3].0);
            command.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc");
            command.env("CARGO_BUILD_TARGET", &triple);
            (command, target.join(triple).join("release"))
        }
    };
    command.args(["build", "--release", "--locked"]).arg("--target-dir").arg(&target);
    for package in ["coftd", "coft-launch", "coft-trainer", "coftctl", "coft-mqtt", "coft-exporter"] {
        // The program of that name alone: coft-trainer-dev is not packaged.
        command.args(["--package", package, "--bin", package]);
    }
    command.env_remove("RUSTFLAGS").env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    for variable in ["CFLAGS", "CXXFLAGS"] {
        command.env(variable, mapped("-ffile-prefix-map").join(" "));
    }
    ensure!(command.status().context("starting cargo")?.success(), "the build failed");
    Ok(programs)
}

/// Downloads the crates for a build without a network: for this machine, whose programs take part in the build, and for
/// aarch64.
fn fetch(environment: &Environment) -> anyhow::Result<()> {
    let mut command = cargo(environment);
    command.args(["fetch", "--locked"]);
    for target in [Target::X86_64, Target::Aarch64] {
        command.args(["--target", &target.triple()]);
    }
    let fetched = command.status().context("starting cargo")?;
    ensure!(fetched.success(), "crates are missing (cargo says why above); check the network, then run this again");
    Ok(())
}

/// Directory in which cargo keeps the sources of crates.
fn cargo_home() -> anyhow::Result<PathBuf> {
    match env::var_os("CARGO_HOME") {
        Some(dir) => Ok(PathBuf::from(dir)),
        None => Ok(PathBuf::from(env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?).join(".cargo")),
    }
}

pub fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from)
}
