//! A separate Debian for a test: a copy of a bare system, in which packages are installed, and which is booted in a
//! container.

use crate::programs::ends_with_us;
use anyhow::{Context, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Environment variable with the directory in which `cargo xtask test` has made the bare system and the packages.
pub const SYSTEM: &str = "COFT_TEST_SYSTEM";
pub const PACKAGES: &str = "COFT_TEST_PACKAGES";

/// Time limit for something that takes seconds, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(200);

pub struct System {
    dir: TempDir,
    process: Option<Child>,
    /// Process id of its first process on this machine.
    leader: u32,
}

/// Why no system can be booted here; `None` if one can.
pub fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("only root can make a system and boot it".into());
    }
    if let Some(name) = [SYSTEM, PACKAGES].into_iter().find(|name| env::var_os(name).is_none()) {
        return Some(format!("{name} is not set; for root, `cargo xtask test` sets it"));
    }
    // This system does not contain coft. If it does not boot, this kernel or container does not allow it.
    let bare = System::copied().and_then(|mut system| system.boot());
    bare.err().map(|error| format!("a bare Debian cannot be booted here: {error:#}"))
}

fn place(variable: &str) -> anyhow::Result<PathBuf> {
    env::var_os(variable).map(PathBuf::from).with_context(|| format!("{variable} is not set"))
}

impl System {
    /// A bare system that is not booted.
    ///
    /// # Errors
    /// It cannot be copied.
    pub fn copied() -> anyhow::Result<Self> {
        // The copy is too large for a /tmp in memory.
        let dir = TempDir::with_prefix_in("coft-system-", "/var/tmp")?;
        let mut copy = Command::new("cp");
        copy.args(["--archive", "--reflink=auto"]).arg(place(SYSTEM)?.join("root")).arg(dir.path());
        ensure!(copy.status()?.success(), "the bare system could not be copied");
        Ok(Self { dir, process: None, leader: 0 })
    }

    /// The path on this machine of a path in the system.
    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join("root").join(path.trim_start_matches('/'))
    }

    /// # Errors
    /// The system does not boot; the error contains the output of the container manager and of the system.
    pub fn boot(&mut self) -> anyhow::Result<()> {
        ensure!(self.process.is_none(), "it runs already");
        let root = self.path("/");
        let libraries = ["usr/lib/x86_64-linux-gnu/systemd", "usr/lib/x86_64-linux-gnu"];
        let libraries: Vec<String> = libraries.iter().map(|dir| root.join(dir).display().to_string()).collect();
        // Run with the loader and libraries of the system, because the container manager needs those versions.
        let mut manager = Command::new(root.join("lib64/ld-linux-x86-64.so.2"));
        manager
            .arg("--library-path")
            .arg(libraries.join(":"))
            .arg(place(SYSTEM)?.join("manager/usr/bin/systemd-nspawn"));
        manager.args(["--boot", "--register=no", "--keep-unit", "--private-network", "--console=pipe", "--quiet"]);
        manager.arg(format!("--machine={}", self.name())).arg("--directory").arg(&root);
        let log = File::options().create(true).append(true).open(self.log_path())?;
        manager.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.process = Some(ends_with_us(&mut manager).spawn().context("starting systemd-nspawn")?);
        self.leader = 0;
        self.wait("the system is up", |system| {
            system.find_leader();
            // The state is "degraded" if a unit failed. The tests check which one.
            let state = || system.run("root", &["systemctl", "is-system-running"]).map(|output| text(&output.stdout));
            system.leader != 0 && state().is_ok_and(|state| state == "running" || state == "degraded")
        })
    }

    /// Name of the machine for the container manager.
    fn name(&self) -> String {
        let dir = self.dir.path().file_name().unwrap_or_default().to_string_lossy();
        format!("coft-{}", dir.rsplit('-').next().unwrap_or_default())
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("console")
    }

    /// Finds the system's first process after it has become systemd.
    fn find_leader(&mut self) {
        let Some(manager) = self.process.as_ref().map(Child::id) else { return };
        let children = fs::read_to_string(format!("/proc/{manager}/task/{manager}/children")).unwrap_or_default();
        let child = children.split_whitespace().next().and_then(|pid| pid.parse().ok());
        let is_systemd =
            |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "systemd");
        self.leader = child.filter(is_systemd).unwrap_or(0);
    }

    /// Runs a command in the booted system as one of its users, and waits for its end.
    ///
    /// # Errors
    /// The command cannot be started.
    pub fn run(&self, user: &str, words: &[&str]) -> anyhow::Result<Output> {
        Ok(self.command(user, words).output()?)
    }

    /// A command in the booted system.
    pub fn command(&self, user: &str, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.leader.to_string(), "--all", "--wd=/", "--"]);
        if user != "root" {
            command.args(["runuser", "-u", user, "--"]);
        }
        // The environment of this process must not reach the system, above all not the paths of libraries.
        command.args(words).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
        command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
        command
    }

    /// Runs a command as root, which must succeed, and returns its output.
    ///
    /// # Errors
    /// The command fails; the error contains its output.
    pub fn root(&self, words: &[&str]) -> anyhow::Result<String> {
        let output = self.run("root", words)?;
        if !output.status.success() {
            bail!(
                "{} ended with {}:\n{}{}",
                words.join(" "),
                output.status,
                text(&output.stdout),
                text(&output.stderr)
            );
        }
        Ok(text(&output.stdout))
    }

    /// Waits for a condition.
    ///
    /// # Errors
    /// The condition does not become true in two minutes; the error contains the end of the journal.
    pub fn wait(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) -> anyhow::Result<()> {
        let since = Instant::now();
        while !holds(self) {
            if let Some(process) = &mut self.process
                && let Some(status) = process.try_wait()?
            {
                bail!("the system has ended ({status}): {}", self.console());
            }
            ensure!(
                since.elapsed() < PATIENCE,
                "not within {PATIENCE:?}: {what}\n{}\n{}",
                self.console(),
                self.journal()
            );
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// The latest log messages of coft.
    pub fn journal(&self) -> String {
        let journal = ["journalctl", "--no-pager", "--output=cat", "--lines=40", "--unit=coftd"];
        self.root(&journal).unwrap_or_else(|error| error.to_string())
    }

    /// The latest log messages of systemd about the service.
    pub fn unit_log(&self) -> String {
        let journal = ["journalctl", "--no-pager", "--output=cat", "--lines=40", "UNIT=coftd.service"];
        self.root(&journal).unwrap_or_else(|error| error.to_string())
    }

    fn console(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default().trim().to_owned()
    }

    /// Powers the system off as a user does, and waits for its end.
    ///
    /// # Errors
    /// The system does not end.
    pub fn power_off(&mut self) -> anyhow::Result<()> {
        self.root(&["systemctl", "poweroff"])?;
        let since = Instant::now();
        let mut process = self.process.take().context("it runs")?;
        while process.try_wait()?.is_none() {
            if since.elapsed() > PATIENCE {
                process.kill()?;
                bail!("the system did not switch itself off: {}", self.console());
            }
            thread::sleep(POLL);
        }
        Ok(())
    }
}

impl Drop for System {
    fn drop(&mut self) {
        self.find_leader();
        // The container manager leaves this directory behind, even if the system has powered itself off.
        let _ = fs::remove_dir(format!("/run/systemd/nspawn/propagate/{}", self.name()));
        let Some(mut process) = self.process.take() else { return };
        // All processes in the system end with its first process, and then the container manager ends.
        if self.leader != 0 {
            let _ = kill(Pid::from_raw(self.leader.cast_signed()), Signal::SIGKILL);
        } else {
            let _ = process.kill();
        }
        let _ = process.wait();
    }
}

/// The path of a package that `cargo xtask test` has made.
///
/// # Errors
/// There is no package of that name.
pub fn package(name: &str) -> anyhow::Result<PathBuf> {
    let dir = place(PACKAGES)?;
    let is_wanted = |path: &PathBuf| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        file.starts_with(&format!("{name}_")) && file.ends_with(".deb")
    };
    let files = fs::read_dir(&dir).with_context(|| format!("reading {}", dir.display()))?;
    let mut files = files.filter_map(|entry| Some(entry.ok()?.path()));
    files.find(is_wanted).with_context(|| format!("no package {name} in {}", dir.display()))
}

