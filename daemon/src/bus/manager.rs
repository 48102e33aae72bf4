//! `org.coft.Coft1.Manager`: the service as a whole.

use super::authorisation::{self, Action};
use super::classifier::refused;
use crate::control::{Command, Control};
use coft_dbus::Error;
use tokio::sync::oneshot;
use zbus::message::Header;
use zbus::{Connection, interface};

pub struct Manager {
    control: Control,
}

impl Manager {
    pub fn new(control: Control) -> Self {
        Self { control }
    }
}

#[interface(name = "org.coft.Coft1.Manager")]
impl Manager {
    /// Looks through every source again.
    async fn rescan(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Error> {
        authorisation::check(connection, &header, Action::Rescan).await?;
        let (reply, answer) = oneshot::channel();
        self.control.commands.send(Command::Rescan { reply }).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?.map_err(refused)
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> &str {
        env!("CARGO_PKG_VERSION")
    }
}

pub fn stopping() -> Error {
    Error::Stopping("the service is stopping; try again when it has started".into())
}
