//! Why a verb did not do what was asked, with the way on and the exit code that scripts go by.
//!
//! Errors of the service are told apart by name, never by their text.

use coft_models::store::StoreError;
use std::{io, process::ExitCode};
use thiserror::Error;
use zbus::DBusError;

/// How the program ends; the table is part of the help.
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
pub enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error("cannot reach coftd: {0}\n  is coftd running? systemctl status coftd")]
    Unreachable(String),
    /// The service answered with an error; `name` is the last part of its D-Bus name, and `advice` a line that is put to it.
    #[error("{message}{advice}")]
    Refused { name: String, message: String, advice: &'static str },
    /// The service answered, but not in the words of this program.
    #[error("coftd and coftctl do not understand each other: {0}\n  are both of the same version? coftctl status")]
    Misunderstood(String),
    /// The service has nothing at that path.
    #[error("coftd has no such object: {0}\n  see what there is: coftctl status")]
    NoObject(String),
    #[error("{0}")]
    NotFound(String),
    /// A file that could not be read here, before the service saw it.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Hub(String),
    /// A generation that could not be written for other programs.
    #[error("{0}")]
    Export(String),
    #[error("cannot describe an image: {0}")]
    Oci(#[from] oci_spec::OciSpecError),
    #[error("cannot write the answer: {0}")]
    Output(#[from] io::Error),
    #[error("cannot listen for Ctrl-C: {0}")]
    Signal(io::Error),
}

impl Failure {
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Unreachable(_) => Exit::Unreachable,
            Self::Refused { name, .. } => match name.as_str() {
                "NotAuthorized" | "AccessDenied" | "AuthFailed" | "InteractiveAuthorizationRequired" => {
                    Exit::NotAuthorized
                }
                "Busy" | "NotReady" | "Stopping" | "LimitsExceeded" => Exit::Busy,
                "InvalidArgs" => Exit::Usage,
                _ => Exit::Failed,
            },
            Self::Unreadable(_) => Exit::SomeInputs,
            Self::Store(StoreError::NotAllowed { .. }) => Exit::NotAuthorized,
            Self::Store(StoreError::Busy { .. }) => Exit::Busy,
            Self::Store(StoreError::BadName { .. }) => Exit::Usage,
            Self::Store(_) | Self::Hub(_) | Self::Export(_) | Self::Oci(_) => Exit::Failed,
            Self::Misunderstood(_) | Self::NoObject(_) | Self::NotFound(_) | Self::Output(_) | Self::Signal(_) => {
                Exit::Failed
            }
        }
    }

    /// The name under which scripts find the error.
    pub fn name(&self) -> &str {
        match self {
            Self::Usage(_) => "Usage",
            Self::Unreachable(_) => "Unreachable",
            Self::Refused { name, .. } => name,
            Self::Misunderstood(_) => "Misunderstood",
            Self::NoObject(_) | Self::NotFound(_) => "NotFound",
            Self::Unreadable(_) => "Unreadable",
            Self::Store(_) => "Store",
            Self::Hub(_) => "Hub",
            Self::Export(_) | Self::Oci(_) => "Export",
            Self::Output(_) | Self::Signal(_) => "Local",
        }
    }
}

impl From<zbus::Error> for Failure {
    fn from(error: zbus::Error) -> Self {
        match error {
            zbus::Error::MethodError(name, message, _) => refused(name.as_str(), message),
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

impl From<coft_dbus::Error> for Failure {
    fn from(error: coft_dbus::Error) -> Self {
        match error {
            coft_dbus::Error::ZBus(error) => error.into(),
            error => refused(error.name().as_str(), error.description().map(Into::into)),
        }
    }
}

impl From<zbus::fdo::Error> for Failure {
    fn from(error: zbus::fdo::Error) -> Self {
        standard(error)
    }
}

fn standard(error: zbus::fdo::Error) -> Failure {
    use zbus::fdo::Error;
    match error {
        Error::ZBus(error) => error.into(),
        Error::ServiceUnknown(text)
        | Error::NameHasNoOwner(text)
        | Error::NoReply(text)
        | Error::Disconnected(text) => Failure::Unreachable(text),
        Error::UnknownObject(text) => Failure::NoObject(text),
        Error::UnknownInterface(text) | Error::UnknownMethod(text) => Failure::Misunderstood(text),
        error => refused(error.name().as_str(), error.description().map(Into::into)),
    }
}

/// `name` may be the last part of the D-Bus name alone.
pub fn refused(name: &str, message: Option<String>) -> Failure {
    let short = name.rsplit('.').next().unwrap_or(name).to_owned();
    let message = message.filter(|text| !text.is_empty()).unwrap_or_else(|| name.to_owned());
    Failure::Refused { advice: advice(&short), name: short, message }
}

/// What to do next, where the service cannot know it: it does not know which program asks.
fn advice(name: &str) -> &'static str {
    match name {
        "Busy" => "\n  see what runs: coftctl status",
        "NotReady" => "\n  see what it waits for: coftctl status",
        "TooFewImages" => "\n  see what is catalogued: coftctl status",
        "NoSuchRound" => "\n  see which there are: coftctl round list",
        "AlreadyEnded" => "\n  see how it ended: coftctl round list",
        "NotAuthorized" | "AccessDenied" | "AuthFailed" | "InteractiveAuthorizationRequired" => {
            "\n  ask as an administrator: sudo coftctl …"
        }
        "Stopping" => "\n  try again when it is back: systemctl status coftd",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Failure {
        refused(&format!("org.coft.Coft1.Error.{name}"), Some("as told by the service".into()))
    }

    #[test]
    fn each_error_of_the_service_has_its_exit_code() {
        for (name, exit) in [
            ("Busy", Exit::Busy),
            ("NotReady", Exit::Busy),
            ("Stopping", Exit::Busy),
            ("NotAuthorized", Exit::NotAuthorized),
            ("BadImage", Exit::Failed),
            ("TooFewImages", Exit::Failed),
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
            Failure::from(absent.clone()),
            Failure::from(zbus::Error::FDO(Box::new(absent))),
            Failure::from(zbus::Error::InputOutput(late.into())),
        ] {
            assert_eq!(failure.exit(), Exit::Unreachable);
            assert!(failure.to_string().contains("systemctl status coftd"), "{failure}");
        }
    }

    #[test]
    fn wrong_arguments_are_usage() {
        assert_eq!(Failure::from(zbus::fdo::Error::InvalidArgs("top-k".into())).exit(), Exit::Usage);
        assert_eq!(Failure::from(zbus::fdo::Error::AccessDenied("no".into())).exit(), Exit::NotAuthorized);
    }
}