/// Paths of Debian packages beside the bare system: one package, and all that it depends on.
///
/// # Errors
/// There is no package of that name.
pub fn beside(name: &str) -> anyhow::Result<Vec<PathBuf>> {
    let dir = place(SYSTEM)?.join("beside").join(name);
    let files = fs::read_dir(&dir).with_context(|| format!("reading {}", dir.display()))?;
    files.map(|entry| Ok(entry?.path())).collect()
}

/// A copy of the package with another version, in `dir`.
///
/// # Errors
/// It cannot be made.
pub fn renumbered(package: &Path, version: &str, dir: &Path) -> anyhow::Result<PathBuf> {
    let content = TempDir::new_in(dir)?;
    let run = |args: &[OsString]| -> anyhow::Result<String> {
        let output = Command::new("dpkg-deb").args(args).output()?;
        ensure!(output.status.success(), "dpkg-deb: {}", text(&output.stderr));
        Ok(text(&output.stdout))
    };
    let word = |path: &Path| path.as_os_str().to_owned();
    let old = run(&["--field".into(), word(package), "Version".into()])?;
    let tree = content.path().join("tree");
    run(&["--raw-extract".into(), word(package), word(&tree)])?;
    let control = tree.join("DEBIAN/control");
    // The trainer depends on the same version of the service.
    let changed = fs::read_to_string(&control)?.replace(&old, version);
    fs::write(&control, changed)?;
    let name = package.file_name().unwrap_or_default().to_string_lossy().replace(&old, version);
    let made = dir.join(name);
    run(&["--build".into(), "-Znone".into(), word(&tree), word(&made)])?;
    Ok(made)
}

/// The shipped configuration, changed to rounds with this number of steps.
///
/// # Panics
/// One of its settings has another name or value now.
pub fn shipped_with_steps(steps: u32) -> String {
    let mut text = include_str!("../../packaging/coft.toml").to_owned();
    for (shipped, wanted) in [
        ("minimum-steps = 150", format!("minimum-steps = {steps}")),
        ("epochs = 10", "epochs = 1".into()),
        ("batch = 64", "batch = 16".into()),
        ("seeds-per-class = 16", "seeds-per-class = 2".into()),
        // Training is so short that the rule would choose zero-shot.
        ("deploy = \"chosen\"", "deploy = \"average-half\"".into()),
        ("quiet-period = \"2s\"", "quiet-period = \"300ms\"".into()),
    ] {
        assert!(text.contains(shipped), "{shipped}");
        text = text.replace(shipped, &wanted);
    }
    text
}

/// The output of a command as text.
pub fn text(said: &[u8]) -> String {
    String::from_utf8_lossy(said).trim().to_owned()
}
