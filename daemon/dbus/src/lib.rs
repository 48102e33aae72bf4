//! What an application needs to talk to coft over D-Bus: where things are, proxies, and named errors.
//!
//! Images travel as file descriptors. Anything longer than a second is a job: the method that starts it returns at
//! once, the job's object tells of progress and outcome, and it stays after the client has gone.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use coft_dbus::{Bus, ClassifierProxy, ClassifyOptions};
//!
//! let connection = Bus::System.connect().await?;
//! let classifier = ClassifierProxy::builder(&connection).path(coft_dbus::classifier_path("default")).build().await?;
//! let image = std::fs::File::open("part.jpg")?;
//! let options = ClassifyOptions { top_k: Some(1), ..ClassifyOptions::default() };
//! let (labels, details) = classifier.classify((&image).into(), options).await?;
//! println!("{} ({:.2}), generation {}", labels[0].0, labels[0].1, details.generation);
//! # Ok(())
//! # }
//! ```

#![warn(missing_docs, clippy::missing_errors_doc)]

mod error;
pub mod observer;
mod options;
mod proxy;
pub mod stream;

pub use error::Error;
pub use options::{
    ClassifyOptions, ImportOptions, NewClassifier, RemovalOptions, ReviewOptions, RoundOptions, SourceOptions,
};
pub use proxy::{ClassifierProxy, GenerationProxy, JobProxy, ManagerProxy, SourceProxy};

use serde::{Deserialize, Serialize};
use std::str::FromStr;
use std::time::Duration;
use zbus::connection::Builder;
use zbus::{Connection, DeserializeDict, SerializeDict, Type};

/// Name of the service on the bus.
pub const BUS_NAME: &str = "org.coft.Coft1";
/// Home of the manager and of the ObjectManager.
pub const ROOT: &str = "/org/coft/Coft1";

/// Interface names.
pub mod interface {
    /// Interface of the service as a whole, at [`crate::ROOT`].
    pub const MANAGER: &str = "org.coft.Coft1.Manager";
    /// Interface of a classifier, at [`crate::classifier_path`].
    pub const CLASSIFIER: &str = "org.coft.Coft1.Classifier";
    /// Interface of a generation, at [`crate::generation_path`].
    pub const GENERATION: &str = "org.coft.Coft1.Generation";
    /// Interface of a watched directory, at [`crate::source_path`].
    pub const SOURCE: &str = "org.coft.Coft1.Source";
    /// Interface of a job, at [`crate::job_path`] or [`crate::classifier_job_path`].
    pub const JOB: &str = "org.coft.Coft1.Job";
}

/// How long a call may take: 25 s, as in libdbus.
pub const TIMEOUT: Duration = Duration::from_secs(25);

/// Path of the classifier with this name.
pub fn classifier_path(name: &str) -> String {
    format!("{ROOT}/classifiers/{name}")
}

/// Path of a generation of the classifier with this name.
pub fn generation_path(classifier: &str, number: u64) -> String {
    format!("{ROOT}/classifiers/{classifier}/generations/{number}")
}

/// Path of a job of the classifier that stands in the configuration file itself.
pub fn job_path(number: u64) -> String {
    format!("{ROOT}/jobs/{number}")
}

/// Path of a job of a classifier that has a file to itself.
pub fn classifier_job_path(classifier: &str, number: u64) -> String {
    format!("{ROOT}/classifiers/{classifier}/jobs/{number}")
}

/// Path of the source with this number; sources are numbered from 0 over all classifiers.
pub fn source_path(number: usize) -> String {
    format!("{ROOT}/sources/{number}")
}

/// Which bus: `system`, `session` or a D-Bus address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bus {
    /// The bus of the system, where the service is by default.
    System,
    /// The bus of the user's session.
    Session,
    /// A D-Bus address, for example `unix:path=/run/bus`.
    Address(String),
}

