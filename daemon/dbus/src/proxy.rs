//! Client side of each interface. The introspection XML beside this package is the reference.

use crate::{
    Check, ClassifyDetails, ClassifyOptions, Comparison, Difference, Figures, ImportOptions, JobResult, ManyDetails,
    NewClassifier, NextRound, Observation, ObservationDetails, ObservationFilter, RemovalOptions, Review, ReviewItem,
    ReviewOptions, RoundOptions, SourceOptions,
};
use std::collections::HashMap;
use zbus::{Fd, OwnedFd, OwnedObjectPath, proxy};

/// The service as a whole, at [`crate::ROOT`].
#[proxy(interface = "org.coft.Coft1.Manager", default_service = "org.coft.Coft1", default_path = "/org/coft/Coft1")]
pub trait Manager {
    /// Looks through every source again.
    #[zbus(allow_interactive_auth)]
    fn rescan(&self) -> Result<(), crate::Error>;

    /// Reads the configuration again; answers the settings that are used otherwise from now on.
    #[zbus(allow_interactive_auth)]
    fn reload(&self) -> Result<Vec<String>, crate::Error>;

    /// Makes a classifier in a file of its own, and starts it.
    #[zbus(allow_interactive_auth)]
    fn create_classifier(&self, name: &str, options: NewClassifier) -> Result<(), crate::Error>;

    /// Stops a classifier that has a file to itself, and removes that.
    #[zbus(allow_interactive_auth)]
    fn remove_classifier(&self, name: &str, options: RemovalOptions) -> Result<(), crate::Error>;

    /// Looks at what the service needs around it; takes seconds.
    fn diagnose(&self) -> Result<Vec<Check>, crate::Error>;

    /// Figures of the service as a whole; takes a second at most.
    fn measure(&self) -> Result<Figures, crate::Error>;

    /// Why classifiers that are configured are not there.
    #[zbus(property(emits_changed_signal = "false"))]
    fn left_out(&self) -> zbus::Result<Vec<String>>;

    /// Version of the service, as `1.2.3`.
    #[zbus(property)]
    fn version(&self) -> zbus::Result<String>;
}

/// A classifier, at [`crate::classifier_path`].
#[proxy(interface = "org.coft.Coft1.Classifier", default_service = "org.coft.Coft1", assume_defaults = false)]
pub trait Classifier {
    /// Class names with probabilities, best first. `image` is a regular file or memfd; its offset does not matter.
    fn classify(
        &self,
        image: Fd<'_>,
        options: ClassifyOptions,
    ) -> Result<(Vec<(String, f64)>, ClassifyDetails), crate::Error>;

    /// Up to [`crate::MANY`] images, answered in their order; one that fails has no labels, and its details say why.
    fn classify_many(
        &self,
        images: Vec<Fd<'_>>,
        options: ClassifyOptions,
    ) -> Result<Vec<(Vec<(String, f64)>, ManyDetails)>, crate::Error>;

    /// A socket for any number of images, see [`crate::stream`].
    fn open_batch(&self, options: ClassifyOptions) -> Result<OwnedFd, crate::Error>;

    /// Starts an adaptation round; the job's path at once.
    #[zbus(allow_interactive_auth)]
    fn start_round(&self, options: RoundOptions) -> Result<OwnedObjectPath, crate::Error>;

    /// Has it know these classes from now on; what serves goes on answering until a generation of the new ones does.
    #[zbus(allow_interactive_auth)]
    fn set_classes(&self, classes: &[&str]) -> Result<(), crate::Error>;

    /// Has it watch a directory more, which is named from the root on.
    #[zbus(allow_interactive_auth)]
    fn add_source(&self, path: &str, options: SourceOptions) -> Result<(), crate::Error>;

    /// Has it watch the source of this name no more.
    #[zbus(allow_interactive_auth)]
    fn remove_source(&self, source: &str) -> Result<(), crate::Error>;

