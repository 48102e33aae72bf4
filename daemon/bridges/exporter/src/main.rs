//! Serves coft's metrics to Prometheus over HTTP.
//!
//! Every request asks coftd anew; nothing is cached. If coftd or the bus is away, `coft_up` is 0: that is a valid
//! reading, not an error of this program.

mod readings;
mod server;

use clap::Parser;
use coft_dbus::Bus;
use readings::Readings;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Serves the metrics of coft to Prometheus, at http://127.0.0.1:9077/metrics.
///
/// Exit codes: 0 stopped by request, 1 the address cannot be used, 2 the command line was not understood.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Address and port to listen on. Everybody who can reach the port can read the figures. Keep it on this machine
    /// (127.0.0.1), or put a firewall or an authenticating proxy before it.
    // Prometheus' list of ports has assigned all of 9100 to 9999.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9077")]
    listen: SocketAddr,
    /// Bus of coftd: system, session or a D-Bus address.
    #[arg(long, env = "COFT_BUS", hide_env_values = true, value_name = "BUS", default_value = "system")]
    bus: Bus,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Arguments { listen, bus } = Arguments::parse();
    let listener = match TcpListener::bind(listen).await {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!(
                "coft-exporter: cannot listen on {listen}: {error}\n  another address: --listen (systemctl edit \
                 coft-exporter); who has this one: ss -ltnp"
            );
            return ExitCode::FAILURE;
        }
    };
    // If port 0 was asked for, the port that the system chose.
    let address = listener.local_addr().unwrap_or(listen);
    eprintln!("serving http://{address}/metrics");
    // Without systemd nobody receives this.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    server::run(listener, Arc::new(Readings::new(bus))).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// `COFT_BLESS=1 cargo test -p coft-exporter` writes it.
    #[test]
    fn the_man_page_is_fresh() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../packaging/coft-exporter.8");
        let mut made = Vec::new();
        let command = Arguments::command().name("coft-exporter");
        clap_mangen::Man::new(command).title("coft-exporter").section("8").render(&mut made).unwrap();
        if std::env::var_os("COFT_BLESS").is_some() {
            std::fs::write(&file, &made).unwrap();
        }
        let committed = std::fs::read(&file).unwrap_or_default();
        assert!(committed == made, "{} is not what the command line makes", file.display());
    }
}