impl FromStr for Bus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "system" => Ok(Bus::System),
            "session" => Ok(Bus::Session),
            address => match zbus::Address::try_from(address) {
                Ok(_) => Ok(Bus::Address(address.to_owned())),
                Err(error) => {
                    Err(format!("{address:?} is neither system, session nor a D-Bus address (unix:path=…): {error}"))
                }
            },
        }
    }
}

impl Bus {
    /// Begins a connection to this bus, with zbus's defaults.
    pub fn builder(&self) -> Builder<'_> {
        match self {
            Bus::System => Builder::system(),
            Bus::Session => Builder::session(),
            Bus::Address(address) => Builder::address(address.as_str()),
        }
    }

    /// A client's connection; calls give up after [`TIMEOUT`].
    ///
    /// # Errors
    /// The bus cannot be reached, or does not let this user in.
    pub async fn connect(&self) -> zbus::Result<Connection> {
        self.builder().method_timeout(TIMEOUT).build().await
    }
}

/// Images of one `ClassifyMany`: as many descriptors as the bus lets through in a message.
pub const MANY: usize = 16;

/// What `Diagnose` has found in one look: what was looked at, `ok`, `warning` or `error`, what was found, and what to
/// do about it, empty where nothing is to be done.
pub type Check = (String, String, String, String);

/// What `Measure` has found; what is absent could not be found out.
#[derive(Clone, Debug, Default, PartialEq, SerializeDict, DeserializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "kebab-case")]
pub struct Figures {
    /// Images that were answered with labels since the service started, for clients and sources together.
    pub classified_images: Option<u64>,
    /// Images since the service started that were taken in and could not be answered.
    pub failed_images: Option<u64>,
    /// Images since the service started that were refused because too many waited.
    pub refused_images: Option<u64>,
    /// Waiting, s: the sum over the images that were answered.
    pub queue_seconds: Option<f64>,
    /// Reading, decoding and preprocessing, s: the sum over the images that were answered.
    pub decode_seconds: Option<f64>,
    /// The batch that an image was part of, s: the sum over the images that were answered.
    pub inference_seconds: Option<f64>,
    /// How long the pictures of the sources have waited for their answers, from when each file was seen to be complete:
    /// the sum, s.
    pub answer_delay_seconds: Option<f64>,
    /// The same counted: upper bounds, s, each with the number of pictures that waited up to the bound and longer than
    /// the bound before. The last bound is infinite.
    pub answer_delays: Option<Vec<(f64, u64)>>,
    /// Images of the priority `interactive` that wait or are under way now.
    pub waiting_interactive: Option<u64>,
    /// Images of the priority `bulk` that wait or are under way now.
    pub waiting_bulk: Option<u64>,
    /// Memory of the service that is resident, B.
    pub memory_bytes: Option<u64>,
    /// What the service may still write to the disk of the state directory, B.
    pub disk_free_bytes: Option<u64>,
    /// Size of the disk of the state directory, B.
    pub disk_size_bytes: Option<u64>,
}

/// How an answer of `Classify` came about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Type)]
#[zbus(signature = "a{sv}")]
#[serde(rename_all = "kebab-case")]
pub struct ClassifyDetails {
    /// Whether the image looks like none of the classes.
    #[serde(with = "zbus::as_variant")]
    pub none_of_these: bool,
    /// The class that the configured thresholds decide for, where there are some.
    #[serde(with = "zbus::as_variant::optional", skip_serializing_if = "Option::is_none", default)]
    pub decision: Option<String>,
    /// Embedding of the image, of length 1, where it was wanted.
    #[serde(with = "zbus::as_variant::optional", skip_serializing_if = "Option::is_none", default)]
    pub embedding: Option<Vec<f64>>,
    /// The generation that answered.
    #[serde(with = "zbus::as_variant")]
    pub generation: u64,
    /// Waiting for a thread that decodes and for the model, s.
    #[serde(with = "zbus::as_variant")]
    pub queue_seconds: f64,
    /// Reading, decoding and preprocessing, s.
    #[serde(with = "zbus::as_variant")]
    pub decode_seconds: f64,
    /// Of the batch that the image was part of, s.
    #[serde(with = "zbus::as_variant")]
    pub inference_seconds: f64,
    /// What it ran on, as ONNX Runtime names it.
    #[serde(with = "zbus::as_variant")]
    pub provider: String,
}

