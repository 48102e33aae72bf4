//! Which callers are still there, and whose they are: work for one that has left the bus ends where it is, and each
//! user has its share.

use crate::decode_budget::Party;
use crate::serve::ServeError;
use futures_util::StreamExt;
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use zbus::message::Header;
use zbus::names::BusName;
use zbus::proxy::CacheProperties;
use zbus::{Connection, fdo};

/// The callers on the bus, by their unique names; clones share them.
#[derive(Clone, Default)]
pub struct Clients(Arc<Mutex<HashMap<String, Client>>>);

#[derive(Default)]
struct Client {
    calls: usize,
    gone: CancellationToken,
    /// The user that the bus has named; none until it was asked.
    user: Option<u32>,
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
                    && let Some(client) = known.known().remove(change.name().as_str())
                {
                    client.gone.cancel();
                }
            }
        });
        Ok((clients, task))
    }

    /// The caller of `header`, and the user whose it is: the bus is asked once a connection.
    pub async fn caller(&self, header: &Header<'_>, connection: &Connection) -> Result<Caller, ServeError> {
        let sender = header.sender().ok_or(ServeError::Stopped)?;
        let name = sender.to_string();
        let (gone, user) = {
            let mut known = self.known();
            let client = known.entry(name.clone()).or_default();
            client.calls += 1;
            (client.gone.clone(), client.user)
        };
        // From here on it is forgotten however this ends.
        let mut caller = Caller { gone, clients: self.clone(), name, party: Party::User(0) };
        let user = match user {
            Some(user) => user,
            // One that has left the bus waits for no answer.
            None => {
                let user =
                    user_of(BusName::from(sender.to_owned()), connection).await.map_err(|_| ServeError::Stopped)?;
                if let Some(client) = self.known().get_mut(&caller.name) {
                    client.user = Some(user);
                }
                user
            }
        };
        caller.party = Party::User(user);
        Ok(caller)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Client>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn user_of(caller: BusName<'_>, connection: &Connection) -> zbus::Result<u32> {
    let bus = fdo::DBusProxy::builder(connection).cache_properties(CacheProperties::No).build().await?;
    Ok(bus.get_connection_unix_user(caller).await?)
}

/// Somebody with a call under way, however it ends.
pub struct Caller {
    clients: Clients,
    name: String,
    gone: CancellationToken,
    pub party: Party,
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
            // One whose user is known is there until the bus says otherwise.
            if client.calls == 0 && client.user.is_none() {
                known.remove(&self.name);
            }
        }
    }
}
