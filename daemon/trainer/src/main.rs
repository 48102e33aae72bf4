//! `coft-trainer`: the commands of the service's trainer ([`coft_trainer`]).

use clap::{Parser, Subcommand};
use coft_core::spec::Device;
use coft_trainer::process::Failed;
use coft_trainer::{SAVE_INTERVAL, check, process};
use nix::fcntl::{FcntlArg, fcntl};
use std::fs::File;
use std::io::Write;
use std::os::fd::{BorrowedFd, FromRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
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
        #[arg(long, value_name = "SECONDS", default_value_t = SAVE_INTERVAL.as_secs())]
        save_every: u64,
    },
    /// Says whether libtorch computes on a device, and which file it is.
    Check {
        /// cpu or cuda.
        #[arg(long, default_value = "cpu", value_parser = device)]
        device: Device,
    },
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
    let Err(Failed { message, is_cancelled }) = process::run_round(spec, save_interval, events) else {
        return ExitCode::SUCCESS;
    };
    // The daemon has the event by now, and acts on it; this is for the log.
    complain(&message);
    if is_cancelled { ExitCode::from(3) } else { ExitCode::FAILURE }
}
