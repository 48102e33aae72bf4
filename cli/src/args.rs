//! The grammar of the command line and its help, from which man pages and completions are made.
//!
//! This module knows nothing of the bus. A bus address is taken as text, and checked when the connection is made.

mod job;
mod model;
mod picture;

pub use job::{Generation, Job, Round, Start};
pub use model::{Model, ModelVerb};
pub use picture::{Classify, Results, Review};

use crate::bundle::Format;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use std::path::PathBuf;

/// See and steer coft, the image classifier that teaches itself on the device.
#[derive(Debug, Parser)]
#[command(name = "coftctl", version, after_help = EXIT_CODES, after_long_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Bus to look for the service on: system, session or a D-Bus address
    #[arg(long, global = true, env = "COFT_BUS", hide_env_values = true, value_name = "BUS", default_value = "system")]
    pub bus: String,
    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// Classifier to ask [default: the only one there is, or "default"]
    #[arg(long, global = true, value_name = "NAME")]
    pub classifier: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show what the service serves, watches and does
    Status,
    /// Look at the classifiers that the service has; make, change and remove some
    #[command(subcommand)]
    Classifier(Classifier),
    /// Look at the directories that are watched; add and remove some
    #[command(subcommand)]
    Source(Source),
    /// Say what images show
    Classify(Classify),
    /// Start, stop and look at adaptation rounds
    ///
    /// A round is a job that learns from images. Where no number is given, only rounds are meant; coftctl job is about
    /// all jobs.
    #[command(subcommand)]
    Round(Round),
    /// Look at all jobs and stop them: rounds, zero-shot jobs, imports and activations
    ///
    /// A job makes a generation or lets one serve. A zero-shot job makes the generation of the pretrained model,
    /// without images; a round is a job that learns from images.
    #[command(subcommand)]
    Job(Job),
    /// Look at the models that jobs have made, and go back to an earlier one
    #[command(subcommand)]
    Generation(Generation),
    /// Copy a generation out of the service, for other programs to serve
    ///
    /// Every file is held against the digest that was made when the generation was.
    Export {
        /// Number of the generation (coftctl generation list)
        generation: u64,
        #[arg(long, value_enum)]
        format: Format,
        /// Directory to make
        dir: PathBuf,
    },
    /// Have the service take in a generation that was exported elsewhere, and show how far it is
    ///
    /// The service checks its digests and, where it is told to, its signature; replays its probe; and lets it serve
    /// unless its answers on the service's own images are spread less evenly over the classes (where shares are set:
    /// less like these) than those of what serves, by more than chance explains. One that is refused for that is kept:
    /// coftctl generation activate lets it serve all the same.
    Import {
        /// Let it serve whatever it answers on the service's own images; everything else is checked all the same
        #[arg(long)]
        force: bool,
        /// Directory that coftctl export --format onnx has written
        dir: PathBuf,
    },
    /// Show what the pictures of the sources show: the latest ones, the oldest of them first
    ///
    /// A line has the time, the label that counts with its probability, and the file; a doubtful one is marked with
    /// "?". The names of files are told to those who may see them (docs/answers.md), others see the source and the
    /// image's digest.
    Results(Results),
    /// Show everything that happens, a line each, until Ctrl-C: answers, states, jobs, generations, reviews, problems
    Monitor,
    /// Print what is measured, as Prometheus reads it: pictures, answers, states, rounds, generations, disk, memory
    ///
    /// coft-exporter serves the same text. Written to a file, it is for the textfile collector of node_exporter
    /// (docs/bridges.md). Where coftd does not run, coft_up is 0, and it is not started. --json changes nothing.
    Metrics,
    /// Say what a few pictures show, where the service cannot know which of two models is better
    ///
    /// Sometimes a round cannot tell whether its new model is better than the one that serves. Then the one that serves
    /// stays, and coft asks what some of the pictures show on which the two differ: 5 labels decide at the least,
    /// mostly up to 20, and 60 are the most. Without an option: what is asked.
    Review(Review),
    /// Get, check and remove pretrained CLIP models; needs no running service
    Model(Model),
    /// Have every watched directory looked at again
    Rescan,
    /// Look for what keeps the service from working, and say what to type
    ///
    /// The service itself looks at what it needs, from where it stands: its user, the sandbox of its unit, its
    /// devices. What can be seen from outside is looked at here, also where the service does not answer. Each line is
    /// ok, a warning or an error. Ends with 1 where there is an error.
    Doctor,
    /// Look for names of classes that a model may not understand
    ///
    /// Without a file: the classes of the classifier, pairs that are one to its model, and names that none of its
    /// images resembles. What is found is advice, and the exit code is 0 all the same.
    Lint {
        /// File of class names, one a line, before it is used; needs no running service
        file: Option<PathBuf>,
    },
    /// Check the configuration; needs no running service
    #[command(subcommand)]
    Config(Config),
    /// Have the service read its configuration again, without a restart
    ///
    /// Classifiers whose settings have changed are started anew where that is needed; what serves goes on answering
    /// meanwhile. Only state-dir, bus, [decode] and memory of [serve] take a restart: where one of them has changed,
    /// or a file has a mistake, nothing changes, and it is named.
    Reload,
    /// Print the completion script of a shell
    Completions {
        /// Shell to complete for
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub enum Classifier {
    /// List the classifiers; --classifier NAME has every other command ask one of them
    List,
    /// Show what one serves, watches and does; the same as status --classifier NAME
    Show { name: String },
    /// Make a classifier, which serves within seconds and learns from what it watches
    ///
    /// It gets a file of its own, classifiers.d/NAME.toml beside the configuration file, for everything else that a
    /// classifier can be told: sections as in the configuration file, used by "coftctl reload".
    Create {
        /// Letters, digits and _
        name: String,
        /// Its classes: a file with one name a line, or the names with commas between them [default: the model's own]
        #[arg(long, value_name = "FILE|A,B,…")]
        labels: Option<String>,
        /// Directory whose images it answers and learns from; may be given several times
        #[arg(long, value_name = "DIR")]
        watch: Vec<PathBuf>,
        /// Name or digest of a model of the store (coftctl model list), or a directory [default: the demo model]
        #[arg(long)]
        model: Option<String>,
        /// Prompt of the zero-shot labels; {} stands for the name of the class
        #[arg(long)]
        template: Option<String>,
    },
    /// Give a classifier other classes
    ///
    /// What serves goes on answering until a generation of the new classes does, within seconds.
    Edit {
        name: String,
        /// Its classes: a file with one name a line, or the names with commas between them
        #[arg(long, value_name = "FILE|A,B,…")]
        labels: String,
    },
    /// Stop a classifier and remove its file
    ///
    /// What it has learnt is kept, for a classifier that is given this name again.
    Remove {
        name: String,
        /// Remove all that was kept for it as well: images, answers, generations
        #[arg(long)]
        purge: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum Source {
    /// List the watched directories
    List,
    /// Have a classifier watch a directory more
    Add {
        dir: PathBuf,
        /// What it is called [default: its directory]
        #[arg(long)]
        name: Option<String>,
    },
    /// Have a classifier watch a directory no more; its images have no part in rounds from then on
    Remove {
        /// Name or directory
        source: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum Config {
    /// Read a configuration and every file that it names, and say what is wrong and where
    ///
    /// Ends with 2 where something has to be corrected. What the user who asks may not read is not checked: use sudo.
    Check {
        /// Configuration file
        #[arg(default_value = CONFIG, value_name = "FILE")]
        file: PathBuf,
    },
}

const CONFIG: &str = "/etc/coft/coft.toml";

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    the operation failed, for example the job ended with an error, or doctor has found one
  2    the command line was not understood, or the configuration has a mistake
  3    the service cannot be reached
  4    some images could not be classified; the others were
  5    not authorised
  6    the service is busy or not ready; try again later
  7    the job ended without a new model: candidate not taken, cancelled or interrupted
  130  interrupted";

#[cfg(test)]
mod tests;
