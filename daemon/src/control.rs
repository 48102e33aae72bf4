//! The interface between the service and the bus: what a client may ask, and the snapshot that it sees.
//!
//! `app` owns every piece of state and answers [`Command`]s one at a time; `bus` turns method calls into commands and
//! snapshots into properties. Neither knows how the other does it.

use crate::answers::Answers as Answered;
use crate::catalog::Standing;
use crate::config::Config;
use crate::edit::Edit;
use crate::footprint::Footprint;
use crate::job_status::JobStatus;
use crate::serve::Classifier;
use crate::telemetry::LogControl;
use coft_core::ids::{GenerationId, ImageId, JobId};
use coft_core::lifecycle::Refusal;
use coft_core::review::{Share, State};
use coft_core::schedule::NextRound;
use coft_vision::Region;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

/// What the bus knows of the service as a whole: its classifiers, the channel for commands to the service, and two
/// parts that answer without `app`: `footprint`, what the service uses of its machine, and the log.
#[derive(Clone)]
pub struct Service {
    /// The classifiers that exist now. An entry with the same name is the same classifier as long as the name stays in
    /// the list.
    pub classifiers: watch::Receiver<Vec<Control>>,
    /// Why configured classifiers are not among them: the mistake in the file of each.
    pub left_out: watch::Receiver<Vec<String>>,
    pub service_commands: mpsc::Sender<ServiceCommand>,
    pub footprint: Footprint,
    pub log: LogControl,
}

/// What the bus knows of a classifier: the channel for commands, the latest snapshot, and two parts that answer without
/// `app`: the one that classifies images, and the stored answers about the sources' pictures.
#[derive(Clone, Debug)]
pub struct Control {
    pub name: String,
    /// Whether the classifier has a file of its own: then its jobs lie below its own path on the bus.
    pub apart: bool,
    pub commands: mpsc::Sender<Command>,
    pub snapshot: watch::Receiver<Snapshot>,
    pub classifier: Classifier,
    pub answers: Answered,
}

#[derive(Debug)]
pub enum Command {
    /// Starts a round. Replies with its id at once; the round goes on as a job.
    StartRound { request: RoundRequest, reply: oneshot::Sender<Result<JobId, CommandError>> },
    /// Starts a job that imports a generation, given as open files by name. Replies with the job's id at once. With
    /// `force` the generation is not judged by what it answers.
    Import { files: HashMap<String, OwnedFd>, force: bool, reply: oneshot::Sender<Result<JobId, CommandError>> },
    /// Starts a job that activates an existing generation. Replies with the job's id at once; none if that generation
    /// is active already.
    Activate { generation: GenerationId, reply: oneshot::Sender<Result<Option<JobId>, CommandError>> },
    /// Asks a running job to stop; it ends as cancelled within seconds. The next round that is started by hand takes up
    /// the work of a cancelled round.
    CancelJob { job: JobId, reply: oneshot::Sender<Result<(), CommandError>> },
    /// Replies with the state of the review and at most `limit` pictures that a person is asked about. Pictures whose
    /// file is not there are left out.
    ReviewItems { limit: usize, reply: oneshot::Sender<Result<(Vec<ReviewItem>, ReviewStatus), CommandError>> },
    /// Stores a person's answers, or takes the last one back. Replies with the state of the review after that.
    SubmitReview { answers: Answers, reply: oneshot::Sender<Result<ReviewStatus, CommandError>> },
    /// Counts what a generation has answered, see [`LabelCount`].
    CountAnswers { generation: GenerationId, reply: oneshot::Sender<Result<Vec<LabelCount>, CommandError>> },
    /// Scans every source again, as if the service had just started.
    Rescan { reply: oneshot::Sender<Result<(), CommandError>> },
    /// Applies a configuration that was read again, except the settings that need a restart; an error means that the
    /// old configuration stays. Replies with the settings whose files have been edited, which need a restart as well.
    Configure { config: Result<Box<Config>, String>, reply: oneshot::Sender<Result<Vec<&'static str>, CommandError>> },
}

/// Commands that are carried out apart from [`Command`]s, because they wait for the disk and for other programs.
#[derive(Debug)]
pub enum ServiceCommand {
    /// Reads the configuration again. Replies with the settings that have changed and are used from now on.
    Reload { reply: oneshot::Sender<Result<Vec<String>, CommandError>> },
    /// Changes the configuration files and uses the change at once. An error says why nothing has changed.
    Edit { edit: Edit, reply: oneshot::Sender<Result<(), CommandError>> },
    /// Checks what the service needs around it.
    Diagnose { reply: oneshot::Sender<Vec<Check>> },
}

/// Result of one check of the service's surroundings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was checked, in a word or two.
    pub name: String,
    pub level: Level,
    pub found: String,
    /// What to do about it; empty if nothing is to be done.
    pub advice: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Ok,
    /// The service works, but not as well as it could.
    Warning,
    /// Something does not work.
    Error,
}

impl Level {
    /// The name of the level on the bus.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoundRequest {
    /// Overrides the configured seed and the seed of the round that is taken up.
    pub seed: Option<u64>,
}

/// What a person answers in a review.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answers {
    /// Image id and class name of each answer; the name is empty if the person cannot tell.
    Labels(Vec<(String, String)>),
    /// Takes the last answer back.
    Undo,
}

