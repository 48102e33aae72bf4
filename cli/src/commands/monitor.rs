//! `coftctl monitor`: prints every event, a line each, until Ctrl-C; it continues over restarts of the service.

use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::render::{self, Style};
use crate::service::{Event, Service};
use futures_util::StreamExt;

pub async fn run(service: &Service, output: Output) -> Result<Exit, CliError> {
    tokio::select! {
        end = monitor(service, output) => end,
        interrupt = tokio::signal::ctrl_c() => {
            interrupt.map_err(CliError::Signal)?;
            Ok(Exit::Interrupted)
        }
    }
}

/// Runs until the connection to the bus is lost.
async fn monitor(service: &Service, output: Output) -> Result<Exit, CliError> {
    let style = Style::of_this_machine();
    let mut signals = service.signals().await?;
    // This message shows that from here on no event is missed.
    eprintln!("monitoring coft; Ctrl-C ends it");
    while let Some(message) = signals.next().await {
        for event in Event::of(&message, jiff::Timestamp::now().as_second()) {
            output.line(&event, || render::event(&event, &style))?;
        }
    }
    Err(CliError::Unreachable("the bus has gone".into()))
}
