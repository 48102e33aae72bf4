//! A real MQTT broker, mosquitto, with its own port and directory.

use crate::programs::ends_with_us;
use anyhow::{Context, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A broker that can be stopped and started again at the same port.
#[derive(Debug)]
pub struct Broker {
    dir: TempDir,
    port: u16,
    process: Option<Child>,
}

const START: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

impl Broker {
    /// Starts a broker with these lines of mosquitto.conf(5) in addition to its listener; `DIR` in them is its
    /// directory.
    ///
    /// # Errors
    /// mosquitto is not installed, or does not start.
    pub fn start(settings: &str) -> anyhow::Result<Self> {
        let dir = TempDir::with_prefix("coft-broker-")?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut broker = Self { dir, port, process: None };
        broker.configure(settings)?;
        broker.start_again()?;
        Ok(broker)
    }

    /// Sets the settings for the next start.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn configure(&self, settings: &str) -> anyhow::Result<()> {
        let dir = self.dir.path().display();
        let settings = settings.replace("DIR", &dir.to_string());
        // When started by root, mosquitto would change to another user, who cannot read this directory.
        let user = if nix::unistd::geteuid().is_root() { "user root\n" } else { "" };
        let file = format!("{user}log_dest file {dir}/log\nlistener {} 127.0.0.1\n{settings}\n", self.port);
        Ok(fs::write(self.dir.path().join("mosquitto.conf"), file)?)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// # Errors
    /// It does not listen within a minute.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        ensure!(self.process.is_none(), "mosquitto runs already");
        let out = File::options().create(true).append(true).open(self.dir.path().join("out"))?;
        let mut command = Command::new(mosquitto());
        command.arg("-c").arg(self.dir.path().join("mosquitto.conf"));
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let child = ends_with_us(&mut command).spawn();
        self.process = Some(child.context("starting mosquitto; `cargo xtask setup` installs it")?);
        let since = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.process.as_mut().map(Child::try_wait).transpose()?.flatten();
            if ended.is_some() || since.elapsed() > START {
                let out = fs::read_to_string(self.dir.path().join("out")).unwrap_or_default();
                bail!("mosquitto does not listen: {out}{}", self.log());
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Stops it like systemd, and waits for its end.
    ///
    /// # Errors
    /// It is not running.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::SIGTERM)?;
        self.process.take().context("it runs")?.wait()?;
        Ok(())
    }

    /// Kills it, like a power cut.
    ///
    /// # Errors
    /// It is not running.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.process.take().context("it runs")?.wait()?;
        Ok(())
    }

    /// # Errors
    /// It is not running.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let process = self.process.as_ref().context("mosquitto does not run")?;
        Ok(kill(Pid::from_raw(process.id().try_into()?), signal)?)
    }

    /// The messages that it retains for matching topics: topic and payload.
    ///
    /// # Errors
    /// mosquitto_sub fails.
    pub fn retained(&self, topics: &str) -> anyhow::Result<Vec<(String, String)>> {
        let mut sub = Command::new("mosquitto_sub");
        sub.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-t", topics, "-F", "%t\t%p"]);
        let output = sub.args(["--retained-only", "-W", "1"]).output();
        let output = output.context("starting mosquitto_sub; `cargo xtask setup` installs it")?;
        // Exit code 27: no more messages came within the time limit.
        ensure!(matches!(output.status.code(), Some(0 | 27)), "mosquitto_sub: {output:?}");
        let text = String::from_utf8(output.stdout)?;
        Ok(text.lines().filter_map(|line| line.split_once('\t')).map(|(t, p)| (t.into(), p.into())).collect())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Leaves no process behind. It is no error if it has ended already.
        let _ = self.kill();
    }
}

/// Debian installs it in a directory that is only in root's search path.
fn mosquitto() -> PathBuf {
    let there = Path::new("/usr/sbin/mosquitto");
    if there.exists() { there.into() } else { "mosquitto".into() }
}
