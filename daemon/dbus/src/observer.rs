//! Calls for programs that watch the service: they do not start it where it was stopped.
//!
//! A call to a service that the bus can start has it started, unless the call says otherwise; the proxies of this
//! package do not.

use crate::{BUS_NAME, Error};
use serde::Serialize;
use std::collections::HashMap;
use zbus::fdo::ManagedObjects;
use zbus::proxy::{CacheProperties, MethodFlags};
use zbus::wire::DynamicDeserialize;
use zbus::{Connection, DynamicType, OwnedVariant, Proxy};

/// Calls a method of an object of the service.
///
/// # Errors
/// The service's own; see [`is_away`] for those of a service that does not run.
pub async fn call<R>(
    connection: &Connection,
    path: &str,
    interface: &str,
    method: &str,
    body: &(impl Serialize + DynamicType),
) -> Result<R, Error>
where
    R: for<'d> DynamicDeserialize<'d>,
{
    let proxy: Proxy<'_> = zbus::proxy::Builder::new(connection)
        .destination(BUS_NAME)
        .path(path)
        .interface(interface)
        .cache_properties(CacheProperties::No)
        .build()
        .await?;
    let answer = proxy.call_with_flags(method, MethodFlags::NO_AUTO_START, body).await?;
    Ok(answer.expect("a reply is expected"))
}

/// Every object of the service but the manager, with its properties.
///
/// # Errors
/// As [`call`].
pub async fn objects(connection: &Connection) -> Result<ManagedObjects, Error> {
    call(connection, crate::ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", &()).await
}

/// The properties of an object.
///
/// # Errors
/// As [`call`].
pub async fn properties(
    connection: &Connection,
    path: &str,
    interface: &str,
) -> Result<HashMap<String, OwnedVariant>, Error> {
    call(connection, path, "org.freedesktop.DBus.Properties", "GetAll", &interface).await
}

/// Whether the service does not run, or is about to start or to end: what fails now will not fail when it is there
/// again.
pub fn is_away(error: &Error) -> bool {
    use zbus::DBusError;
    const AWAY: [&str; 5] = ["ServiceUnknown", "NameHasNoOwner", "NoReply", "UnknownObject", "Disconnected"];
    match error {
        Error::NotReady(_) | Error::Stopping(_) | Error::BadConfiguration(_) => true,
        error => {
            let name = error.name();
            name.strip_prefix("org.freedesktop.DBus.Error.").is_some_and(|name| AWAY.contains(&name))
        }
    }
}
