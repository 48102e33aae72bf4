//! The errors of the service, by name: `org.coft.Coft1.Error.…`. Each text says what to do.
//!
//! Written out rather than derived: a derived error puts a standard one, such as InvalidArgs, into the text of an
//! `org.freedesktop.zbus.Error`, where only a client that is written with zbus can find it.

use std::fmt;
use zbus::DBusError;
use zbus::message::{Header, Message};
use zbus::names::ErrorName;

macro_rules! errors {
    ($($(#[$meta:meta])* $name:ident,)*) => {
        /// An error of a call to the service. The text of each says what to do.
        #[derive(Debug)]
        pub enum Error {
            /// An error of the bus itself, or a standard one such as InvalidArgs.
            ZBus(zbus::Error),
            $($(#[$meta])* $name(String),)*
        }

        impl Error {
            /// Whole names of the errors that are the service's own.
            pub const NAMES: &[&str] = &[$(concat!("org.coft.Coft1.Error.", stringify!($name)),)*];

            /// The service's own error of that name.
            fn from_name(name: &str, text: &str) -> Option<Self> {
                match name {
                    $(concat!("org.coft.Coft1.Error.", stringify!($name)) => Some(Self::$name(text.to_owned())),)*
                    _ => None,
                }
            }
        }

        impl DBusError for Error {
            fn name(&self) -> ErrorName<'_> {
                match self {
                    Self::ZBus(zbus::Error::MethodError(name, ..)) => name.as_ref(),
                    Self::ZBus(zbus::Error::FDO(error)) => error.name(),
                    Self::ZBus(zbus::Error::DBus(error)) => error.name(),
                    // What went wrong on the service's own way to the bus is none of the standard errors.
                    Self::ZBus(_) => ErrorName::from_static_str_unchecked("org.coft.Coft1.Error.Failed"),
                    $(Self::$name(_) => ErrorName::from_static_str_unchecked(
                        concat!("org.coft.Coft1.Error.", stringify!($name)),
                    ),)*
                }
            }

            fn description(&self) -> Option<&str> {
                match self {
                    Self::ZBus(zbus::Error::FDO(error)) => error.description(),
                    Self::ZBus(error) => error.description(),
                    $(Self::$name(text) => Some(text),)*
                }
            }

            fn create_reply(&self, call: &Header<'_>) -> zbus::Result<Message> {
                let text = match self {
                    // The description of what has no name of its own lacks the details.
                    Self::ZBus(error) if self.name().as_str().starts_with("org.coft.") => error.to_string(),
                    _ => self.description().unwrap_or_default().to_owned(),
                };
                Message::error(call, self.name()).build(&text)
            }
        }
    };
}

errors! {
    /// The queue is full, too many batch sockets are open, or a job runs already, of this classifier or another.
    Busy,
    /// No generation serves, because there is none yet, or it is being loaded, or it cannot be loaded; or the service
    /// waits for what a round needs; or nobody is asked for labels now. The text says what is waited for.
    NotReady,
    /// The image was not answered within the caller's deadline.
    DeadlineExceeded,
    /// The descriptor is no regular file, or the file is no image, is incomplete or damaged, or is too large to decode.
    BadImage,
    /// The catalogue has fewer images than a round needs.
    TooFewImages,
    /// The disk of the state directory has less room than a round needs.
    NoRoom,
    /// The trainer is not installed: the service serves only.
    NoTrainer,
    /// The configuration that was read again has a mistake, or a setting that only a restart can change; the old one
    /// stays.
    NotReloaded,
    /// There is no job with this number to cancel.
    NoSuchRound,
    /// The job that was to be cancelled has ended already.
    AlreadyEnded,
    /// The caller may not do this; polkit decides about everybody but root and the service's own user.
    NotAuthorized,
    /// The service is about to end; a call after its next start is answered.
    Stopping,
    /// The service cannot start before its configuration is corrected; the text says where.
    BadConfiguration,
    /// Anything else; the log of the service says more.
    Failed,
}

impl From<zbus::Error> for Error {
    fn from(error: zbus::Error) -> Self {
        let text = error.description().unwrap_or_default();
        let own = match &error {
            zbus::Error::MethodError(name, ..) => Self::from_name(name.as_str(), text),
            zbus::Error::DBus(error) => Self::from_name(error.name().as_str(), text),
            _ => None,
        };
        own.unwrap_or(Self::ZBus(error))
    }
}

impl From<zbus::fdo::Error> for Error {
    fn from(error: zbus::fdo::Error) -> Self {
        Self::ZBus(error.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ZBus(error) => error.fmt(f),
            _ => write!(f, "{}: {}", self.name(), self.description().unwrap_or_default()),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;
    use zbus::fdo;

    /// A standard error lost its name on the way to clients that are not written with zbus.
    #[test]
    fn every_error_goes_out_under_its_own_name_and_comes_back() {
        let call = Message::method_call("/", "Call").build(&()).unwrap();
        let sent = |error: Error| {
            let reply = error.create_reply(&call.header()).unwrap();
            let name = reply.header().error_name().unwrap().to_string();
            (name, reply.body().deserialize::<String>().unwrap(), reply)
        };
        for name in Error::NAMES {
            let (told, text, reply) = sent(Error::from_name(name, "why").unwrap());
            assert_eq!((told.as_str(), text.as_str()), (*name, "why"));
            let back = Error::from(zbus::Error::from(reply));
            assert_eq!((back.name().as_str(), back.description()), (*name, Some("why")));
            assert!(!matches!(back, Error::ZBus(_)), "{back:?}");
        }
        let (told, text, reply) = sent(fdo::Error::InvalidArgs("top-k 0".into()).into());
        assert_eq!((told.as_str(), text.as_str()), ("org.freedesktop.DBus.Error.InvalidArgs", "top-k 0"));
        let back = Error::from(zbus::Error::from(reply));
        assert_eq!((back.name().as_str(), back.description()), (told.as_str(), Some("top-k 0")));
        let (told, text, _) = sent(Error::ZBus(zbus::Error::Failure("the bus is slow".into())));
        assert_eq!(told, "org.coft.Coft1.Error.Failed");
        assert!(text.contains("the bus is slow"), "{text}");
    }
}
