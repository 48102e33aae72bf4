//! What the bus says of an error: its name, and what to do about it.

use crate::answers::AskError;
use crate::control::CommandError;
use crate::serve::ServeError;
use coft_core::lifecycle::Refusal;
use coft_dbus::{Error, ROOT};
use zbus::{DBusError, fdo};

pub fn stopping() -> Error {
    Error::Stopping("the service is stopping; try again when it has started".into())
}

/// The last part of an error's name, and its text.
pub fn named(error: Error) -> (String, String) {
    let name = error.name();
    let name = name.rsplit('.').next().unwrap_or_default().to_owned();
    (name, error.description().unwrap_or_default().to_owned())
}

pub fn unanswered(error: ServeError) -> Error {
    let text = error.to_string();
    match error {
        ServeError::Busy(..) | ServeError::BusyWithAll(_) => Error::Busy(format!("{text}; try again in a moment")),
        ServeError::TooManyBatches(..) | ServeError::TooManyBatchesOfAll(_) => {
            Error::Busy(format!("{text}; close one, or try again later"))
        }
        ServeError::NotReady => Error::NotReady(format!("{text}; wait until the first job has ended")),
        ServeError::Waiting(_) => Error::NotReady(text),
        ServeError::Loading { .. } => Error::NotReady(format!("{text}; try again in a moment")),
        ServeError::NotLoaded { .. } => {
            Error::NotReady(format!("{text}; put that right, loading is tried again every minute"))
        }
        ServeError::DeadlineExceeded => {
            Error::DeadlineExceeded(format!("{text}; allow more time, or keep fewer images under way"))
        }
        // What to do depends on what is wrong with the file: the text says it.
        ServeError::BadImage(_) => Error::BadImage(text),
        ServeError::NotAFile => Error::BadImage(format!("{text}; pass an opened file or a memfd")),
        ServeError::TooLarge { .. } => {
            Error::BadImage(format!("{text}; send a smaller file, or raise file-limit in [serve]"))
        }
        ServeError::OverBudget(_) => Error::BadImage(text),
        ServeError::Stopped => stopping(),
        ServeError::Internal(_) => Error::Failed(format!("{text}; the log of coftd says more")),
    }
}

/// What the service refused, by name.
pub fn refused(refused: CommandError) -> Error {
    let text = refused.to_string();
    match refused {
        CommandError::Refused(Refusal::Busy(_)) | CommandError::Occupied(_) => {
            Error::Busy(format!("{text}; wait until it has ended, or cancel it"))
        }
        CommandError::Refused(Refusal::TooFewImages { .. }) => {
            Error::TooFewImages(format!("{text}; put more images into the watched directories"))
        }
        CommandError::Refused(Refusal::NoSuchJob(_)) => {
            Error::NoSuchRound(format!("{text}; each job has an object below {ROOT}/jobs"))
        }
        CommandError::Refused(Refusal::AlreadyEnded(_)) => Error::AlreadyEnded(format!("{text}; its job says how")),
        CommandError::NotReady(_) => Error::NotReady(text),
        CommandError::Invalid(_) => invalid(text),
        CommandError::Refused(Refusal::Stopping) => stopping(),
        CommandError::NoRoom(_) => Error::NoRoom(text),
        CommandError::NoTrainer(_) => Error::NoTrainer(text),
        CommandError::NotReloaded(_) => Error::NotReloaded(text),
        CommandError::Failed(_) => Error::Failed(format!("{text}; the log of coftd says more")),
    }
}

/// Why a question about answers has none.
pub fn unasked(error: AskError) -> Error {
    let text = error.to_string();
    match error {
        AskError::NotReady => Error::NotReady(format!("{text}; try again in a moment")),
        AskError::NoSource(_) => fdo::Error::UnknownObject(text).into(),
        AskError::Catalog(_) => Error::Failed(text),
    }
}

pub fn invalid(text: String) -> Error {
    fdo::Error::InvalidArgs(text).into()
}
