//! `org.coft.Coft1.Job`: a job, running or ended, also in an earlier run of the service.

use super::authorisation::{self, Action};
use super::errors::{refused, stopping};
use crate::control::{Command, Control};
use crate::job_status::{DetailedState, JobStatus};
use coft_core::event::{Failure, Progress};
use coft_core::ids::JobId;
use coft_dbus::{Error, JobResult, classifier_job_path, job_path};
use tokio::sync::oneshot;
use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, ObjectServer, OwnedObjectPath, fdo, interface};

pub struct Job {
    control: Control,
    job: JobId,
}

impl Job {
    pub fn new(control: Control, job: JobId) -> Self {
        Self { control, job }
    }

    fn status<T>(&self, read: impl FnOnce(&JobStatus) -> T) -> fdo::Result<T> {
        let snapshot = self.control.snapshot.borrow();
        let status = snapshot.jobs.iter().find(|status| status.id == self.job).map(read);
        status.ok_or_else(|| fdo::Error::UnknownObject(format!("job {} is gone", self.job)))
    }

    fn progress<T: Default>(&self, read: impl FnOnce(&Progress) -> T) -> fdo::Result<T> {
        self.status(|status| status.progress.as_ref().map(read).unwrap_or_default())
    }
}

#[interface(name = "org.coft.Coft1.Job")]
impl Job {
    /// Asks the job to stop. It ends as `cancelled` within seconds.
    ///
    /// Errors: NotAuthorized, AlreadyEnded, NoSuchRound, NotReady, Stopping.
    async fn cancel(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), Error> {
        authorisation::check(connection, &header, Action::Round).await?;
        let (reply, answer) = oneshot::channel();
        let command = Command::CancelJob { job: self.job, reply };
        self.control.commands.send(command).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?.map_err(refused)
    }

