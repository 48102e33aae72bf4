//! Sends the answers for the pictures of coft's sources to an MQTT broker.
//!
//! `config` reads the configuration, `broker` is the connection to the broker and `coft` the one to the service,
//! `topics` makes the messages, `position` stores how far they were sent, and `session` joins all of these; `log` and
//! `stop` do what their names say. This program is a client of coft like any other: it sees no more than every user on
//! the bus.

mod broker;
mod coft;
mod config;
mod levels;
mod log;
mod position;
mod session;
mod stop;
mod topics;
mod wait;

use clap::Parser;
use coft_dbus::Bus;
use config::Config;
use position::Positions;
use session::Bridge;
use std::path::PathBuf;
use std::process::ExitCode;
use stop::Stop;
use tracing::error;

/// Sends what the pictures of coft's sources show to an MQTT broker, as soon as the pictures are answered.
///
/// docs/bridges.md describes the topics, Home Assistant, and what to do about problems. The password for the broker is
/// the systemd credential coft-mqtt.password.
///
/// Exit codes: 0 stopped by request, 1 failed, 2 bad configuration (correct it first).
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file.
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_FILE)]
    config: PathBuf,
    /// Directory that stores the number of the last answer that the broker has acknowledged.
    #[arg(
        long,
        value_name = "DIR",
        env = "STATE_DIRECTORY",
        hide_env_values = true,
        default_value = "/var/lib/coft-mqtt"
    )]
    state_dir: PathBuf,
    /// Bus of coftd: system, session or a D-Bus address.
    #[arg(long, value_name = "BUS", env = "COFT_BUS", hide_env_values = true, default_value = "system")]
    bus: Bus,
    /// Read the configuration and the files that it names, report a mistake, and end. The exit code is 0, or 2 if
    /// something has to be corrected.
    #[arg(long)]
    check: bool,
}

/// Exit code for a bad configuration: a restart would not help.
const BAD_CONFIGURATION: u8 = 2;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Arguments { config: file, state_dir, bus, check } = Arguments::parse();
    log::start();
    let prepared = Config::read(&file).and_then(|config| config.connect(&file).map(|connect| (config, connect)));
    let (config, connect) = match prepared {
        Ok(prepared) => prepared,
        Err(problem) => {
            error!("{problem}");
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    if check {
        return ExitCode::SUCCESS;
    }
    let stop = match Stop::by_signals() {
        Ok(stop) => stop,
        Err(error) => {
            error!("signals cannot be received: {error}");
            return ExitCode::FAILURE;
        }
    };
    match Positions::open(&state_dir) {
        Ok(positions) => {
            wait::ready();
            Bridge { config, connect, bus, positions, stop }.run().await;
            ExitCode::SUCCESS
        }
        Err(problem) => {
            error!("{problem}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// `COFT_BLESS=1 cargo test -p coft-mqtt` writes it.
    #[test]
    fn the_man_page_is_fresh() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../packaging/coft-mqtt.8");
        let mut made = Vec::new();
        let command = Arguments::command().name("coft-mqtt");
        clap_mangen::Man::new(command).title("coft-mqtt").section("8").render(&mut made).unwrap();
        if std::env::var_os("COFT_BLESS").is_some() {
            std::fs::write(&file, &made).unwrap();
        }
        let committed = std::fs::read(&file).unwrap_or_default();
        assert!(committed == made, "{} is not what the command line makes", file.display());
    }
}
