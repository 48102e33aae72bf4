//! A bare Debian for arm64 in a directory, in which packages are tried, and QEMU, which runs its programs on this
//! machine.

use super::debian::{self, debootstrap};
use super::{cache, cross, once, remove, room};
use anyhow::Context;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const RELEASE: &str = "bookworm";
/// The bus, and the packages that those of coft depend on, so that they can be installed without a network.
const PACKAGES: &str = "dbus,libgomp1,libopenblas0-openmp,libstdc++6,systemd";
const EMULATOR: &str = "qemu-user-static";
/// Free space that is required, bytes. Measured need: 0.6 GB.
const ROOM: u64 = 1_200_000_000;

/// Returns the root directory, and a guard: the programs run as long as the guard is kept. `None`, after a message,
/// where the kernel cannot be set up to run them.
pub fn install() -> anyhow::Result<Option<(PathBuf, Emulation)>> {
    if !can_emulate() {
        eprintln!(
            "skipped: programs of arm64 cannot be run here: this kernel has no binfmt_misc, or root may not mount it"
        );
        return Ok(None);
    }
    let made_from = format!("{RELEASE} {PACKAGES} {EMULATOR}");
    let home = cache()?.join(format!("arm64-{RELEASE}-{:.12}", format!("{:x}", Sha256::digest(made_from))));
    let (qemu, root) = (home.join("qemu"), home.join("root"));
    let emulation = || Emulation::begin(&qemu.join("usr/bin/qemu-aarch64-static"));
    once(&home, || {
        let compiler = cross::install()?;
        room(&cache()?, ROOM)?;
        eprintln!("making a Debian ({RELEASE}) of arm64 to try packages in (about 3 minutes, 180 MB) ...");
        remove(&home)?; // left by an interrupted set-up
        fs::create_dir(&home)?;
        // Unpacked and not installed, because an installation would stay registered with the kernel of this machine.
        let download =
            format!("cd /tmp && rm -f {EMULATOR}_* && apt-get -o APT::Sandbox::User=root -q download {EMULATOR}");
        cross::within_bare(&compiler, &format!("apt-get -q update && {download}"))?;
        for file in fs::read_dir(compiler.join("tmp"))? {
            let file = file?.path();
            if file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(EMULATOR)) {
                debian::run("dpkg-deb", Command::new("dpkg-deb").arg("--extract").arg(&file).arg(&qemu))?;
                fs::remove_file(file)?;
            }
        }
        let _emulation = emulation()?;
        debootstrap(RELEASE, &["--arch=arm64", &format!("--include={PACKAGES}")], &root)?;
        // Packages are tried as on a machine without a network: apt must know no other package.
        for leftover in ["var/cache/apt/archives", "var/lib/apt/lists"] {
            remove(&root.join(leftover))?;
        }
        Ok(())
    })?;
    Ok(Some((root, emulation()?)))
}

/// Directory in which the kernel is told which program runs those of another architecture.
const TABLE: &str = "/proc/sys/fs/binfmt_misc";
const ENTRY: &str = "coft-aarch64";
/// The first bytes of an arm64 program, and the mask of the bits that count; from QEMU's scripts/qemu-binfmt-conf.sh.
const MAGIC: &str = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00";
const MASK: &str = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff";

/// Whether the kernel has that directory. It stays mounted while the machine runs, as under systemd.
fn can_emulate() -> bool {
    let words = ["mount", "-t", "binfmt_misc", "binfmt_misc", TABLE];
    Path::new(TABLE).join("register").exists() || debian::answers(&words)
}

/// While this exists, the kernel runs arm64 programs with QEMU; dropping it ends that.
pub struct Emulation;

impl Emulation {
    fn begin(qemu: &Path) -> anyhow::Result<Self> {
        drop(Self); // left by an interrupted run
        // F: open the file now, so that it is found from other root directories too. C: also for programs that run as
        // another user.
        let line = format!(":{ENTRY}:M::{MAGIC}:{MASK}:{}:FC", qemu.display());
        let register = Path::new(TABLE).join("register");
        fs::write(register, line).with_context(|| format!("telling the kernel of {}", qemu.display()))?;
        Ok(Self)
    }
}

impl Drop for Emulation {
    fn drop(&mut self) {
        let _ = fs::write(Path::new(TABLE).join(ENTRY), "-1");
    }
}
