//! Calls and signals for programs that watch the service: they do not start it where it was stopped.
//!
//! A call to a service that the bus can start has it started, unless the call says otherwise; the proxies of this
//! package do not.

use crate::{BUS_NAME, Error};
use serde::Serialize;
use std::collections::HashMap;
use zbus::fdo::ManagedObjects;
use zbus::proxy::{CacheProperties, MethodFlags};
use zbus::wire::DynamicDeserialize;
use zbus::{Connection, DynamicType, MatchRule, MessageStream, OwnedVariant, Proxy, message};

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

/// Signals of the service from now on, and those of the bus when the service comes or goes; both outlive it.
///
/// Whoever also makes calls on the connection reads them in a task of its own: a stream that nobody reads holds up the
/// answers of calls.
///
/// # Errors
/// The bus does not take the match rules.
pub async fn signals(connection: &Connection) -> zbus::Result<(MessageStream, MessageStream)> {
    let of_service = MatchRule::builder().msg_type(message::Type::Signal).sender(BUS_NAME).path_namespace(crate::ROOT);
    let of_bus = MatchRule::builder()
        .msg_type(message::Type::Signal)
        .sender("org.freedesktop.DBus")
        .interface("org.freedesktop.DBus")
        .member("NameOwnerChanged")
        .arg(0, BUS_NAME);
    Ok((
        MessageStream::for_match_rule(of_service.build()?, connection, None).await?,
        MessageStream::for_match_rule(of_bus.build()?, connection, None).await?,
    ))
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
