//! Why a command failed, with advice, and with the exit code for scripts.
//!
//! Errors of the service are identified by their name, never by their text.

use coft_models::store::StoreError;
use coft_pickle::ConvertError;
use std::{io, process::ExitCode};
use thiserror::Error;
use zbus::DBusError;

/// The exit codes of the program; the table is part of the help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    Unreachable = 3,
    SomeInputs = 4,
    NotAuthorized = 5,
    Busy = 6,
    NotTaken = 7,
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

#[derive(Debug, Error)]
pub enum CliError {
    #[error("{0}")]
    Usage(String),
    #[error("cannot reach coftd: {0}\n  is coftd running? systemctl status coftd")]
    Unreachable(String),
    /// The bus could not have the service started, or does not know it.
    #[error("coftd does not run, and the bus cannot start it: {cause}{advice}")]
    NotStarted { cause: String, advice: &'static str },
    /// The service returned an error. `name` is the last part of its D-Bus name, and `advice` is a line that is added.
    #[error("{message}{advice}")]
    Refused { name: String, message: String, advice: &'static str },
    /// The service's answer has a form that this program does not know.
    #[error("coftd and coftctl do not understand each other: {0}\n  are both of the same version? coftctl status")]
    Misunderstood(String),
    /// The service has no object at that path.
    #[error("coftd has no such object: {0}\n  see what there is: coftctl status")]
    NoObject(String),
    #[error("{0}")]
    NotFound(String),
    /// This program could not read a file, before the service saw it.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Weights could not be converted to safetensors.
    #[error("{0}")]
    Convert(ConvertError),
    /// The files from which a model was made are not a usable model.
    #[error("{0}")]
    Unusable(String),
    #[error("{0}")]
    Hub(String),
    /// A generation could not be written for other programs.
    #[error("{0}")]
    Export(String),
    #[error("cannot describe an image: {0}")]
    Oci(#[from] oci_spec::OciSpecError),
    #[error("cannot write the answer: {0}")]
    Output(#[from] io::Error),
    #[error("cannot listen for Ctrl-C: {0}")]
    Signal(io::Error),
}

impl CliError {
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Unreachable(_) | Self::NotStarted { .. } => Exit::Unreachable,
            Self::Refused { name, .. } => match name.as_str() {
                "NotAuthorized" | "AccessDenied" | "AuthFailed" | "InteractiveAuthorizationRequired" => {
                    Exit::NotAuthorized
                }
                "Busy" | "NotReady" | "Stopping" | "LimitsExceeded" => Exit::Busy,
                "InvalidArgs" => Exit::Usage,
                "BadConfiguration" => Exit::Unreachable,
                _ => Exit::Failed,
            },
            Self::Unreadable(_) => Exit::SomeInputs,
            Self::Store(StoreError::NotAllowed { .. }) => Exit::NotAuthorized,
            Self::Store(StoreError::Busy { .. }) => Exit::Busy,
            Self::Store(StoreError::BadName { .. }) => Exit::Usage,
            Self::Store(_) | Self::Convert(_) | Self::Unusable(_) | Self::Hub(_) | Self::Export(_) | Self::Oci(_) => {
                Exit::Failed
            }
            Self::Misunderstood(_) | Self::NoObject(_) | Self::NotFound(_) | Self::Output(_) | Self::Signal(_) => {
                Exit::Failed
            }
        }
    }

    /// The name of the error, for scripts.
    pub fn name(&self) -> &str {
        match self {
            Self::Usage(_) => "Usage",
            Self::Unreachable(_) | Self::NotStarted { .. } => "Unreachable",
            Self::Refused { name, .. } => name,
            Self::Misunderstood(_) => "Misunderstood",
            Self::NoObject(_) | Self::NotFound(_) => "NotFound",
            Self::Unreadable(_) => "Unreadable",
            Self::Store(_) | Self::Convert(_) | Self::Unusable(_) => "Store",
            Self::Hub(_) => "Hub",
            Self::Export(_) | Self::Oci(_) => "Export",
            Self::Output(_) | Self::Signal(_) => "Local",
        }
    }
}

impl From<ConvertError> for CliError {
    fn from(error: ConvertError) -> Self {
        match error {
            ConvertError::Store(error) => Self::Store(error),
            error => Self::Convert(error),
        }
    }
}

impl From<zbus::Error> for CliError {
    fn from(error: zbus::Error) -> Self {
        match error {
            zbus::Error::MethodError(name, message, _) => {
                not_started(name.as_str(), message.as_deref()).unwrap_or_else(|| refused(name.as_str(), message))
            }
            zbus::Error::FDO(error) => standard(*error),
            zbus::Error::InputOutput(cause) if cause.kind() == io::ErrorKind::TimedOut => {
                Self::Unreachable("it did not answer in time".into())
            }
            error @ (zbus::Error::InputOutput(_)
            | zbus::Error::Connection(..)
            | zbus::Error::Handshake(_)
            | zbus::Error::Address(_)) => Self::Unreachable(error.to_string()),
            other => Self::Misunderstood(other.to_string()),
        }
    }
}

impl From<coft_dbus::Error> for CliError {
    fn from(error: coft_dbus::Error) -> Self {
        match error {
            coft_dbus::Error::ZBus(error) => error.into(),
            error => refused(error.name().as_str(), error.description().map(Into::into)),
        }
    }
}

impl From<zbus::fdo::Error> for CliError {
    fn from(error: zbus::fdo::Error) -> Self {
        standard(error)
    }
}

fn standard(error: zbus::fdo::Error) -> CliError {
    use zbus::fdo::Error;
    match error {
        Error::ZBus(error) => error.into(),
        Error::NoReply(text) | Error::TimedOut(text) | Error::Timeout(text) | Error::Disconnected(text) => {
            CliError::Unreachable(text)
        }
        Error::UnknownObject(text) => CliError::NoObject(text),
        Error::UnknownInterface(text) | Error::UnknownMethod(text) => CliError::Misunderstood(text),
        error => {
            let (name, text) = (error.name(), error.description());
            not_started(name.as_str(), text).unwrap_or_else(|| refused(name.as_str(), text.map(Into::into)))
        }
    }
}

/// The errors of the bus or systemd when a call could not start the service, with advice.
fn not_started(name: &str, text: Option<&str>) -> Option<CliError> {
    const LOOK: &str = "\n  see why: systemctl status coftd; journalctl -u coftd";
    let advice = match name.strip_prefix("org.freedesktop.")? {
        "systemd1.NoSuchUnit" => "\n  coftd is not enabled: sudo systemctl enable --now coftd",
        "systemd1.UnitMasked" => "\n  coftd is masked: sudo systemctl unmask coftd; sudo systemctl enable --now coftd",
        "DBus.Error.ServiceUnknown" | "DBus.Error.NameHasNoOwner" => {
            "\n  is it installed and enabled? sudo systemctl enable --now coftd; see its state: systemctl status coftd"
        }
        // Errors of systemd for a unit that is masked by a link or cannot be read.
        "DBus.Error.FileExists" | "DBus.Error.FileNotFound" | "DBus.Error.IOError" => LOOK,
        "DBus.Error.NoReply" | "DBus.Error.TimedOut" | "DBus.Error.Timeout" | "DBus.Error.Disconnected" => LOOK,
        other if other.starts_with("systemd1.") || other.starts_with("DBus.Error.Spawn.") => LOOK,
        _ => return None,
    };
    Some(CliError::NotStarted { cause: text.filter(|text| !text.is_empty()).unwrap_or(name).to_owned(), advice })
}

/// `name` may be only the last part of the D-Bus name.
pub fn refused(name: &str, message: Option<String>) -> CliError {
    let short = name.rsplit('.').next().unwrap_or(name).to_owned();
    let message = message.filter(|text| !text.is_empty()).unwrap_or_else(|| name.to_owned());
    CliError::Refused { advice: advice(&short), name: short, message }
}

/// The next step for the user. The service cannot give this advice, because it does not know which program calls.
fn advice(name: &str) -> &'static str {
    match name {
        "Busy" => "\n  see what runs: coftctl status",
        "NotReady" => "\n  see what it waits for: coftctl status",
        "TooFewImages" => "\n  see what is catalogued: coftctl status",
        "NoSuchRound" => "\n  see which there are: coftctl job list",
        "AlreadyEnded" => "\n  see how it ended: coftctl job list",
        "NotAuthorized" | "AccessDenied" | "AuthFailed" | "InteractiveAuthorizationRequired" => {
            "\n  ask as an administrator: sudo coftctl …"
        }
        "Stopping" => "\n  try again when it is back: systemctl status coftd",
        "NotReloaded" => "\n  see what is in force: coftctl doctor",
        "BadConfiguration" => "\n  correct the configuration, then: sudo systemctl restart coftd",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> CliError {
        refused(&format!("org.coft.Coft1.Error.{name}"), Some("as told by the service".into()))
    }

    #[test]
    fn each_error_of_the_service_has_its_exit_code() {
        for (name, exit) in [
            ("Busy", Exit::Busy),
            ("NotReady", Exit::Busy),
            ("BadConfiguration", Exit::Unreachable),
            ("Stopping", Exit::Busy),
            ("NotAuthorized", Exit::NotAuthorized),
            ("BadImage", Exit::Failed),
            ("TooFewImages", Exit::Failed),
            ("NoRoom", Exit::Failed),
            ("NoTrainer", Exit::Failed),
            ("NotReloaded", Exit::Failed),
            ("NoSuchRound", Exit::Failed),
            ("AlreadyEnded", Exit::Failed),
            ("Failed", Exit::Failed),
        ] {
            let failure = named(name);
            assert_eq!((failure.name(), failure.exit()), (name, exit));
            assert!(failure.to_string().starts_with("as told by the service"));
        }
    }

    #[test]
    fn a_service_that_is_not_there_is_unreachable() {
        let absent = zbus::fdo::Error::ServiceUnknown("The name is not activatable".into());
        let late = io::Error::from(io::ErrorKind::TimedOut);
        for failure in [
            CliError::from(absent.clone()),
            CliError::from(zbus::Error::FDO(Box::new(absent))),
            CliError::from(zbus::Error::InputOutput(late.into())),
        ] {
            assert_eq!(failure.exit(), Exit::Unreachable);
            assert!(failure.to_string().contains("systemctl status coftd"), "{failure}");
        }
    }

    /// For a unit that was not enabled, the exit code was 1 and the message named a unit that users do not know.
    #[test]
    fn a_service_that_cannot_be_started_is_unreachable_with_what_to_type() {
        for (name, advice) in [
            ("systemd1.NoSuchUnit", "sudo systemctl enable --now coftd"),
            ("systemd1.UnitMasked", "sudo systemctl unmask coftd"),
            ("systemd1.LoadFailed", "journalctl -u coftd"),
            ("systemd1.TransactionIsDestructive", "journalctl -u coftd"),
            ("DBus.Error.ServiceUnknown", "sudo systemctl enable --now coftd"),
            ("DBus.Error.NameHasNoOwner", "sudo systemctl enable --now coftd"),
            ("DBus.Error.Spawn.ChildExited", "journalctl -u coftd"),
            ("DBus.Error.Spawn.ExecFailed", "journalctl -u coftd"),
            ("DBus.Error.Spawn.ServiceNotFound", "journalctl -u coftd"),
            ("DBus.Error.FileExists", "systemctl status coftd"),
            ("DBus.Error.NoReply", "journalctl -u coftd"),
            ("DBus.Error.TimedOut", "journalctl -u coftd"),
        ] {
            let name = format!("org.freedesktop.{name}");
            let failure = not_started(&name, Some("the cause")).expect(&name);
            let shown = failure.to_string();
            assert_eq!((failure.exit(), failure.name()), (Exit::Unreachable, "Unreachable"), "{name}");
            assert!(shown.contains("the cause") && shown.contains(advice), "{shown}");
        }
        assert!(not_started("org.freedesktop.DBus.Error.InvalidArgs", None).is_none());
        assert!(not_started("org.coft.Coft1.Error.Busy", None).is_none());
        let exited = zbus::fdo::Error::SpawnChildExited("the cause".into());
        assert_eq!(CliError::from(zbus::Error::FDO(Box::new(exited))).exit(), Exit::Unreachable);
    }

    #[test]
    fn wrong_arguments_are_usage() {
        assert_eq!(CliError::from(zbus::fdo::Error::InvalidArgs("top-k".into())).exit(), Exit::Usage);
        assert_eq!(CliError::from(zbus::fdo::Error::AccessDenied("no".into())).exit(), Exit::NotAuthorized);
    }
}
