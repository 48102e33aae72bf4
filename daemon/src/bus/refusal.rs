//! A service that cannot start answers for a moment all the same: a call that has it started learns the cause at once,
//! and not after the 25 s in which the bus waits for the name.

use coft_dbus::{BUS_NAME, Bus, Error};
use futures_util::StreamExt;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use zbus::MessageStream;
use zbus::fdo::RequestNameFlags;
use zbus::message::{Flags, Type};

/// How long after the last call the service still waits for another one. 3 s [choice]: the calls that had it started
/// arrive within milliseconds, and systemd refuses to start what has been started five times in 10 s.
const QUIET: Duration = Duration::from_secs(3);
/// How long it answers at most. 10 s [choice].
const LONGEST: Duration = Duration::from_secs(10);

/// Takes the name and answers every call with `cause`, until nobody calls any more.
///
/// # Errors
/// The bus cannot be reached or does not give out the name: nobody waits for an answer then.
pub async fn explain(bus: &str, cause: &str) -> zbus::Result<()> {
    let address: Bus = bus.parse().map_err(zbus::Error::Failure)?;
    let connection = address.builder().build().await?;
    // Before the name is there: the calls follow it at once.
    let mut messages = MessageStream::from(&connection);
    connection.request_name_with_flags(BUS_NAME, RequestNameFlags::DO_NOT_QUEUE).await?;
    let end = Instant::now() + LONGEST;
    let mut until = Instant::now() + QUIET;
    while let Ok(Some(message)) = timeout_at(until.min(end), messages.next()).await {
        let message = message?;
        let header = message.header();
        let waits = !header.primary().flags().contains(Flags::NO_REPLY_EXPECTED);
        if header.message_type() == Type::MethodCall && waits {
            connection.reply_dbus_error(&header, Error::BadConfiguration(cause.to_owned())).await?;
            until = Instant::now() + QUIET;
        }
    }
    // Calls from now on start the service anew.
    connection.release_name(BUS_NAME).await.map(drop)
}
