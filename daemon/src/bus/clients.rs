//! Which callers are still there: work for one that has left the bus ends where it is.

use crate::serve::ServeError;
use futures_util::StreamExt;
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use zbus::message::Header;
use zbus::{Connection, fdo};

/// The callers with a call under way, by their unique names; clones share them.
#[derive(Clone, Default)]
pub struct Clients(Arc<Mutex<HashMap<String, Client>>>);

#[derive(Default)]
struct Client {
    calls: usize,
    gone: CancellationToken,
}

impl Clients {
    /// Follows the bus's names, in a task that ends with the connection or when it is aborted.
    pub async fn follow(connection: &Connection) -> zbus::Result<(Self, JoinHandle<()>)> {
        let clients = Self::default();
        let mut changes = fdo::DBusProxy::new(connection).await?.receive_name_owner_changed().await?;
        let known = clients.clone();
        let task = tokio::spawn(async move {
            while let Some(change) = changes.next().await {
                let Ok(change) = change.args() else { continue };
                if change.new_owner().is_none()
                    && let Some(client) = known.known().get(change.name().as_str())
                {
                    client.gone.cancel();
                }
            }
        });
        Ok((clients, task))
    }

    /// Works for the caller of `header` until it is done or the caller has gone.
    pub async fn while_there<T>(
        &self,
        header: &Header<'_>,
        work: impl Future<Output = Result<T, ServeError>>,
    ) -> Result<T, ServeError> {
        // Nobody reads the answer of a call that is cut off.
        self.caller(header).while_there(work).await.unwrap_or(Err(ServeError::Stopped))
    }

    pub fn caller(&self, header: &Header<'_>) -> Caller {
        let name = header.sender().map(ToString::to_string).unwrap_or_default();
        let mut known = self.known();
        let client = known.entry(name.clone()).or_default();
        client.calls += 1;
        Caller { gone: client.gone.clone(), clients: self.clone(), name }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Client>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody with a call under way, however it ends.
pub struct Caller {
    clients: Clients,
    name: String,
    gone: CancellationToken,
}

impl Caller {
    /// None where the caller has gone before the work was done.
    pub async fn while_there<T>(self, work: impl Future<Output = T>) -> Option<T> {
        self.gone.run_until_cancelled(work).await
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let mut known = self.clients.known();
        if let Some(client) = known.get_mut(&self.name) {
            client.calls -= 1;
            if client.calls == 0 {
                known.remove(&self.name);
            }
        }
    }
}