    /// Takes in a generation that another service has exported, its files by name; the job's path at once.
    #[zbus(allow_interactive_auth)]
    fn import(&self, files: HashMap<&str, Fd<'_>>) -> Result<OwnedObjectPath, crate::Error>;

    /// Does what `import` does, with options.
    #[zbus(allow_interactive_auth)]
    fn import_generation(
        &self,
        files: HashMap<&str, Fd<'_>>,
        options: ImportOptions,
    ) -> Result<OwnedObjectPath, crate::Error>;

    /// Up to `limit` pictures that a person is asked about, by the id of their image, and how the review stands.
    #[zbus(allow_interactive_auth)]
    fn review_items(&self, limit: u32) -> Result<(Vec<(String, ReviewItem)>, Review), crate::Error>;

    /// Takes a person's answers: the id of an image and the name of its class, empty where it cannot be told.
    #[zbus(allow_interactive_auth)]
    fn submit_review(&self, labels: Vec<(String, String)>, options: ReviewOptions) -> Result<Review, crate::Error>;

    /// Where two generations differ on the latest pictures: from which label to which how many; pictures with another
    /// label, those first of which both are surest; and pictures of which the newer one is least sure. `limit` counts
    /// pictures of each list.
    #[allow(clippy::type_complexity)]
    fn compare_generations(
        &self,
        old: u64,
        new: u64,
        limit: u32,
    ) -> Result<(Comparison, Vec<(String, String, u64)>, Vec<Difference>, Vec<Difference>), crate::Error>;

    /// Another generation answers from now on; `replaces` is what did before, 0 for none.
    #[zbus(signal)]
    fn generation_activated(&self, generation: u64, replaces: u64) -> zbus::Result<()>;

    /// Name of the classifier, which is the last part of the object's path.
    #[zbus(property)]
    fn name(&self) -> zbus::Result<String>;
    /// Names of the classes that are answered with, in the order of the model's outputs.
    #[zbus(property)]
    fn classes(&self) -> zbus::Result<Vec<String>>;
    /// 0 where there is none yet.
    #[zbus(property)]
    fn active_generation(&self) -> zbus::Result<u64>;
    /// Pictures that earlier generations have answered, and the active one is yet to answer again.
    #[zbus(property)]
    fn unanswered_again(&self) -> zbus::Result<u64>;
    /// Images that were ever taken in from the sources. The number never falls.
    #[zbus(property)]
    fn images(&self) -> zbus::Result<u64>;
    /// Files of the sources that were looked at and refused.
    #[zbus(property)]
    fn quarantined(&self) -> zbus::Result<u64>;
    /// Why images cannot be stored now; empty where they can.
    #[zbus(property)]
    fn intake_problem(&self) -> zbus::Result<String>;
    /// Why the active generation does not serve; empty where it does, or where there is none yet.
    #[zbus(property)]
    fn serving_problem(&self) -> zbus::Result<String>;
    /// What the service waits for before it is set up as configured; empty once it is.
    #[zbus(property)]
    fn setup_problem(&self) -> zbus::Result<String>;
    /// Execution provider that serves.
    #[zbus(property)]
    fn provider(&self) -> zbus::Result<String>;
    /// Why a provider that comes before it in the configuration does not run the model; empty where none failed.
    #[zbus(property)]
    fn provider_problem(&self) -> zbus::Result<String>;
    /// Why no round can start now; empty where one can.
    #[zbus(property)]
    fn round_problem(&self) -> zbus::Result<String>;
    /// The job that runs, or `/`; a job of the trainer comes before an import or an activation.
    #[zbus(property)]
    fn round(&self) -> zbus::Result<OwnedObjectPath>;
    /// When a round starts by itself.
    #[zbus(property)]
    fn next_round(&self) -> zbus::Result<NextRound>;
    /// What a person is asked.
    #[zbus(property)]
    fn review(&self) -> zbus::Result<Review>;
}

/// A job, running or ended, at [`crate::job_path`].
#[proxy(interface = "org.coft.Coft1.Job", default_service = "org.coft.Coft1", assume_defaults = false)]
pub trait Job {
    /// Asks the job to stop; it ends as cancelled within seconds.
    #[zbus(allow_interactive_auth)]
    fn cancel(&self) -> Result<(), crate::Error>;

    /// The job has ended; `state` is its state from now on. The signal is sent once.
    #[zbus(signal)]
    fn finished(&self, state: String) -> zbus::Result<()>;

    /// Name of the classifier whose job it is.
    #[zbus(property)]
    fn classifier(&self) -> zbus::Result<String>;