/// How one answer of `ClassifyMany` came about: what [`ClassifyDetails`] has, or `error` and `message`.
#[derive(Clone, Debug, Default, PartialEq, SerializeDict, DeserializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "kebab-case")]
pub struct ManyDetails {
    /// Whether the image looks like none of the classes.
    pub none_of_these: Option<bool>,
    /// The class that the configured thresholds decide for, where there are some.
    pub decision: Option<String>,
    /// Embedding of the image, of length 1, where it was wanted.
    pub embedding: Option<Vec<f64>>,
    /// The generation that answered.
    pub generation: Option<u64>,
    /// Waiting for its turn, s.
    pub queue_seconds: Option<f64>,
    /// Reading, decoding and preprocessing, s.
    pub decode_seconds: Option<f64>,
    /// The batch that the image was part of, s.
    pub inference_seconds: Option<f64>,
    /// Execution provider that ran the model, as ONNX Runtime names it.
    pub provider: Option<String>,
    /// What follows `org.coft.Coft1.Error.` in the name of the error that this image alone would have been answered
    /// with.
    pub error: Option<String>,
    /// What went wrong with this image, and what to do.
    pub message: Option<String>,
}

impl From<ClassifyDetails> for ManyDetails {
    fn from(details: ClassifyDetails) -> Self {
        Self {
            none_of_these: Some(details.none_of_these),
            decision: details.decision,
            embedding: details.embedding,
            generation: Some(details.generation),
            queue_seconds: Some(details.queue_seconds),
            decode_seconds: Some(details.decode_seconds),
            inference_seconds: Some(details.inference_seconds),
            provider: Some(details.provider),
            error: None,
            message: None,
        }
    }
}

/// What a person is asked, because nothing else tells which of two generations is better; without a field where nothing
/// is.
#[derive(Clone, Debug, Default, PartialEq, SerializeDict, DeserializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "kebab-case")]
pub struct Review {
    /// `asking`, or how it was decided: `candidate`, `present` or `no-difference`.
    pub state: Option<String>,
    /// The round that could not decide.
    pub round: Option<u64>,
    /// The generation that it made.
    pub candidate: Option<u64>,
    /// The generation that serves.
    pub present: Option<u64>,
    /// Share of the compared pictures on which the two differ, 0 to 1.
    pub differs: Option<f64>,
    /// Pictures that both were run over.
    pub compared: Option<u64>,
    /// Labels that were given.
    pub answered: Option<u64>,
    /// Labels that are asked for at most.
    pub most: Option<u64>,
    /// Of each class its share among the compared pictures, and an interval of 95 %: the lower and the upper end. Empty
    /// where nothing is known yet.
    pub shares: Option<Vec<(String, f64, f64, f64)>>,
    /// The job that lets the candidate serve, where it was decided for and that has begun.
    pub activation: Option<u64>,
}

/// A picture that a person is asked about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Type)]
#[zbus(signature = "a{sv}")]
#[serde(rename_all = "kebab-case")]
pub struct ReviewItem {
    /// A file that holds it; what is not UTF-8 of its name, or cannot be seen, is escaped.
    #[serde(with = "zbus::as_variant")]
    pub path: String,
    /// The part of the file's picture that is asked about, as shares of its width and height: the distance from the
    /// left and from the top, the width and the height. Absent where it is the whole picture.
    #[serde(with = "zbus::as_variant::optional", skip_serializing_if = "Option::is_none", default)]
    pub crop: Option<(f64, f64, f64, f64)>,
    /// The class that the generation which serves gives it.
    #[serde(with = "zbus::as_variant")]
    pub present: String,
    /// The class that the candidate gives it.
    #[serde(with = "zbus::as_variant")]
    pub candidate: String,
}

