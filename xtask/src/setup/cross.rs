//! A Debian 12 in a directory, in which programs and packages for arm64 are made. Its compilers are used so that the
//! programs need no newer libc than Debian 12 has. Its Rust is too old; a later Debian in a subdirectory has the Rust
//! that is used.

use super::debian::{self, debootstrap, run};
use super::{cache, once, remove, repository, room};
use anyhow::ensure;
use sha2::{Digest, Sha256};
use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const RELEASE: &str = "bookworm";
/// Compilers, the tools that make packages, and the arm64 libraries that the packages depend on.
const PACKAGES: &str = "crossbuild-essential-arm64 cmake debhelper libgomp1:arm64 libstdc++6:arm64 \
                        libopenblas0-openmp:arm64";
/// The Debian release whose Rust is used.
const RUST_RELEASE: &str = "forky";
/// The validity date is not checked, because a mirror may be late with an unreleased version; debootstrap does not
/// check it either.
const RUST_UPDATE: &str = "apt-get -o Acquire::Check-Valid-Until=no -q update";
/// Rust's library for arm64. It is unpacked and not installed: as a package it needs another C library that is not
/// used.
const RUST_LIBRARY: &str = "libstd-rust-dev";
/// Free space that is required, bytes. Measured need: 2.2 GB.
const ROOM: u64 = 4_000_000_000;

/// Returns the root directory.
pub fn install() -> anyhow::Result<PathBuf> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "packages for aarch64 are made in a Debian of their own, which only root can make and enter: run this as root"
    );
    debian::install(&[debian::DEBOOTSTRAP, debian::KEYRING])?;
    let made_from = [RELEASE, PACKAGES, RUST_RELEASE, RUST_UPDATE, RUST_LIBRARY, &by_its_loader("rustc")].join("\n");
    let root = cache()?.join(format!("cross-arm64-{:.12}", format!("{:x}", Sha256::digest(made_from))));
    once(&root, || {
        room(&cache()?, ROOM)?;
        eprintln!("making a Debian ({RELEASE}) that compiles for arm64 (2 minutes, 500 MB to download) ...");
        remove(&root)?; // left by an interrupted set-up
        debootstrap(RELEASE, &[], &root)?;
        within_bare(&root, "dpkg --add-architecture arm64 && apt-get -q update")?;
        within_bare(&root, &format!("apt-get install -q -y --no-install-recommends {PACKAGES} && apt-get clean"))?;
        eprintln!("adding the Rust of another one ({RUST_RELEASE}) ...");
        let rust = root.join("opt/rust");
        debootstrap(RUST_RELEASE, &[], &rust)?;
        within_bare(&rust, &format!("dpkg --add-architecture arm64 && {RUST_UPDATE}"))?;
        within_bare(&rust, "apt-get install -q -y --no-install-recommends rustc cargo")?;
        let unpack = format!("dpkg --extract {RUST_LIBRARY}_*.deb / && rm {RUST_LIBRARY}_*.deb && apt-get clean");
        let download = format!("cd /tmp && apt-get -o APT::Sandbox::User=root -q download {RUST_LIBRARY}:arm64");
        within_bare(&rust, &format!("{download} && {unpack}"))?;
        for program in ["rustc", "cargo"] {
            let path = root.join("usr/local/bin").join(program);
            fs::write(&path, by_its_loader(program))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        Ok(())
    })?;
    Ok(root)
}

/// A script that runs a program of the later Debian with the loader and the libraries of that Debian.
fn by_its_loader(program: &str) -> String {
    format!(
        "#!/bin/sh\nexec /opt/rust/lib64/ld-linux-x86-64.so.2 --library-path /opt/rust/usr/lib/x86_64-linux-gnu \
         /opt/rust/usr/bin/{program} \"$@\"\n"
    )
}

/// Runs a shell command in a Debian that has only the network of this machine.
pub fn within_bare(root: &Path, command: &str) -> anyhow::Result<()> {
    let mut shell = Command::new("chroot");
    shell.arg(root).args(["sh", "-ec", command]).env("PATH", PATH).env("DEBIAN_FRONTEND", "noninteractive");
    run("apt-get", &mut shell)
}

const PATH: &str = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command of the Debian in `root`, run in the root of the repository. It sees these directories under the same
/// paths, and none of this process's environment variables.
pub fn within(root: &Path, places: &[&Path], program: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh"]).arg(repository().join("packaging/enter")).arg(root).args(places);
    command.args(["--", program]).current_dir(repository()).env_clear().env("PATH", PATH);
    if let Some(home) = env::var_os("HOME") {
        command.env("HOME", home);
    }
    command
}