    /// Number of the job; each classifier counts its own.
    #[zbus(property)]
    fn round(&self) -> zbus::Result<u64>;
    /// What the job does: `adaptation` (a round), `zero-shot`, `import` or `activation`.
    #[zbus(property)]
    fn kind(&self) -> zbus::Result<String>;
    /// `manual`, `schedule`, `zero-shot`, `import` or `activation`.
    #[zbus(property)]
    fn trigger(&self) -> zbus::Result<String>;
    /// `running`, `promoted`, `kept`, `failed`, `cancelled` or `interrupted`.
    #[zbus(property)]
    fn state(&self) -> zbus::Result<String>;
    /// What the job does now, as coft-core's `Stage` is written; empty before the trainer's first report.
    #[zbus(property)]
    fn stage(&self) -> zbus::Result<String>;
    /// Share of the job that is done, 0 to 1.
    #[zbus(property)]
    fn fraction(&self) -> zbus::Result<f64>;
    /// Image visits of the stage.
    #[zbus(property)]
    fn images_done(&self) -> zbus::Result<u64>;
    /// Image visits of the present stage as a whole.
    #[zbus(property)]
    fn images_total(&self) -> zbus::Result<u64>;
    /// Image visits per second in the present stage; 0 where it is not known yet.
    #[zbus(property)]
    fn images_per_second(&self) -> zbus::Result<f64>;
    /// To the end of the job, s; −1 where it is not known.
    #[zbus(property)]
    fn remaining_seconds(&self) -> zbus::Result<f64>;
    /// Unix time, s.
    #[zbus(property)]
    fn started(&self) -> zbus::Result<i64>;
    /// Unix time, s; 0 while it runs.
    #[zbus(property)]
    fn ended(&self) -> zbus::Result<i64>;
    /// How long it took, s, whatever was done to the clock meanwhile; −1 while it runs.
    #[zbus(property)]
    fn took_seconds(&self) -> zbus::Result<f64>;
    /// The round that it takes up, which did not come to its end; 0 for none.
    #[zbus(property)]
    fn continues(&self) -> zbus::Result<u64>;
    /// Images that had been taken in when the job began: those that it trains on, and older ones whose pixels are not
    /// kept any more. 0 where it needs none.
    #[zbus(property)]
    fn images(&self) -> zbus::Result<u64>;
    /// What the job came to; empty while it runs.
    #[zbus(property)]
    fn result(&self) -> zbus::Result<JobResult>;
    /// What went otherwise than expected and did not end the job, oldest first.
    #[zbus(property)]
    fn warnings(&self) -> zbus::Result<Vec<String>>;
}

/// A classifier that was put into the store, at [`crate::generation_path`].
#[proxy(interface = "org.coft.Coft1.Generation", default_service = "org.coft.Coft1", assume_defaults = false)]
pub trait Generation {
    /// Its files, opened for reading, by name.
    #[zbus(allow_interactive_auth)]
    fn open(&self) -> Result<HashMap<String, OwnedFd>, crate::Error>;

    /// Lets it serve again, once it is proven anew; the job's path at once, `/` where it is active already.
    #[zbus(allow_interactive_auth)]
    fn activate(&self) -> Result<OwnedObjectPath, crate::Error>;

    /// What it has answered about the latest pictures: a label, the number of pictures that were given it, of these the
    /// number that the user has labelled, and of these the number that the user has given the same label.
    fn count_answers(&self) -> Result<Vec<(String, u64, u64, u64)>, crate::Error>;

    /// Number of the generation among those of its classifier, which is the last part of the object's path.
    #[zbus(property)]
    fn number(&self) -> zbus::Result<u64>;
    /// Number of the job that put it into the store.
    #[zbus(property)]
    fn round(&self) -> zbus::Result<u64>;
    /// How it was made: `zero-shot`, `coft` or `coft-plus`.
    #[zbus(property)]
    fn method(&self) -> zbus::Result<String>;
    /// Unix time, s.
    #[zbus(property)]
    fn created(&self) -> zbus::Result<i64>;
    /// The generation that was active before this one became so, the last time it did; 0 where there was none. Of one
    /// that is not active it may tell of an activation that was cut short.
    #[zbus(property)]
    fn replaces(&self) -> zbus::Result<u64>;
    /// Whether this generation is the one that answers.
    #[zbus(property)]
    fn active(&self) -> zbus::Result<bool>;
    /// Why it was not promoted, where the rules refused it and nobody has activated it since; empty otherwise.
    #[zbus(property)]
    fn refused(&self) -> zbus::Result<String>;
    /// Images of the pool that its round worked with; 0 where it needed none.
    #[zbus(property)]
    fn images(&self) -> zbus::Result<u64>;
    /// Share of each class, 0 to 1, that the setting `shares` had when it was made; empty where none were set.
    #[zbus(property)]
    fn shares(&self) -> zbus::Result<HashMap<String, f64>>;
    /// Largest difference, 0 to 1, between the probabilities of the trainer and of ONNX Runtime for the inputs of the
    /// probe.
    #[zbus(property)]
    fn parity_max_abs_diff(&self) -> zbus::Result<f64>;
    /// What the round saw of its images, without any label: JSON of the schema docs/schema/report.json.
    #[zbus(property)]
    fn report(&self) -> zbus::Result<String>;
}

/// A watched directory, at [`crate::source_path`].
#[proxy(interface = "org.coft.Coft1.Source", default_service = "org.coft.Coft1", assume_defaults = false)]
pub trait Source {
    /// Answers that follow a sequence number, at most so many and [`crate::OBSERVATIONS`], in their order: what was
    /// missed, where `after` is the last number that is known. Paths are told to those who may see them; nobody is
    /// asked for a password.
    fn observations(&self, after: u64, limit: u32) -> Result<Vec<Observation>, crate::Error>;

