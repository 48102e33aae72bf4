//! The Python servers of `tests/peers`, and a client that keeps its connection open.

use super::generation::Generation;
use super::load::{Answer, Client};
use super::pictures::Picture;
use crate::built::repository;
use crate::interruption::Interruption;
use anyhow::{Context, bail, ensure};
use coft_harness::programs::ends_with_us;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Deserialize;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server. It is stopped except while it is measured, because LitServe's idle loop takes a whole core.
#[derive(Debug)]
pub struct Peer {
    process: Child,
    port: u16,
    log: PathBuf,
}

/// Longest time to start; the machine may be busy.
const START: Duration = Duration::from_secs(120);
/// Longest time to stop after SIGTERM.
const STOP: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(50);

/// The arguments of every server.
pub struct Launch<'a> {
    pub python: &'a Path,
    pub generation: &'a Generation,
    pub threads: usize,
    /// Directory for the logs.
    pub dir: &'a Path,
    pub interruption: &'a Interruption,
}

impl Launch<'_> {
    /// Starts a script with its own arguments, and waits until it listens.
    pub fn start(&self, script: &[&str]) -> anyhow::Result<Peer> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let log = self.dir.join(format!("{port}.log"));
        let out = File::create(&log)?;
        let (name, more) = script.split_first().context("a script has a name")?;
        let mut command = Command::new(self.python);
        let process = ends_with_us(&mut command)
            .arg(repository().join("tests/peers").join(name))
            .arg(&self.generation.dir)
            .args(["--port", &port.to_string(), "--threads", &self.threads.to_string()])
            .args(more)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("TMPDIR", self.dir) // directory for the sockets of LitServe's processes
            .current_dir(self.dir)
            .process_group(0) // includes its child processes, so that all of them are stopped
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("starting {}", self.python.display()))?;
        let mut peer = Peer { process, port, log };
        let since = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            self.interruption.check()?;
            if let Some(status) = peer.process.try_wait()? {
                bail!("{name} ended ({status}):\n{}", peer.log());
            }
            ensure!(since.elapsed() < START, "{name} did not listen within {START:?}:\n{}", peer.log());
            std::thread::sleep(POLL);
        }
        Ok(peer)
    }
}

impl Peer {
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn client(&self) -> HttpClient {
        let agent = ureq::Agent::config_builder().timeout_global(Some(ANSWER)).build().into();
        HttpClient { agent, address: format!("http://{}:{}/predict", Ipv4Addr::LOCALHOST, self.port) }
    }

    pub fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGSTOP).context("pausing a server")
    }

    pub fn go_on(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGCONT).context("waking a server")
    }

    fn signal(&self, signal: Signal) -> nix::Result<()> {
        killpg(Pid::from_raw(self.process.id() as i32), signal)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // A process that has ended already is no error.
        let _ = self.signal(Signal::SIGTERM);
        let _ = self.signal(Signal::SIGCONT);
        let since = Instant::now();
        while matches!(self.process.try_wait(), Ok(None)) && since.elapsed() < STOP {
            std::thread::sleep(POLL);
        }
        let _ = self.signal(Signal::SIGKILL);
        let _ = self.process.wait();
    }
}

/// Longest time for an answer.
const ANSWER: Duration = Duration::from_secs(60);

pub struct HttpClient {
    agent: ureq::Agent,
    address: String,
}

#[derive(Deserialize)]
struct Answered {
    labels: Vec<(String, f64)>,
}

impl Client for HttpClient {
    fn classify(&mut self, picture: &Picture) -> anyhow::Result<Answer> {
        let request = self.agent.post(&self.address).content_type("application/octet-stream");
        let body = request.send(&picture.bytes[..])?.into_body().read_to_vec()?;
        let Answered { labels } = serde_json::from_slice(&body)?;
        Ok(Answer { labels, decode: None })
    }
}
