//! `cargo xtask package`: the set-up, a build of the programs, and then coft-packaging, which makes packages of them.

use crate::build::{self, cargo};
use crate::setup::{self, Environment, Packaging};
use crate::target::Target;
use anyhow::{Context, ensure};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Args {
    /// Directory that gets the packages [default: target/packages, or target/packages-aarch64].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Processor that the packages are for. Only root can make those for aarch64.
    #[arg(long, value_enum, default_value_t = Target::X86_64)]
    target: Target,
    /// Tries them then in a Debian of that processor, which QEMU emulates: a model, a label, and a round.
    #[arg(long = "try")]
    is_tried: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(
        !args.is_tried || args.target == Target::Aarch64,
        "--try is for aarch64; `cargo xtask test -- --test system` tries packages of this machine's processor"
    );
    let packaging = setup::for_packaging(args.target)?;
    let default = match args.target {
        Target::X86_64 => "packages",
        Target::Aarch64 => "packages-aarch64",
    };
    let out = args.out.clone().unwrap_or_else(|| build::target_dir().join(default));
    let out = std::path::absolute(&out).with_context(|| format!("using {}", out.display()))?;
    let programs = build::for_packages(&packaging)?;
    make(&packaging.environment, &packaging, &programs, &out, &[])?;
    if args.is_tried { try_emulated(&packaging.environment, &out) } else { Ok(()) }
}

/// Tries packages for arm64.
fn try_emulated(environment: &Environment, packages: &Path) -> anyhow::Result<()> {
    let Some((root, _emulation)) = setup::for_emulation()? else { return Ok(()) };
    let mut command = cargo(environment);
    command.args(["test", "--package", "coft-harness", "--test", "arm64", "--", "--nocapture"]);
    command.env("COFT_TEST_ARM64", root).env("COFT_TEST_PACKAGES", packages);
    ensure!(command.status().context("starting cargo")?.success(), "the packages do not work");
    Ok(())
}

/// Makes packages of the test programs, in a directory of their own. The packages are large, and made quickly.
pub fn for_testing(environment: &Environment) -> anyhow::Result<PathBuf> {
    let packaging = setup::for_packaging(Target::X86_64)?;
    let programs = std::path::absolute(build::target_dir().join("debug"))?;
    let out = programs.join("packages");
    make(environment, &packaging, &programs, &out, &["--for-tests"])?;
    Ok(out)
}

fn make(
    environment: &Environment,
    packaging: &Packaging,
    programs: &Path,
    out: &Path,
    more: &[&str],
) -> anyhow::Result<()> {
    let mut command = cargo(environment);
    command.args(["run", "--quiet", "--package", "coft-packaging", "--"]);
    command.arg("--programs").arg(programs).arg("--out").arg(out).args(more);
    let libraries = &packaging.libraries;
    command.arg("--libtorch").arg(&libraries.torch).arg("--onnxruntime").arg(&libraries.onnxruntime);
    for library in &libraries.bundled {
        command.arg("--bundled").arg(library.told());
    }
    if let Some(root) = &packaging.root {
        command.arg("--arm64-within").arg(root);
    }
    ensure!(command.status().context("starting cargo")?.success(), "no packages were made");
    Ok(())
}
