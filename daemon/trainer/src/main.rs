//! `coft-trainer`: one adaptation round with libtorch, in a process of its own.
//!
//! Reads a spec, writes events, leaves a candidate directory. It knows neither the catalogue nor the active model.

mod adapt;
mod arithmetic;
mod baselines;
mod bench;
mod check;
mod checkpoint;
mod clip;
mod cuda;
mod diagnostics;
mod error;
mod export;
mod fit;
#[cfg(test)]
mod fixture;
mod journal;
#[cfg(test)]
mod kernels;
mod loss;
mod memory;
mod model;
mod model_selection;
#[cfg(test)]
mod parity;
mod phase1;
mod phase2;
mod pool;
mod predict;
mod pretrain;
mod progress;
mod prompts;
mod random;
mod round;
mod sgd;

use clap::{Parser, Subcommand};
use coft_core::settings::Deploy;
use coft_core::spec::{Device, Method, PROTOCOL, RoundSpec};
use error::RoundError;
use nix::fcntl::{FcntlArg, fcntl};
use progress::{Reporter, Stop};
use std::fs::File;
use std::io::Write;
use std::os::fd::{BorrowedFd, FromRawFd, RawFd};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Runs one CoFT adaptation round. Started by coftd; not meant for people.
///
/// Exit status: 0 a candidate is in place, 1 the round failed, 3 it was cancelled; the last event says why.
#[derive(Parser)]
#[command(name = "coft-trainer", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the round that a spec describes.
    Round {
        spec: PathBuf,
        /// Open file descriptor for the events, one JSON object a line.
        #[arg(long)]
        events_fd: RawFd,
        /// Seconds between two savings of what is under way.
        #[arg(long, value_name = "SECONDS", default_value_t = journal::SAVE_INTERVAL.as_secs())]
        save_every: u64,
    },
    /// Says whether libtorch computes on a device, and which file it is.
    Check {
        /// cpu or cuda.
        #[arg(long, default_value = "cpu", value_parser = device)]
        device: Device,
    },
    /// Measures one phase on given images (`cargo xtask bench trainer` does, beside a PyTorch script).
    Bench(bench::Args),
    /// Loads a checkpoint and says how long it took, in seconds (`cargo xtask bench load` does, beside the disk).
    Load { model: PathBuf },
    /// Trains a small CLIP from drawn pictures and captions (how the embedded model was made).
    Pretrain(pretrain::Args),
}

fn main() -> ExitCode {
    match Args::parse().command {
        Command::Round { spec, events_fd, save_every } => {
            // SAFETY: the descriptor is only tested, and not kept.
            if events_fd < 0 || fcntl(unsafe { BorrowedFd::borrow_raw(events_fd) }, FcntlArg::F_GETFD).is_err() {
                complain(&format!("--events-fd: descriptor {events_fd} is not open"));
                return ExitCode::from(2);
            }
            // SAFETY: the caller passed this descriptor to be owned here; nothing else in this process uses it.
            let events = unsafe { File::from_raw_fd(events_fd) };
            run_round(&spec, Duration::from_secs(save_every), events)
        }
        Command::Check { device } => told(check::run(device)),
        Command::Pretrain(args) => told(pretrain::run(&args)),
        Command::Bench(args) => told(bench::run(&args)),
        Command::Load { model } => told(bench::load(&model)),
    }
}

fn device(name: &str) -> Result<Device, String> {
    match name {
        "cpu" => Ok(Device::Cpu),
        "cuda" => Ok(Device::Cuda),
        _ => Err("a device is cpu or cuda".into()),
    }
}

/// The exit status of a command that a person started. Prints its error on standard error.
fn told(done: anyhow::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Writes a line to standard error. If standard error is closed, the line is lost and nothing else happens; `eprintln!`
/// would panic.
fn complain(message: &str) {
    let _ = writeln!(std::io::stderr(), "coft-trainer: {message}");
}

fn run_round(spec: &Path, save_interval: Duration, events: File) -> ExitCode {
    let cancelled = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, cancelled.clone()).expect("these signals can be caught");
    }
    let mut reporter = Reporter::new(events, cancelled);
    // tch turns an exception of libtorch (out of memory, for example) into a panic. Report it like any other failure.
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let spec = read(spec)?;
        round::run(&spec, save_interval, &mut reporter).map_err(|failure| failure.on_line_of(&spec.class_lines))
    }));
    let failure = match outcome {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(failure)) => failure,
        Err(panic) => RoundError::of_panic(panic),
    };
    // First report to the daemon, which acts on the event, then to the log.
    let heard = match failure {
        RoundError::Stop(Stop::Disconnected(_)) => false,
        _ => reporter.say(&failure.event()).is_ok(),
    };
    complain(&failure.to_string());
    match failure {
        RoundError::Stop(Stop::Cancelled) if heard => ExitCode::from(3),
        _ => ExitCode::FAILURE,
    }
}

fn read(path: &Path) -> Result<RoundSpec, RoundError> {
    let fault = |cause: String| RoundError::Spec { path: path.to_owned(), cause };
    let text = std::fs::read(path).map_err(|cause| fault(cause.to_string()))?;
    let spec: RoundSpec = serde_json::from_slice(&text).map_err(|cause| fault(cause.to_string()))?;
    if spec.protocol != PROTOCOL {
        return Err(fault(format!("protocol {}; this trainer speaks {PROTOCOL}", spec.protocol)));
    }
    if let Err((key, rule)) = spec.settings.validate() {
        return Err(fault(format!("settings.{key}: {rule}")));
    }
    if spec.method == Method::Upl && spec.student_dir.is_some() {
        return Err(RoundError::Asked("prompt tuning alone has no student"));
    }
    let of_phase_1 = matches!(spec.settings.deploy, Deploy::Phase1Model1 | Deploy::Phase1Model2);
    if of_phase_1 && spec.student_dir.is_some() {
        return Err(RoundError::Asked("settings.deploy asks for a model of Phase I, which a student does not have"));
    }
    if spec.classes.len() < 2 {
        return Err(RoundError::Asked("fewer than 2 classes, where every image gets the same answer; name 2 or more"));
    }
    Ok(spec)
}
