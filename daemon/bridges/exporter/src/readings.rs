//! One reading at a time, over one connection to the bus. A lost connection is made again.

use coft_dbus::Bus;
use coft_metrics::Metrics;
use tokio::sync::Mutex;
use zbus::Connection;

pub struct Readings {
    bus: Bus,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connection: Option<Connection>,
    /// Why the last reading failed, so that the cause is logged once.
    away: Option<String>,
}

impl Readings {
    pub fn new(bus: Bus) -> Self {
        Self { bus, state: Mutex::default() }
    }

    /// Concurrent requests wait, so coftd gets one request at a time, however many clients ask.
    pub async fn read(&self) -> Metrics {
        let mut state = self.state.lock().await;
        let metrics = match state.connected(&self.bus).await {
            Ok(connection) => Metrics::read(&connection).await,
            Err(error) => Metrics::away(format!("the bus cannot be reached: {error}")),
        };
        if state.away != metrics.away {
            match &metrics.away {
                Some(why) => eprintln!("coftd is away: {why}"),
                None => eprintln!("coftd is there again"),
            }
            state.away.clone_from(&metrics.away);
        }
        metrics
    }
}

impl State {
    async fn connected(&mut self, bus: &Bus) -> zbus::Result<Connection> {
        if let Some(connection) = self.connection.take().filter(|connection| !connection.is_closed()) {
            return Ok(self.connection.insert(connection).clone());
        }
        Ok(self.connection.insert(bus.connect().await?).clone())
    }
}