/// Why a command was not carried out.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CommandError {
    /// The command does not fit the jobs that run.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Another classifier is training.
    #[error("{0}")]
    Occupied(String),
    /// The service is not ready; the text says what it waits for.
    #[error("{0}")]
    NotReady(String),
    /// An argument is invalid.
    #[error("{0}")]
    Invalid(String),
    /// The configuration was read again but is not used; the text says why.
    #[error("{0}")]
    NotReloaded(String),
    /// The trainer is not installed.
    #[error("{0}")]
    NoTrainer(String),
    #[error("the disk is too full for a round: {0}")]
    NoRoom(String),
    #[error("{0}")]
    Failed(String),
}

/// Everything that a client can see of a classifier, built anew after each change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    pub classes: Vec<String>,
    pub active: Option<GenerationId>,
    pub sources: Vec<SourceStatus>,
    /// Pictures that earlier generations have answered and that the active one has not answered again yet.
    pub unanswered_again: u64,
    /// Images in the catalogue.
    pub images: u64,
    /// Files that were refused; see the quarantine ledger.
    pub quarantined: u64,
    /// What is still missing before the service is set up as configured, or what differs from the configuration; empty
    /// if nothing is.
    pub setup_problem: String,
    /// Why images cannot be stored now; empty if they can.
    pub intake_problem: String,
    /// Why the active generation does not serve; empty if it does, or if there is none yet.
    pub serving_problem: String,
    /// Execution provider that serves, as ONNX Runtime names it.
    pub provider: String,
    /// Why a provider that comes before `provider` in the configuration does not run the model; empty if none
    /// failed.
    pub provider_problem: String,
    /// Why no round can start now; empty if one can.
    pub round_problem: String,
    /// The latest jobs, oldest first, also those of earlier runs of the daemon.
    pub jobs: Vec<JobStatus>,
    pub next_round: NextRound,
    /// The classifier whose job has to end before a job that is due starts.
    pub waits_for: Option<String>,
    pub generations: Vec<GenerationStatus>,
    /// The open review, or the last one since the active generation began to serve.
    pub review: Option<ReviewStatus>,
}

impl Snapshot {
    /// The job that runs. If there are several, one that needs the trainer is preferred to an import or an activation.
    pub fn running(&self) -> Option<&JobStatus> {
        let running = self.jobs.iter().filter(|job| job.ended.is_none());
        running.min_by_key(|job| !job.trigger.kind().needs_trainer())
    }
}

/// State of a review: of the pictures that a person is asked about because nothing else shows which of two generations
/// is better.
#[derive(Clone, Debug, PartialEq)]
pub struct ReviewStatus {
    /// The round that could not decide.
    pub round: JobId,
    pub candidate: GenerationId,
    /// The generation that serves.
    pub present: GenerationId,
    /// Pictures that both generations were run on; `differing` are those on which they differ.
    pub compared: u64,
    pub differing: u64,
    /// Labels that were given; a picture whose class the person could not tell is not counted.
    pub answered: u64,
    pub state: State,
    /// Share of each class among the compared pictures, as far as it is known.
    pub shares: Vec<(String, Share)>,
    /// The job that activates the candidate, if the review decided for it.
    pub activation: Option<JobId>,
}

/// A picture that a person is asked about.
#[derive(Clone, Debug, PartialEq)]
pub struct ReviewItem {
    pub image: ImageId,
    /// A file that holds the image.
    pub path: PathBuf,
    /// The part of the file's picture that is the image; `None` for the whole picture.
    pub crop: Option<Region>,
    /// The class that the active generation gives the picture; `candidate` is the candidate's class.
    pub present: String,
    pub candidate: String,
}

/// State of the answers about a source's pictures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceAnswers {
    /// Whether the source's pictures are answered.
    pub wanted: bool,
    pub standing: Standing,
    /// Why waiting pictures are not answered now; empty if they are.
    pub problem: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SourceStatus {
    /// Number of the source on the bus; no other source of the service has it.
    pub number: usize,
    pub path: PathBuf,
    /// Name of the source, or its path if it has no name.
    pub key: PathBuf,
    pub images: u64,
    pub quarantined: u64,
    /// Files that wait to be looked at.
    pub waiting: u64,
    /// Why the directory cannot be watched now; none if it can.
    pub problem: Option<String>,
    pub answers: SourceAnswers,
}

/// How often a generation has given a label to the latest pictures of the sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelCount {
    /// The label that counts: the decision, the likeliest class, or none of the classes.
    pub label: String,
    pub pictures: u64,
    /// Those of the pictures that the user has labelled, and those that the user has given this label.
    pub labelled: u64,
    pub right: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct GenerationStatus {
    pub generation: GenerationId,
    /// Where its files are.
    pub dir: PathBuf,
    /// The job that made it, or imported it.
    pub job: JobId,
    /// `zero-shot` or `coft`.
    pub method: String,
    /// Unix time, s.
    pub created: i64,
    /// The generation that was active before this one, when this one was last activated.
    pub replaces: Option<GenerationId>,
    pub active: bool,
    /// Why the rules refused the generation; none for one that has been active.
    pub refused: Option<String>,
    pub images: u64,
    /// Share of each class that the user had set when it was made, in label order; empty if none were set.
    pub shares: Vec<(String, f64)>,
    /// Largest difference of a probability between torch and ONNX Runtime on the probe.
    pub parity_max_abs_diff: f64,
    /// `report.json` as text.
    pub report: String,
}
