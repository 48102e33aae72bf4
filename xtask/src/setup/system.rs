//! A bare Debian in a directory, in which packages are installed and which is booted, and the container manager that
//! boots it.
//!
//! The container manager is Debian's own. It is unpacked beside the system and runs with the system's libraries. If it
//! were installed on this machine, apt could replace the machine's systemd.

use super::debian::{self, debootstrap, run};
use super::{cache, once, remove, room};
use anyhow::{Context, ensure};
use sha2::{Digest, Sha256};
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// The Debian release that is booted, and the variable that selects another one, for example "trixie".
const RELEASE: &str = "bookworm";
const RELEASE_VARIABLE: &str = "COFT_TEST_DEBIAN";
/// Packages in addition to those of a minimal Debian: those for booting, and those that coft's packages depend on, so
/// that they can be installed without a network. debootstrap cannot resolve a package that another one only provides:
/// libpam-systemd is the logind that polkitd depends on.
const PACKAGES: &str = "systemd,systemd-sysv,libpam-systemd,dbus,polkitd,libgomp1,libstdc++6";
const MANAGER: &str = "systemd-container";
/// Packages beside the system, with their dependencies, each in a directory of its name, for the tests that install
/// them: a broker, its clients, and a library that sets the wall clock of a single service.
const BESIDE: [&str; 3] = ["mosquitto", "mosquitto-clients", "libfaketime"];
/// Free space that is required, bytes. Measured need: 330 MB, including the downloads.
const ROOM: u64 = 1_000_000_000;

/// Returns the directory: `root` in it is the root directory, `manager` has the container manager, `beside` more
/// packages.
pub fn install() -> anyhow::Result<PathBuf> {
    debian::install(&[debian::DEBOOTSTRAP, debian::KEYRING])?;
    let release = env::var(RELEASE_VARIABLE).unwrap_or_else(|_| RELEASE.into());
    ensure!(
        release.bytes().all(|byte| byte.is_ascii_lowercase()),
        "{RELEASE_VARIABLE}: {release:?} is no release of Debian"
    );
    let made_from = format!("{release} {PACKAGES} {MANAGER} {}", BESIDE.join(","));
    let home = cache()?.join(format!("{release}-{:.12}", format!("{:x}", Sha256::digest(made_from))));
    once(&home, || {
        let parent = home.parent().context("the cache directory has a parent")?;
        room(parent, ROOM)?;
        eprintln!("making a Debian ({release}) to try packages in (about 2 minutes, 300 MB) ...");
        remove(&home)?; // left by an interrupted set-up
        fs::create_dir(&home)?;
        let root = home.join("root");
        debootstrap(&release, &[&format!("--include={PACKAGES}")], &root)?;
        let manager = home.join("manager");
        let apt = |dir: &str, verb: &str| {
            fs::create_dir_all(root.join(dir).join("partial"))?;
            let command = format!("cd /{dir} && apt-get -q -y -o APT::Sandbox::User=root {verb} && rmdir partial");
            run("apt-get", Command::new("chroot").arg(&root).args(["sh", "-c", &command]))
        };
        apt("manager", &format!("download {MANAGER}"))?;
        for file in fs::read_dir(root.join("manager"))? {
            run("dpkg-deb", Command::new("dpkg-deb").arg("--extract").arg(file?.path()).arg(&manager))?;
        }
        for package in BESIDE {
            let dir = format!("beside/{package}");
            let only = format!("-o Dir::Cache::archives=/{dir} --no-install-recommends --download-only");
            apt(&dir, &format!("{only} install {package}"))?;
            fs::remove_file(root.join(dir).join("lock"))?;
        }
        fs::rename(root.join("beside"), home.join("beside"))?;
        // Packages are tried as on a machine without a network: apt must know no other package.
        for leftover in ["manager", "var/cache/apt/archives", "var/lib/apt/lists"] {
            remove(&root.join(leftover))?;
        }
        Ok(())
    })?;
    Ok(home)
}