/// Answers that `Observations` and `FindObservations` hand out at most in a call, and pictures of each list of
/// `CompareGenerations`.
pub const OBSERVATIONS: u32 = 1000;
/// The label of a picture that looks like none of the classes.
pub const NONE_OF_THESE: &str = "none-of-these";
/// The state of a source whose latest pictures do not agree on one.
pub const UNKNOWN: &str = "unknown";

/// The answer about a picture that a source has brought: its sequence number, which has no gaps within a source; the
/// image by the SHA-256 of the file, in hex; the likeliest labels with their probabilities, best first; and the
/// details.
pub type Observation = (u64, String, Vec<(String, f64)>, ObservationDetails);

/// How an answer about a picture of a source came about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Type)]
#[zbus(signature = "a{sv}")]
#[serde(rename_all = "kebab-case")]
pub struct ObservationDetails {
    /// When the picture came, Unix time, s.
    #[serde(with = "zbus::as_variant")]
    pub time: i64,
    /// Name of the classifier that answered.
    #[serde(with = "zbus::as_variant")]
    pub classifier: String,
    /// The generation that answered.
    #[serde(with = "zbus::as_variant")]
    pub generation: u64,
    /// How much likelier the likeliest label is than the next one.
    #[serde(with = "zbus::as_variant")]
    pub margin: f64,
    /// Whether a person should look at it: the likeliest label has a probability of less than 0.6.
    #[serde(with = "zbus::as_variant")]
    pub doubtful: bool,
    /// Whether the picture looks like none of the classes; absent where that is not asked for.
    #[serde(with = "zbus::as_variant::optional", skip_serializing_if = "Option::is_none", default)]
    pub none_of_these: Option<bool>,
    /// The class that the configured thresholds decide for, where there are some.
    #[serde(with = "zbus::as_variant::optional", skip_serializing_if = "Option::is_none", default)]
    pub decision: Option<String>,
    /// The generation that serves, where another one has answered and this one has answered again.
    #[serde(with = "zbus::as_variant::optional", skip_serializing_if = "Option::is_none", default)]
    pub later_generation: Option<u64>,
    /// Label that counts in the answer of `later_generation`.
    #[serde(with = "zbus::as_variant::optional", skip_serializing_if = "Option::is_none", default)]
    pub later_label: Option<String>,
    /// Probability of that label, 0 to 1; absent for [`NONE_OF_THESE`].
    #[serde(with = "zbus::as_variant::optional", skip_serializing_if = "Option::is_none", default)]
    pub later_probability: Option<f64>,
    /// The file that came, for those who may see it, and never in a signal; what is not UTF-8 of its name, or cannot be
    /// seen, is escaped.
    #[serde(with = "zbus::as_variant::optional", skip_serializing_if = "Option::is_none", default)]
    pub path: Option<String>,
}

impl ObservationDetails {
    /// The label that counts: none of the classes, or the decision, or the likeliest.
    pub fn label<'a>(&'a self, labels: &'a [(String, f64)]) -> &'a str {
        match &self.decision {
            _ if self.none_of_these == Some(true) => NONE_OF_THESE,
            Some(decision) => decision,
            None => labels.first().map_or(UNKNOWN, |(label, _)| label),
        }
    }
}

