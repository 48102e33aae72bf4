//! The bare loop of ONNX Runtime, `daemon/examples/bare_loop.rs`, as a child process that measures on request.

use super::generation::Generation;
use anyhow::Context;
use coft_harness::programs::ends_with_us;
use serde::Deserialize;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

#[derive(Debug)]
pub struct BareLoop {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

#[derive(Debug, Deserialize)]
pub struct Taken {
    pub images_per_second: f64,
    /// Latency of every run, s.
    pub latencies_seconds: Vec<f64>,
    pub anonymous_bytes: u64,
}

impl BareLoop {
    pub fn start(program: &Path, generation: &Generation, threads: usize) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        let mut process = ends_with_us(&mut command)
            .arg(generation.model())
            .args([generation.side.to_string(), threads.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the bare loop")?;
        let orders = process.stdin.take().expect("stdin is piped");
        let answers = BufReader::new(process.stdout.take().expect("stdout is piped"));
        Ok(Self { process, orders, answers })
    }

    /// Runs batches for the given time.
    pub fn measure(&mut self, batch: usize, time: Duration) -> anyhow::Result<Taken> {
        writeln!(self.orders, "{batch} {}", time.as_secs_f64()).context("the bare loop has ended")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        serde_json::from_str(&answer).context("the bare loop has ended")
    }
}

impl Drop for BareLoop {
    fn drop(&mut self) {
        // The process may have ended by itself; then nothing is left to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