    /// The job has ended; `state` is its state from now on. The signal is sent once.
    #[zbus(signal)]
    pub async fn finished(emitter: &SignalEmitter<'_>, state: &str) -> zbus::Result<()>;

    /// Number of the job; each classifier counts its own.
    #[zbus(property(emits_changed_signal = "const"))]
    fn round(&self) -> u64 {
        self.job.0
    }

    /// Name of the classifier whose job it is.
    #[zbus(property(emits_changed_signal = "const"))]
    fn classifier(&self) -> String {
        self.control.name.clone()
    }

    /// What the job does: `adaptation` (a round, which learns from images), `zero-shot` (makes a generation of the
    /// pretrained model), `import` or `activation`.
    #[zbus(property(emits_changed_signal = "const"))]
    fn kind(&self) -> fdo::Result<String> {
        self.status(|status| status.trigger.kind().to_string())
    }

    /// Why the job was started: `manual`, `schedule`, `zero-shot`, `import` or `activation`.
    #[zbus(property(emits_changed_signal = "const"))]
    fn trigger(&self) -> fdo::Result<String> {
        self.status(|status| status.trigger.to_string())
    }

    /// `running`, `promoted`, `kept`, `failed`, `cancelled` or `interrupted`.
    #[zbus(property)]
    fn state(&self) -> fdo::Result<String> {
        self.status(|status| status.state.name().to_string())
    }

    /// What the job does now: `load`, `label`, `phase1-model1`, `phase1-model2`, `filter`, `phase2-model1`,
    /// `phase2-model2`, `choose`, `export`, or `compare`, where the candidate and what serves answer pictures that a
    /// person may be asked about. Empty before the trainer's first report.
    #[zbus(property)]
    fn stage(&self) -> fdo::Result<String> {
        self.progress(|progress| progress.stage.as_str().to_owned())
    }

    /// Share of the job that is done, 0 to 1; that of the trainer's work, so that it is 1 while `Stage` is `compare`.
    #[zbus(property)]
    fn fraction(&self) -> fdo::Result<f64> {
        self.progress(|progress| progress.fraction)
    }

    /// Image visits of the present stage that are done.
    #[zbus(property)]
    fn images_done(&self) -> fdo::Result<u64> {
        self.progress(|progress| progress.images_done)
    }

    /// Image visits of the present stage as a whole.
    #[zbus(property)]
    fn images_total(&self) -> fdo::Result<u64> {
        self.progress(|progress| progress.images_total)
    }

    /// Image visits per second in the present stage; 0 where it is not known yet.
    #[zbus(property)]
    fn images_per_second(&self) -> fdo::Result<f64> {
        self.progress(|progress| progress.images_per_second)
    }

    /// Time to the end of the job, s; −1 where it is not known.
    #[zbus(property)]
    fn remaining_seconds(&self) -> fdo::Result<f64> {
        self.status(|status| status.progress.as_ref().and_then(|p| p.remaining_seconds).unwrap_or(-1.0))
    }

    /// When the job began, Unix time, s.
    #[zbus(property(emits_changed_signal = "const"))]
    fn started(&self) -> fdo::Result<i64> {
        self.status(|status| status.started.wall)
    }

    /// When the job ended, Unix time, s; 0 while it runs.
    #[zbus(property)]
    fn ended(&self) -> fdo::Result<i64> {
        self.status(|status| status.ended.map_or(0, |ended| ended.wall))
    }

    /// How long the job took, s, measured by a clock that nobody sets; −1 while it runs.
    #[zbus(property)]
    fn took_seconds(&self) -> fdo::Result<f64> {
        self.status(|status| status.took().map_or(-1.0, |took| took.as_secs_f64()))
    }

    /// Number of the round whose unfinished work this round takes up; 0 for none.
    #[zbus(property(emits_changed_signal = "const"))]
    fn continues(&self) -> fdo::Result<u64> {
        self.status(|status| status.continues.map_or(0, |job| job.0))
    }

    /// Images that had been taken in when the job began: those that it trains on, and older ones whose pixels are
    /// not kept any more. 0 where it needs none.
    #[zbus(property)]
    fn images(&self) -> fdo::Result<u64> {
        self.status(|status| status.images)
    }

    /// What the job came to. `promoted`: `generation` (`t`). `kept`: `reason` (`s`), and `candidate` (`t`) while
    /// that generation is there. `failed`: `error-kind`, `message` and `hint` (`s`). Empty in every other state.
    #[zbus(property)]
    fn result(&self) -> fdo::Result<JobResult> {
        self.status(|status| result(&status.state))
    }

    /// What went otherwise than expected and did not end the job, oldest first.
    #[zbus(property)]
    fn warnings(&self) -> fdo::Result<Vec<String>> {
        self.status(|status| status.warnings.clone())
    }
}

/// Where a job of this classifier is.
pub fn path_of(control: &Control, job: JobId) -> String {
    if control.apart { classifier_job_path(&control.name, job.0) } else { job_path(job.0) }
}

/// The same as what a call answers.
pub fn path(control: &Control, job: JobId) -> OwnedObjectPath {
    OwnedObjectPath::try_from(path_of(control, job)).expect("a number ends a valid path")
}

/// A job that has just started, which the caller may look at at once; usually it is exported already.
pub async fn export(control: &Control, job: JobId, server: &ObjectServer) -> Result<OwnedObjectPath, Error> {
    server.at(path_of(control, job), Job::new(control.clone(), job)).await?;
    Ok(path(control, job))
}

fn result(state: &DetailedState) -> JobResult {
    match state {
        DetailedState::Promoted(id) => JobResult { generation: Some(id.0), ..JobResult::default() },
        DetailedState::Kept { reason, candidate } => {
            JobResult { reason: Some(reason.clone()), candidate: candidate.map(|kept| kept.0), ..JobResult::default() }
        }
        DetailedState::Failed(Failure { kind, message, hint }) => JobResult {
            error_kind: serde_json::to_value(kind).ok().and_then(|kind| kind.as_str().map(str::to_owned)),
            message: Some(message.clone()),
            hint: Some(hint.clone()),
            ..JobResult::default()
        },
        DetailedState::Running | DetailedState::Cancelled | DetailedState::Interrupted => JobResult::default(),
    }
}
