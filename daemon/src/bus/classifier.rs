//! `org.coft.Coft1.Classifier`: answers about images, and the start of rounds.

use super::authorisation::{self, Action};
use super::job::Job;
use super::manager::stopping;
use crate::control::{Command, Control, Refused, RoundRequest, Snapshot};
use crate::serve::{Options, ServeError};
use coft_core::ids::RoundId;
use coft_dbus::{ClassifyDetails, ClassifyOptions, Error, ROOT, RoundOptions, job_path};
use tokio::sync::oneshot;
use tokio::sync::watch::Ref;
use zbus::message::Header;
use zbus::{Connection, ObjectServer, OwnedFd, OwnedObjectPath, interface};

pub struct Classifier {
    control: Control,
}

impl Classifier {
    pub fn new(control: Control) -> Self {
        Self { control }
    }

    fn snapshot(&self) -> Ref<'_, Snapshot> {
        self.control.snapshot.borrow()
    }
}

#[interface(name = "org.coft.Coft1.Classifier")]
impl Classifier {
    /// Class names with probabilities, best first.
    #[zbus(out_args("labels", "details"))]
    async fn classify(
        &self,
        image: OwnedFd,
        options: ClassifyOptions,
    ) -> Result<(Vec<(String, f64)>, ClassifyDetails), Error> {
        let options = Options { top_k: options.top_k.map(|k| k as usize) };
        let answer = self.control.classifier.classify(image.into(), options).await.map_err(unanswered)?;
        let details = ClassifyDetails {
            generation: answer.generation.0,
            queue_seconds: answer.queue.as_secs_f64(),
            decode_seconds: answer.decode.as_secs_f64(),
            inference_seconds: answer.inference.as_secs_f64(),
        };
        Ok((answer.labels, details))
    }

    /// Starts an adaptation round and answers its job at once.
    #[zbus(out_args("job"))]
    async fn start_round(
        &self,
        options: RoundOptions,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
        #[zbus(object_server)] server: &ObjectServer,
    ) -> Result<OwnedObjectPath, Error> {
        authorisation::check(connection, &header, Action::Round).await?;
        let (reply, answer) = oneshot::channel();
        let request = RoundRequest { seed: options.seed };
        self.control.commands.send(Command::StartRound { request, reply }).await.map_err(|_| stopping())?;
        let round = answer.await.map_err(|_| stopping())?.map_err(refused)?;
        // The caller may look at the job at once; usually it is exported already.
        server.at(job_path(round.0), Job::new(self.control.clone(), round)).await?;
        Ok(path(round))
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> String {
        self.snapshot().classifier.clone()
    }

    #[zbus(property)]
    fn classes(&self) -> Vec<String> {
        self.snapshot().classes.clone()
    }

    /// 0 where there is none yet.
    #[zbus(property)]
    fn active_generation(&self) -> u64 {
        self.snapshot().active.map_or(0, |id| id.0)
    }

    #[zbus(property)]
    fn images(&self) -> u64 {
        self.snapshot().images
    }

    #[zbus(property)]
    fn quarantined(&self) -> u64 {
        self.snapshot().quarantined
    }

    #[zbus(property)]
    fn provider(&self) -> String {
        self.snapshot().provider.clone()
    }

    /// The job that runs, or `/`.
    #[zbus(property)]
    fn round(&self) -> OwnedObjectPath {
        let running = self.snapshot().rounds.iter().find(|round| round.ended.is_none()).map(|round| round.round);
        running.map_or_else(OwnedObjectPath::default, path)
    }
}

fn path(round: RoundId) -> OwnedObjectPath {
    OwnedObjectPath::try_from(job_path(round.0)).expect("a number ends a valid path")
}

pub fn unanswered(error: ServeError) -> Error {
    let text = error.to_string();
    match error {
        ServeError::Busy(_) => Error::Busy(format!("{text}; try again in a moment")),
        ServeError::NotReady => Error::NotReady(format!("{text}; wait until the first round has ended")),
        ServeError::BadImage(_) => Error::BadImage(format!("{text}; send a complete image file")),
        ServeError::NotAFile => Error::BadImage(format!("{text}; pass an opened file or a memfd")),
        ServeError::TooLarge { .. } => {
            Error::BadImage(format!("{text}; send a smaller file, or raise file-limit in [serve]"))
        }
        ServeError::Stopped => stopping(),
        ServeError::Internal(_) => Error::Failed(format!("{text}; the log of coftd says more")),
    }
}

/// What the service refused, by name.
pub fn refused(refused: Refused) -> Error {
    let text = refused.to_string();
    match refused {
        Refused::Busy(_) => Error::Busy(format!("{text}; wait until it has ended, or cancel it")),
        Refused::TooFewImages { .. } => {
            Error::TooFewImages(format!("{text}; put more images into the watched directories"))
        }
        Refused::NoSuchRound(_) => Error::NoSuchRound(format!("{text}; each round has an object below {ROOT}/jobs")),
        Refused::AlreadyEnded(_) => Error::AlreadyEnded(format!("{text}; its job says how")),
        Refused::Stopping => stopping(),
        Refused::Failed(_) => Error::Failed(format!("{text}; the log of coftd says more")),
    }
}
