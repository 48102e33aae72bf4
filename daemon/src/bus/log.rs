//! `org.freedesktop.LogControl1`: what of the log `systemctl service-log-level` and `service-log-target` show and
//! change, while the service runs.

use super::authorisation;
use crate::telemetry::{LogControl, LogError, SYSLOG_IDENTIFIER};
use zbus::message::Header;
use zbus::{Connection, fdo, interface};

/// Where systemctl looks for it.
pub const PATH: &str = "/org/freedesktop/LogControl1";

pub struct Log {
    control: LogControl,
}

impl Log {
    pub fn new(control: LogControl) -> Self {
        Self { control }
    }
}

/// Only root and the service's own user set it: the log may name files that nobody else may see.
#[interface(name = "org.freedesktop.LogControl1")]
impl Log {
    #[zbus(property(emits_changed_signal = "false"))]
    fn log_level(&self) -> String {
        self.control.level().into()
    }

    #[zbus(property)]
    async fn set_log_level(
        &self,
        level: String,
        #[zbus(header)] header: Option<Header<'_>>,
        #[zbus(connection)] connection: &Connection,
    ) -> fdo::Result<()> {
        authorisation::check_owner(connection, header.as_ref()).await?;
        self.control.set_level(&level).map_err(refused)
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn log_target(&self) -> String {
        self.control.target().into()
    }

    #[zbus(property)]
    async fn set_log_target(
        &self,
        target: String,
        #[zbus(header)] header: Option<Header<'_>>,
        #[zbus(connection)] connection: &Connection,
    ) -> fdo::Result<()> {
        authorisation::check_owner(connection, header.as_ref()).await?;
        self.control.set_target(&target).map_err(refused)
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn syslog_identifier(&self) -> &str {
        SYSLOG_IDENTIFIER
    }
}

fn refused(error: LogError) -> fdo::Error {
    match error {
        LogError::Level(_) | LogError::Target(_) => fdo::Error::InvalidArgs(error.to_string()),
        LogError::NoJournal | LogError::Failed(_) => fdo::Error::Failed(error.to_string()),
    }
}
