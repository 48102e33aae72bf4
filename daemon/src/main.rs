//! coftd: watches folders, runs adaptation rounds, serves the classifier over D-Bus.

mod answers;
mod app;
mod bus;
mod catalog;
mod clock;
mod config;
mod control;
mod decode_budget;
mod disk_space;
mod edit;
mod footprint;
mod ingest;
mod job_status;
mod model;
mod observation;
mod observed_file;
mod regular;
mod review;
mod round;
mod serve;
mod state_dir;
mod store;
mod systemd;
mod telemetry;
mod user_labels;
mod watch;

use clap::Parser;
use coft_core::shown::shown_path;
use config::check::Report;
use config::{ConfigFile, Overrides};
use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use telemetry::events;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{debug, error, warn};

/// Makes an image classifier out of class names and folders of unlabelled images, and serves it on D-Bus.
///
/// Exit codes: 0 stopped by request, 1 failed or the bus has gone (start it again), 2 bad configuration (correct it
/// first).
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file.
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_FILE)]
    config: PathBuf,
    /// Directory of everything the service writes [default: what the configuration says, or /var/lib/coft].
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// `system`, `session` or a D-Bus address [default: what the configuration says, or system].
    #[arg(long, value_name = "BUS")]
    bus: Option<String>,
    /// Check the configuration and every file that it names, print what is wrong as JSON, and end: with 0, or with 2
    /// where something has to be corrected. `coftctl config check` shows it to people.
    #[arg(long)]
    check: bool,
}

/// How long work that still runs (loading a generation, classifying images) may take after everything else has ended.
/// [choice]
const LAST_WORK: Duration = Duration::from_secs(5);

const FAILED: u8 = 1;
const BAD_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    // Nothing about the user's images may leave the device. From version 1.29 on, ONNX Runtime sends telemetry unless
    // this variable is set.
    // SAFETY: no other thread runs yet.
    unsafe { std::env::set_var("ORT_DISABLE_TELEMETRY", "1") };
    // Memory of large pictures and weights is returned to the system when it is freed. By default, glibc raises the
    // size from which it does so, and freed memory stays spread over its arenas. Memory of a small picture stays with
    // the thread that decodes.
    // SAFETY: the arguments are plain numbers.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 8 << 20);
    }
    // All files that the service writes are readable for its own user alone.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_retain(0o077));
    let Arguments { config: path, state_dir, bus, check } = Arguments::parse();
    let file = ConfigFile { path, overrides: Overrides { state_dir, bus } };
    if check {
        return checked(&file);
    }
    let log = match telemetry::start() {
        Ok(log) => log,
        Err(error) => {
            eprintln!("coftd: {}: {error}", telemetry::FILTER_VARIABLE);
            return BAD_CONFIGURATION.into();
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let loaded = match file.read() {
        Ok(loaded) => loaded,
        Err(error) => {
            error!(message_id = events::BAD_CONFIGURATION, problem = %error, "{error}");
            let told = runtime.map(|runtime| runtime.block_on(bus::explain(&file.bus(), &error.to_string())));
            if let Ok(Err(error)) = told {
                debug!("nobody was told on the bus: {error}");
            }
            return BAD_CONFIGURATION.into();
        }
    };
    if let Some((_, advice)) = loaded.deprecated() {
        warn!("{}: {advice}", shown_path(&file.path));
    }
    let ended = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        let ended = runtime.block_on(async {
            let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
            let hangups = signal(SignalKind::hangup())?;
            Ok(app::run(file, loaded, log, asked_to_stop(terminate, interrupt), hangups).await)
        });
        runtime.shutdown_timeout(LAST_WORK);
        ended
    });
    match ended {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) if error.is_configuration() => {
            error!(message_id = events::BAD_CONFIGURATION, problem = %error, "{error}");
            BAD_CONFIGURATION.into()
        }
        Ok(Err(error)) => failed(&error),
        Err(error) => failed(&error),
    }
}

fn failed(problem: &dyn fmt::Display) -> ExitCode {
    error!(message_id = events::FAILED, %problem, "{problem}");
    FAILED.into()
}

/// Prints the mistakes in a configuration.
fn checked(file: &ConfigFile) -> ExitCode {
    let report = Report::of(file);
    let text = serde_json::to_string_pretty(&report).expect("a report is plain text and numbers");
    // The reader of the output may have gone.
    let _ = writeln!(io::stdout(), "{text}");
    if report.is_bad() { BAD_CONFIGURATION.into() } else { ExitCode::SUCCESS }
}

async fn asked_to_stop(mut terminate: Signal, mut interrupt: Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
