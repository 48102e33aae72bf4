//! The wish to stop, which everything that waits looks at.

use std::io;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Clones see the same wish.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Wished by SIGTERM or SIGINT.
    ///
    /// # Errors
    /// Where they cannot be received.
    pub fn by_signals() -> io::Result<Self> {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (sender, receiver) = watch::channel(false);
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            sender.send_replace(true);
            // It stays wished.
            sender.closed().await;
        });
        Ok(Self(receiver))
    }

    pub fn is_wished(&self) -> bool {
        *self.0.borrow()
    }

    pub async fn wished(&self) {
        // The sender goes after the last receiver.
        let _ = self.0.clone().wait_for(|wished| *wished).await;
    }
}
