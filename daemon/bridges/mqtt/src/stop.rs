//! The request to stop, which everything that waits checks.

use std::io;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Clones share the same request.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// A request to stop by SIGTERM or SIGINT.
    ///
    /// # Errors
    /// The signals cannot be received.
    pub fn by_signals() -> io::Result<Self> {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (sender, receiver) = watch::channel(false);
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            sender.send_replace(true);
            // Keeps the sender alive, so that the request stays set.
            sender.closed().await;
        });
        Ok(Self(receiver))
    }

    pub fn is_wished(&self) -> bool {
        *self.0.borrow()
    }

    pub async fn wished(&self) {
        // The sender outlives all receivers.
        let _ = self.0.clone().wait_for(|wished| *wished).await;
    }
}
