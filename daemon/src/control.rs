//! The seam between the service and the bus: what a client may ask, and the snapshot that it sees.
//!
//! `app` owns every piece of state and answers [`Command`]s one at a time; `bus` turns method calls into commands and
//! snapshots into properties. Neither knows how the other does it.

use crate::answers::Answers as Answered;
use crate::catalog::Standing;
use crate::config::Config;
use crate::edit::Edit;
use crate::footprint::Footprint;
use crate::round_status::RoundStatus;
use crate::serve::Classifier;
use crate::telemetry::LogControl;
use coft_core::ids::{GenerationId, ImageId, RoundId};
use coft_core::lifecycle::Refusal;
use coft_core::review::{Share, State};
use coft_core::schedule::NextRound;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

/// What the bus holds of the service as a whole: its classifiers, who carries out commands to the service, and two that answer without passing
/// by `app`: what the service takes of its machine, and the log.
#[derive(Clone)]
pub struct Service {
    /// The classifiers that are there now; those of one name are the same as long as that is among them.
    pub classifiers: watch::Receiver<Vec<Control>>,
    /// Why classifiers that are configured are not among them: a mistake of the file of each.
    pub left_out: watch::Receiver<Vec<String>>,
    pub service_commands: mpsc::Sender<ServiceCommand>,
    pub footprint: Footprint,
    pub log: LogControl,
}

/// What the bus holds of a classifier: the way to ask, the latest snapshot, and two that answer without passing by
/// `app`: what classifies, and what is kept of the answers about the sources' pictures.
#[derive(Clone, Debug)]
pub struct Control {
    /// Of the classifier.
    pub name: String,
    /// Whether it has a file to itself: then its jobs lie below its own path on the bus.
    pub apart: bool,
    pub commands: mpsc::Sender<Command>,
    pub snapshot: watch::Receiver<Snapshot>,
    pub classifier: Classifier,
    pub answers: Answered,
}

#[derive(Debug)]
pub enum Command {
    /// Starts a round; answers its id at once, the round goes on as a job.
    StartRound { request: RoundRequest, reply: oneshot::Sender<Result<RoundId, CommandError>> },
    /// Starts a round that takes in a generation from elsewhere, file by file; answers its id at once. Where it is to
    /// be by force, the generation is not judged by what it answers.
    Import { files: HashMap<String, OwnedFd>, force: bool, reply: oneshot::Sender<Result<RoundId, CommandError>> },
    /// Starts a round that lets a generation serve again; answers its id at once, none where that one is active already.
    Activate { generation: GenerationId, reply: oneshot::Sender<Result<Option<RoundId>, CommandError>> },
    /// Asks a running round to stop; it ends as cancelled within seconds. The next one that is started by hand goes on
    /// from what it has done.
    CancelRound { round: RoundId, reply: oneshot::Sender<Result<(), CommandError>> },
    /// Up to so many pictures that a person is asked about, those whose file is there alone, and how the review stands.
    ReviewItems { limit: usize, reply: oneshot::Sender<Result<(Vec<ReviewItem>, ReviewStatus), CommandError>> },
    /// Takes a person's answers, or the last of them back; answers how the review stands then.
    SubmitReview { answers: Answers, reply: oneshot::Sender<Result<ReviewStatus, CommandError>> },
    /// Looks at every source again, as if the service had just started.
    Rescan { reply: oneshot::Sender<Result<(), CommandError>> },
    /// Takes over a configuration that was read again, but for what takes a start; or tells why the old one stays.
    /// Answers the settings whose files have been edited, which takes a start as well.
    Configure { config: Result<Box<Config>, String>, reply: oneshot::Sender<Result<Vec<&'static str>, CommandError>> },
}

/// What is done beside the one that answers commands, since it waits for the disk and for other programs.
#[derive(Debug)]
pub enum ServiceCommand {
    /// Reads the configuration again; answers the settings that are used otherwise from now on.
    Reload { reply: oneshot::Sender<Result<Vec<String>, CommandError>> },
    /// Changes the files of the configuration and uses them at once; or tells why nothing has changed.
    Edit { edit: Edit, reply: oneshot::Sender<Result<(), CommandError>> },
    /// Looks at what the service needs around it.
    Diagnose { reply: oneshot::Sender<Vec<Check>> },
}

/// What one look at the service's surroundings has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was looked at, a word or two.
    pub name: String,
    pub level: Level,
    pub found: String,
    /// What to do about it; empty where nothing is to be done.
    pub advice: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Ok,
    /// The service works, but not as it could.
    Warning,
    /// Something does not work.
    Error,
}

impl Level {
    /// As the bus tells it.
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
    /// Overrides the seed of the work that is taken up, and the configured one.
    pub seed: Option<u64>,
}