/// Which answers `FindObservations` and `CountObservations` look at: those of which all that is given holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, SerializeDict, DeserializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "kebab-case", deny_unknown_fields)]
pub struct ObservationFilter {
    /// The label that counts.
    pub label: Option<String>,
    /// Whether the answer is doubtful, as [`ObservationDetails::doubtful`] has it.
    pub doubtful: Option<bool>,
    /// The picture came then or later, Unix time, s; in counts the hour of then counts as a whole.
    pub since: Option<i64>,
    /// A sequence number that is larger, to go on from one call to the next; not for counts.
    pub before: Option<u64>,
    /// The generation that answered.
    pub generation: Option<u64>,
    /// The name of the classifier; not for counts.
    pub classifier: Option<String>,
    /// Whether the generation that serves has answered again, with another label that counts; not for counts.
    pub changed: Option<bool>,
}

/// How many pictures `CompareGenerations` has compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Type)]
#[zbus(signature = "a{sv}")]
#[serde(rename_all = "kebab-case")]
pub struct Comparison {
    /// Pictures that both generations have answered.
    #[serde(with = "zbus::as_variant")]
    pub compared: u64,
    /// Those of them to which the newer one gives another label.
    #[serde(with = "zbus::as_variant")]
    pub changed: u64,
    /// Pictures that the newer one is yet to answer again.
    #[serde(with = "zbus::as_variant")]
    pub waiting: u64,
}

/// What two generations say of a picture: its image by the SHA-256 of the file, in hex, and the details.
pub type Difference = (String, DifferenceDetails);

/// The labels that count, with their probabilities, which none of the classes does not have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Type)]
#[zbus(signature = "a{sv}")]
#[serde(rename_all = "kebab-case")]
pub struct DifferenceDetails {
    /// Label that counts in the answer of the older generation.
    #[serde(with = "zbus::as_variant")]
    pub old_label: String,
    /// Its probability, 0 to 1; absent for [`NONE_OF_THESE`].
    #[serde(with = "zbus::as_variant::optional", skip_serializing_if = "Option::is_none", default)]
    pub old_probability: Option<f64>,
    /// Label that counts in the answer of the newer generation.
    #[serde(with = "zbus::as_variant")]
    pub new_label: String,
    /// Its probability, 0 to 1; absent for [`NONE_OF_THESE`].
    #[serde(with = "zbus::as_variant::optional", skip_serializing_if = "Option::is_none", default)]
    pub new_probability: Option<f64>,
    /// How much likelier the newer generation takes its likeliest label to be than the next one.
    #[serde(with = "zbus::as_variant")]
    pub margin: f64,
    /// When the picture came, Unix time, s.
    #[serde(with = "zbus::as_variant")]
    pub time: i64,
    /// Directory of the source that brought it.
    #[serde(with = "zbus::as_variant")]
    pub source: String,
    /// The file that came, for those who may see it; escaped as in an [`Observation`].
    #[serde(with = "zbus::as_variant::optional", skip_serializing_if = "Option::is_none", default)]
    pub path: Option<String>,
}

/// When a round starts by itself, unless one runs; without either field rounds start by hand alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, SerializeDict, DeserializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "kebab-case")]
pub struct NextRound {
    /// So many more images have to come first.
    pub images: Option<u64>,
    /// Unix time, s; 0 where it starts as soon as none runs.
    pub at: Option<i64>,
    /// Name of the classifier whose job has to end first.
    pub waits_for: Option<String>,
}

/// What a job came to; which fields are there depends on its state.
#[derive(Clone, Debug, Default, PartialEq, Eq, SerializeDict, DeserializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "kebab-case")]
pub struct JobResult {
    /// `promoted`: the generation that is active since.
    pub generation: Option<u64>,
    /// `kept`: why the candidate was not taken.
    pub reason: Option<String>,
    /// `kept`: the generation that the candidate is kept as, for somebody to activate it, while it is there.
    pub candidate: Option<u64>,
    /// `failed`: what kind of failure, in a word, for example `disk-full`.
    pub error_kind: Option<String>,
    /// `failed`: what happened.
    pub message: Option<String>,
    /// `failed`: what to do about it.
    pub hint: Option<String>,
}
