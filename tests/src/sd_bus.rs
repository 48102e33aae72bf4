//! A client of the bus that shares no code with coft: sd-bus of libsystemd. It sees the actual messages on the bus.

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A connection to a bus, in a process of its own.
pub struct Client {
    process: Child,
    answers: BufReader<std::process::ChildStdout>,
}

/// The result of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Reply,
    Error { name: String, text: String },
}

/// The Python interpreter for the client.
pub fn python() -> OsString {
    std::env::var_os("COFT_TEST_PYTHON").unwrap_or_else(|| "python3".into())
}

/// Why such a client is not possible here; `None` if it is.
pub fn missing() -> Option<String> {
    let load = Command::new(python()).args(["-c", "import ctypes; ctypes.CDLL('libsystemd.so.0')"]).output();
    match load {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("libsystemd cannot be loaded: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Some(format!("there is no Python: {error}; `cargo xtask setup` installs it")),
    }
}

impl Client {
    /// Connects a client to a bus, `system` or an address. `python` is the command that starts [`python`].
    ///
    /// # Errors
    /// The client cannot be started.
    pub fn connect(mut python: Command, bus: &str) -> anyhow::Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/sd_bus.py");
        python.arg(script).arg(bus).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = python.spawn().context("starting Python")?;
        let answers = BufReader::new(process.stdout.take().expect("stdout is piped"));
        Ok(Self { process, answers })
    }

    /// Calls the service; the comment at the top of sd_bus.py defines the format of `line`.
    ///
    /// # Errors
    /// The client has ended.
    pub fn call(&mut self, line: &str) -> anyhow::Result<Answer> {
        let input = self.process.stdin.as_mut().expect("stdin is piped");
        writeln!(input, "{line}").context("the client has ended")?;
        let mut answer = String::new();
        ensure!(self.answers.read_line(&mut answer)? > 0, "the client has ended at {line:?}");
        let answer: Value = serde_json::from_str(&answer)?;
        match (answer["name"].as_str(), answer["text"].as_str()) {
            (Some(name), Some(text)) => Ok(Answer::Error { name: name.to_owned(), text: text.to_owned() }),
            _ if answer["reply"] == true => Ok(Answer::Reply),
            _ => bail!("{answer} is no answer"),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