/// What a person has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answers {
    /// Ids of images, and the name of the class of each, which is empty where the person cannot tell.
    Labels(Vec<(String, String)>),
    /// The last answer is taken back.
    Undo,
}

/// Why a command was not carried out.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CommandError {
    /// It does not fit to the jobs that run.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Another classifier trains.
    #[error("{0}")]
    Occupied(String),
    /// What the service waits for.
    #[error("{0}")]
    NotReady(String),
    /// An argument that cannot be.
    #[error("{0}")]
    Invalid(String),
    /// Why the configuration that was read again is not used.
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

/// Everything a client can see, made anew after each change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    pub classes: Vec<String>,
    pub active: Option<GenerationId>,
    pub sources: Vec<SourceStatus>,
    /// Pictures that earlier generations have answered, and the active one is yet to answer again.
    pub unanswered_again: u64,
    /// Images in the catalogue.
    pub images: u64,
    /// Files that were refused; see the quarantine ledger.
    pub quarantined: u64,
    /// What the service waits for before it is set up as configured, or what it knows to be otherwise; empty where
    /// nothing is.
    pub setup_problem: String,
    /// Why images cannot be stored now; empty where they can.
    pub intake_problem: String,
    /// Why the active generation does not serve; empty where it does, or where there is none yet.
    pub serving_problem: String,
    /// Execution provider that serves, as ONNX Runtime names it.
    pub provider: String,
    /// Why a provider that comes before it in the configuration does not run the model; empty where none failed.
    pub provider_problem: String,
    /// Why no round can start now; empty where one can.
    pub round_problem: String,
    /// The latest rounds, oldest first, also those of earlier runs of the daemon.
    pub rounds: Vec<RoundStatus>,
    pub next_round: NextRound,
    /// The classifier whose job has to end before a job that is due starts.
    pub waits_for: Option<String>,
    pub generations: Vec<GenerationStatus>,
    /// What a person is asked, or was asked last while the same generation has served.
    pub review: Option<ReviewStatus>,
}

impl Snapshot {
    /// The job that runs: an import or an activation only where the trainer has none.
    pub fn running(&self) -> Option<&RoundStatus> {
        let running = self.rounds.iter().filter(|round| round.ended.is_none());
        running.min_by_key(|round| !round.trigger.kind().needs_trainer())
    }
}

/// How it stands with the pictures that a person is asked about, because nothing else tells which of two generations is
/// better.
#[derive(Clone, Debug, PartialEq)]
pub struct ReviewStatus {
    /// The round that could not decide.
    pub round: RoundId,
    pub candidate: GenerationId,
    /// The generation that serves.
    pub present: GenerationId,
    /// Pictures that both were run over, and those on which they differ.
    pub compared: u64,
    pub differing: u64,
    /// Labels that were given; who cannot tell gives none.
    pub answered: u64,
    pub state: State,
    /// The share of each class among the compared pictures, as far as it is known.
    pub shares: Vec<(String, Share)>,
    /// The round that lets the candidate serve, where it was decided for.
    pub activation: Option<RoundId>,
}

/// A picture that a person is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReviewItem {
    pub image: ImageId,
    /// A file that holds it.
    pub path: PathBuf,
    /// The class that the generation which serves gives it, and the candidate's.
    pub present: String,
    pub candidate: String,
}

/// How it stands with the answers about a source's pictures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceAnswers {
    /// Whether its pictures are answered.
    pub wanted: bool,
    pub standing: Standing,
    /// Why pictures that wait are not answered now; empty where they are.
    pub problem: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SourceStatus {
    /// On the bus, where no other source of the service has it.
    pub number: usize,
    pub path: PathBuf,
    /// Its name, or its path where it has none.
    pub key: PathBuf,
    pub images: u64,
    pub quarantined: u64,
    /// Files that wait to be looked at.
    pub waiting: u64,
    /// Why the directory cannot be watched now, if so.
    pub problem: Option<String>,
    pub answers: SourceAnswers,
}

#[derive(Clone, Debug, PartialEq)]
pub struct GenerationStatus {
    pub generation: GenerationId,
    /// Where its files are.
    pub dir: PathBuf,
    pub round: RoundId,
    /// `zero-shot` or `coft`.
    pub method: String,
    /// Unix time, s.
    pub created: i64,
    /// The generation that was active before this one became so, the last time it did.
    pub replaces: Option<GenerationId>,
    pub active: bool,
    /// Why the rules have not let it serve; none where it has been active.
    pub refused: Option<String>,
    pub images: u64,
    /// Largest difference of a probability between torch and ONNX Runtime on the probe.
    pub parity_max_abs_diff: f64,
    /// `report.json` as text.
    pub report: String,
}