    /// The latest answers that a filter lets through, at most so many and [`crate::OBSERVATIONS`], the latest first.
    /// Paths as in `observations`.
    fn find_observations(&self, filter: ObservationFilter, limit: u32) -> Result<Vec<Observation>, crate::Error>;

    /// How many answers of each label each hour has: the beginning of the hour, Unix time, s, the label that counts,
    /// and the number. Hours in their order, of an hour the commonest label first.
    fn count_observations(&self, filter: ObservationFilter) -> Result<Vec<(i64, String, u64)>, crate::Error>;

    /// A picture was answered. The numbers have no gaps: where one is missing, `observations` tells what it was.
    #[zbus(signal)]
    fn observed(
        &self,
        sequence: u64,
        image: String,
        labels: Vec<(String, f64)>,
        details: ObservationDetails,
    ) -> zbus::Result<()>;

    /// Name of the classifier that answers its pictures and learns from them.
    #[zbus(property)]
    fn classifier(&self) -> zbus::Result<String>;

    /// Directory that is watched.
    #[zbus(property)]
    fn path(&self) -> zbus::Result<String>;
    /// What it is called: its name, or its path where it has none. No other source is called so.
    #[zbus(property)]
    fn name(&self) -> zbus::Result<String>;
    /// Images of the catalogue that were seen in this source.
    #[zbus(property)]
    fn images(&self) -> zbus::Result<u64>;
    /// Files of this source that were looked at and refused.
    #[zbus(property)]
    fn quarantined(&self) -> zbus::Result<u64>;
    /// Why the directory cannot be watched now; empty where it can.
    #[zbus(property)]
    fn problem(&self) -> zbus::Result<String>;
    /// Whether its pictures are answered as they come.
    #[zbus(property)]
    fn classifies(&self) -> zbus::Result<bool>;
    /// The number of the latest answer; 0 before the first.
    #[zbus(property)]
    fn last_sequence(&self) -> zbus::Result<u64>;
    /// Files that are complete and wait to be looked at.
    #[zbus(property)]
    fn waiting_files(&self) -> zbus::Result<u64>;
    /// Pictures that wait for their answer.
    #[zbus(property)]
    fn unanswered(&self) -> zbus::Result<u64>;
    /// Why pictures that wait are not answered now; empty where they are.
    #[zbus(property)]
    fn answers_problem(&self) -> zbus::Result<String>;
    /// What its latest pictures show together: a class, [`crate::NONE_OF_THESE`] or [`crate::UNKNOWN`].
    #[zbus(property)]
    fn state(&self) -> zbus::Result<String>;
    /// When the picture came that made the state what it is, Unix time, s; 0 where none has.
    #[zbus(property)]
    fn state_since(&self) -> zbus::Result<i64>;
    /// The label that counts of the latest picture that was answered; empty before the first.
    #[zbus(property)]
    fn last_label(&self) -> zbus::Result<String>;
    /// That picture, by the SHA-256 of the file, in hex; empty before the first.
    #[zbus(property)]
    fn last_image(&self) -> zbus::Result<String>;
    /// When that picture came, Unix time, s; 0 before the first.
    #[zbus(property)]
    fn last_time(&self) -> zbus::Result<i64>;
}
