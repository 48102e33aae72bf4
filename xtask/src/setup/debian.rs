//! Installs programs from Debian packages, only those that are missing.

use anyhow::{Context, bail};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// A package, and a command that succeeds where the package is not needed.
pub struct Package {
    name: &'static str,
    check: &'static [&'static str],
}

pub const COMPILER: Package = Package { name: "g++", check: &["g++", "--version"] };
pub const CMAKE: Package = Package { name: "cmake", check: &["cmake", "--version"] };
/// Assembler for the fast code in libjpeg-turbo.
pub const NASM: Package = Package { name: "nasm", check: &["nasm", "-v"] };
pub const BUS: Package = Package { name: "dbus", check: &["dbus-daemon", "--version"] };
/// Decides what callers on the bus may do.
pub const POLKIT: Package = Package { name: "polkitd", check: &["pkaction", "--version"] };
/// Checks units, users and directories.
pub const SYSTEMD: Package = Package { name: "systemd", check: &["systemd-analyze", "--version"] };
/// The broker to which coft-mqtt sends in the tests.
pub const BROKER: Package = Package { name: "mosquitto", check: &["ls", "/usr/sbin/mosquitto"] };
pub const BROKER_CLIENTS: Package = Package { name: "mosquitto-clients", check: &["ls", "/usr/bin/mosquitto_sub"] };
/// Makes certificates for the broker.
pub const OPENSSL: Package = Package { name: "openssl", check: &["openssl", "version"] };
/// Checks metrics with promtool.
pub const PROMETHEUS: Package = Package { name: "prometheus", check: &["promtool", "--version"] };
/// Makes Debian packages.
pub const DEBHELPER: Package = Package { name: "debhelper", check: &["ls", "/usr/bin/dh"] };
/// Makes the Debian in which packages are tried.
pub const DEBOOTSTRAP: Package = Package { name: "debootstrap", check: &["debootstrap", "--version"] };
/// Debian's keys; on Ubuntu they are in a package too.
pub const KEYRING: Package =
    Package { name: "debian-archive-keyring", check: &["ls", "/usr/share/keyrings/debian-archive-keyring.gpg"] };
pub const PYTHON: Package = Package { name: "python3", check: &["python3", "--version"] };
pub const PIP: Package = Package { name: "python3-pip", check: &["python3", "-m", "pip", "--version"] };
pub const VENV: Package = Package { name: "python3-venv", check: &["python3", "-c", "import ensurepip"] };
/// Decodes HEIC and AVIF; coftd opens it at run time.
pub const HEIF: Package =
    Package { name: "libheif1", check: &["python3", "-c", "import ctypes; ctypes.CDLL('libheif.so.1')"] };
/// Makes file systems that are slow or do not answer, for tests. Without FUSE, these tests are skipped.
pub const BINDFS: Package = Package { name: "bindfs", check: &["bindfs", "--version"] };

/// Like `install`, for packages with services of the same names. The services are stopped again, because nobody asked
/// for them.
pub fn install_idle(packages: &[Package]) -> anyhow::Result<()> {
    let missing: Vec<&str> =
        packages.iter().filter(|package| !answers(package.check)).map(|package| package.name).collect();
    install(packages)?;
    if !missing.is_empty() && Path::new("/run/systemd/system").exists() {
        let root = nix::unistd::geteuid().is_root();
        let words = [if root { "env" } else { "sudo" }, "systemctl", "disable", "--quiet", "--now"];
        if !answers(&[&words, &missing[..]].concat()) {
            eprintln!("services may run that the tests do not need: {}", missing.join(", "));
        }
    }
    Ok(())
}

/// Installs the packages whose commands fail, with apt; with sudo for users other than root.
pub fn install(packages: &[Package]) -> anyhow::Result<()> {
    let missing: Vec<&str> =
        packages.iter().filter(|package| !answers(package.check)).map(|package| package.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if !answers(&["apt-get", "--version"]) {
        bail!("{names}: missing, and there is no apt-get; install what your system calls so, then run this again");
    }
    let root = nix::unistd::geteuid().is_root();
    if !root && !answers(&["sudo", "--version"]) {
        bail!("{names}: missing, and there is no sudo; as root: apt-get install {names}; then run this again");
    }
    eprintln!("installing Debian packages: {names}");
    let apt = |args: &[&str]| {
        let mut command = Command::new(if root { "env" } else { "sudo" });
        if !root {
            command.arg("env");
        }
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]).args(args);
        // sudo asks for a password on the terminal itself.
        command.stdin(Stdio::null()).stdout(io::stderr()).status().is_ok_and(|status| status.success())
    };
    if !apt(&["update", "-q"]) {
        eprintln!("the list of packages could not be refreshed; trying with the one there is");
    }
    if !apt(&[&["install", "-y", "-q", "--no-install-recommends"], &missing[..]].concat()) {
        bail!("apt-get could not install {names} (it says why above); install by hand, then run this again");
    }
    Ok(())
}

/// Makes a minimal Debian in a new directory.
pub fn debootstrap(release: &str, options: &[&str], root: &Path) -> anyhow::Result<()> {
    // In a mount namespace of its own, so that nothing stays mounted after an interruption.
    let mut command = Command::new("unshare");
    command.args(["--mount", "debootstrap", "--variant=minbase"]).args(options).arg(release).arg(root);
    // From the default mirror. A debootstrap that is older than the release has no script with its name, so the common
    // script is named.
    command.args(["", "/usr/share/debootstrap/scripts/sid"]);
    run("debootstrap", &mut command)
}

/// Runs a command that downloads something, without its output. If it fails, the error shows the end of the output.
pub fn run(what: &str, command: &mut Command) -> anyhow::Result<()> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("starting {what}"))?;
    if !output.status.success() {
        // debootstrap prints its errors on standard output.
        let said = String::from_utf8_lossy(&output.stdout);
        let lines: Vec<&str> = said.lines().collect();
        eprintln!("{}", lines[lines.len().saturating_sub(5)..].join("\n"));
        bail!("{what} failed (it says why above); check the network, then run this again");
    }
    Ok(())
}

/// Whether a command succeeds.
pub fn answers(command: &[&str]) -> bool {
    let quiet = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    quiet.is_ok_and(|status| status.success())
}
