//! The errors of the service, by name: `org.coft.Coft1.Error.…`. Each text says what to do.

use zbus::DBusError;

#[derive(Debug, DBusError)]
#[zbus(prefix = "org.coft.Coft1.Error")]
pub enum Error {
    /// An error of the bus itself, or a standard one such as InvalidArgs.
    #[zbus(error)]
    ZBus(zbus::Error),
    /// The queue is full, or a round runs already.
    Busy(String),
    /// No generation serves: there is none yet, it is being loaded, or it cannot be; or the service waits for what a
    /// round needs.
    NotReady(String),
    /// The image's turn did not come within the caller's deadline.
    DeadlineExceeded(String),
    BadImage(String),
    TooFewImages(String),
    /// The disk of the state directory has less room than a round needs.
    NoRoom(String),
    NoSuchRound(String),
    AlreadyEnded(String),
    NotAuthorized(String),
    Stopping(String),
    /// The service cannot start before its configuration is corrected; the text says where.
    BadConfiguration(String),
    Failed(String),
}
