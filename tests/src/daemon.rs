//! A `coftd` with a private bus and its own state directory, and `coftctl` to call it.

use crate::bus::PrivateBus;
use crate::programs::{Programs, ends_with_us};
use anyhow::{Context, bail, ensure};
use serde_json::Value;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The environment of a daemon, which can be stopped and started again.
#[derive(Debug)]
pub struct Site {
    programs: Programs,
    bus: PrivateBus,
    dir: TempDir,
    state_dir: PathBuf,
    variables: Vec<(&'static str, OsString)>,
    process: Option<Child>,
}

/// Longest time to start; the machine may be busy.
const START: Duration = Duration::from_secs(120);
/// Longest time to stop after SIGTERM.
const STOP: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

impl Site {
    /// A site with an empty watched directory; `config` is appended to the section of the source.
    pub fn new(programs: Programs, config: &str) -> anyhow::Result<Self> {
        let dir = TempDir::with_prefix("coft-site-")?;
        let state_dir = dir.path().join("state");
        let bus = PrivateBus::start()?;
        let site = Self { programs, bus, dir, state_dir, variables: Vec::new(), process: None };
        fs::create_dir(site.watched())?;
        site.configure(config)?;
        Ok(site)
    }

    /// Sets the configuration for the next start.
    pub fn configure(&self, config: &str) -> anyhow::Result<()> {
        let source = format!("[[source]]\npath = {:?}\nquiet-period = \"300ms\"\n\n", self.watched());
        Ok(fs::write(self.config(), source + config)?)
    }

    /// Puts the state directory at another path.
    pub fn with_state_dir(mut self, dir: &Path) -> Self {
        self.state_dir = dir.to_owned();
        self
    }

    /// Sets an environment variable for the next start.
    pub fn set_variable(&mut self, name: &'static str, value: impl Into<OsString>) {
        self.variables.push((name, value.into()));
    }

    pub fn watched(&self) -> PathBuf {
        self.dir.path().join("in")
    }

    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// A directory for a test's own files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("coft.toml")
    }

    /// Lets every user of the machine use the bus.
    pub fn let_everybody_in(&self) -> anyhow::Result<()> {
        self.bus.let_everybody_in()
    }

    /// Stops the bus while the daemon is running.
    pub fn end_bus(&mut self) {
        self.bus.end();
    }

    pub fn bus_address(&self) -> &str {
        self.bus.address()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Starts the daemon and waits until it is set up as configured.
    pub fn start(&mut self) -> anyhow::Result<()> {
        self.spawn()?;
        let since = Instant::now();
        loop {
            let answer = self.ctl(&["--json", "status"])?;
            if answer.status.success() && serde_json::from_slice::<Value>(&answer.stdout)?["setup_problem"].is_null() {
                return Ok(());
            }
            if let Some(status) = self.ended()? {
                bail!("coftd ended ({status}):\n{}", self.log());
            }
            ensure!(since.elapsed() < START, "coftd was not ready within {START:?}:\n{}", self.log());
            std::thread::sleep(POLL);
        }
    }

    /// Starts the daemon without waiting for it.
    pub fn spawn(&mut self) -> anyhow::Result<()> {
        ensure!(self.process.is_none(), "coftd runs already");
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let mut command = Command::new(self.programs.coftd());
        let child = ends_with_us(&mut command)
            .arg("--config")
            .arg(self.config())
            .arg("--state-dir")
            .arg(&self.state_dir)
            .args(["--bus", self.bus.address()])
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting coftd")?;
        self.process = Some(child);
        Ok(())
    }

    /// The daemon's exit status, if it has ended.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let Some(process) = &mut self.process else { return Ok(None) };
        let status = process.try_wait()?;
        if status.is_some() {
            self.process = None;
        }
        Ok(status)
    }

    /// Sends a signal, given by name, to the daemon.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        let pid = self.pid().context("coftd does not run")?.to_string();
        ensure!(Command::new("kill").args(["-s", name, &pid]).status()?.success(), "coftd cannot be signalled");
        Ok(())
    }

    /// Stops the daemon like systemd, and waits for its end.
    pub fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        self.signal("TERM")?;
        self.end()
    }

    /// Waits for the daemon's end.
    pub fn end(&mut self) -> anyhow::Result<ExitStatus> {
        let since = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            ensure!(since.elapsed() < STOP, "coftd did not stop within {STOP:?}:\n{}", self.log());
            std::thread::sleep(POLL);
        }
    }

    /// Kills the daemon, like a power cut.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    /// A `coftctl` command for this site's bus.
    pub fn ctl_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.programs.coftctl());
        command.args(["--bus", self.bus.address()]).args(args).stdin(Stdio::null());
        command
    }

    pub fn ctl(&self, args: &[&str]) -> anyhow::Result<Output> {
        self.ctl_command(args).output().context("running coftctl")
    }

    /// The output of a successful `coftctl --json ARGS`.
    pub fn json(&self, args: &[&str]) -> anyhow::Result<Value> {
        let output = self.ctl(&[&["--json"], args].concat())?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "coftctl {args:?} ended with {}: {err}\n{}", output.status, self.log());
        serde_json::from_str(&out).with_context(|| format!("coftctl {args:?} said {out:?}"))
    }

    pub fn status(&self) -> anyhow::Result<Value> {
        self.json(&["status"])
    }

    /// Waits until `done` is true of the status.
    pub fn wait(&self, what: &str, limit: Duration, done: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let since = Instant::now();
        loop {
            let status = self.status()?;
            if done(&status) {
                return Ok(status);
            }
            ensure!(since.elapsed() < limit, "{what}: not within {limit:?}; status {status}\n{}", self.log());
            std::thread::sleep(POLL);
        }
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("coftd.log")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Leaves no process behind. It is no error if it has ended already.
        let _ = self.kill();
    }
}
