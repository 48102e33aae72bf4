//! The grammar of the command line and its help, from which man pages and completions are made.
//!
//! This module knows nothing of the bus. A bus address is taken as text, and checked when the connection is made.

use crate::bundle::Format;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use std::ffi::OsString;
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
    #[command(subcommand)]
    Round(Round),
    /// Look at all jobs and stop them: rounds, zero-shot jobs, imports and activations
    ///
    /// A job makes a generation or lets one serve. A zero-shot job makes the generation of the pretrained model, without
    /// images; a round is a job that learns from images.
    #[command(subcommand)]
    Job(Job),
    /// Look at the models that rounds have made, and go back to an earlier one
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
    /// The service checks its digests and, where it is told to, its signature; replays its probe; and lets it serve unless its
    /// answers on the service's own images are spread less evenly over the classes than those of what serves, by more than chance
    /// explains. One that is refused for that is kept: coftctl generation activate lets it serve all the same.
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
    /// Show everything that happens, a line each, until Ctrl-C: answers, states, jobs, generations, problems
    Monitor,
    /// Print what is measured, as Prometheus reads it: pictures, answers, states, rounds, generations, disk, memory
    ///
    /// coft-exporter serves the same text. Written to a file, it is for the textfile collector of node_exporter
    /// (docs/bridges.md). Where coftd does not run, coft_up is 0, and it is not started. --json changes nothing.
    Metrics,
    /// Say what a few pictures show, where the service cannot know which of two models is better
    ///
    /// A round may make a model of which no sign without a label tells whether it is better than the one that serves.
    /// That one stays then, and the service asks about pictures on which the two differ: mostly 5 to 20 labels decide,
    /// at most 60 are asked for. Without an option: what is asked.
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

/// The files are opened here and handed to the service as descriptors: what you may read, you may classify.
#[derive(Debug, Args)]
pub struct Classify {
    /// Image files; - reads one image from standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Take directories too, with every image file below them (.jpg, .jpeg, .png, .webp, .bmp, .tif, .tiff, .gif, .qoi,
    /// .heic, .heif, .avif)
    #[arg(long, short)]
    pub recursive: bool,
    /// Labels to print for each image, the likeliest first
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub top_k: u32,
    /// Leave out labels that are less probable, 0 to 1
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    pub threshold: f64,
    /// Print the image's embedding too; needs --json
    #[arg(long)]
    pub embedding: bool,
}

/// NaN is refused, because every comparison with NaN is false.
fn probability(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| "a probability is a number from 0 to 1".into())
}

#[derive(Debug, Subcommand)]
pub enum Round {
    /// Start a round over the images catalogued so far
    Start(Start),
    /// The same as for all jobs, for rounds alone.
    #[command(flatten)]
    Job(Job),
}

#[derive(Debug, Subcommand)]
pub enum Job {
    /// Stay until one has ended and show how far it is; Ctrl-C leaves it running
    Wait {
        /// Its number [default: the one that runs]
        #[arg(value_name = "N")]
        job: Option<u64>,
    },
    /// Stop one that runs; the active model stays
    Cancel {
        /// Its number [default: the one that runs]
        #[arg(value_name = "N")]
        job: Option<u64>,
    },
    /// List them, the oldest first
    List,
    /// Show one
    Show {
        /// Its number [default: the latest]
        #[arg(value_name = "N")]
        job: Option<u64>,
    },
}

#[derive(Debug, Args)]
pub struct Start {
    /// Stay until the round has ended and show how far it is; Ctrl-C leaves the round running
    #[arg(long)]
    pub wait: bool,
    /// Seed for the round's random choices, in place of the configured one
    #[arg(long, value_name = "SEED")]
    pub seed: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub enum Generation {
    /// List the generations, the oldest first; the active one is marked, and those that the rules refused
    List,
    /// Show what the round that made a generation saw: its candidates, what speaks for each, and every class
    Show {
        /// Number of the generation [default: the active one]
        generation: Option<u64>,
    },
    /// Have an earlier generation serve again, or one that the rules refused, and show how far it is
    ///
    /// The service checks its digests and replays its probe first; what serves now answers until then. Only a generation of the
    /// configured classes and model can serve. Later rounds may promote another one over it; automatic = false in [schedule]
    /// starts none by itself.
    Activate {
        /// Number of the generation [default: the one that served before the active one]
        #[arg(value_name = "N")]
        generation: Option<u64>,
    },
    /// Show what another generation says otherwise of the latest pictures
    ///
    /// A generation that comes to serve answers the latest pictures again (2000, unless [answers] says otherwise).
    /// Shown are how many of them have another label, from which to which, the ones of which both generations are
    /// surest, and those of which the newer one is least sure. "coftctl results --changed" lists them all.
    Diff {
        /// The generation to compare with [default: the one that NEW has replaced]
        old: Option<u64>,
        /// The generation to compare [default: the active one]
        new: Option<u64>,
        /// Pictures to show of each kind
        #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
}

#[derive(Debug, Args)]
pub struct Results {
    /// Source to ask about, by its name or directory or by its number [default: all of them]
    #[arg(long, value_name = "SOURCE")]
    pub source: Option<String>,
    /// Pictures with this label alone
    #[arg(long, value_name = "LABEL")]
    pub label: Option<String>,
    /// Pictures alone that a person should look at
    #[arg(long)]
    pub doubtful: bool,
    /// Pictures alone that another generation has answered and of which the active one says otherwise
    #[arg(long, conflicts_with_all = ["follow", "summary"])]
    pub changed: bool,
    /// Pictures alone that have come within this time, as 30m, 2h or 3d
    #[arg(long, value_name = "TIME")]
    pub since: Option<jiff::Span>,
    /// Pictures to show at most, the latest [default: 20; with --follow none but those that come]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Go on with those that come, until Ctrl-C, also over a restart of the service; with --json a line each
    #[arg(long, conflicts_with = "summary")]
    pub follow: bool,
    /// Count them by label and hour instead [default: of the last 24 hours]
    #[arg(long, conflicts_with = "limit")]
    pub summary: bool,
}

#[derive(Debug, Args)]
pub struct Review {
    /// Ask here what the pictures show, one after the other, until it is decided; every answer is kept at once
    #[arg(long, conflicts_with = "answer")]
    pub decide: bool,
    /// Say what pictures show, for scripts: the id of an image that coftctl review --json lists, and the name of its
    /// class; without a name it cannot be told
    #[arg(long, value_name = "IMAGE=CLASS", num_args = 1.., value_parser = answer)]
    pub answer: Vec<(String, String)>,
}

fn answer(text: &str) -> Result<(String, String), String> {
    let (image, class) = text.split_once('=').ok_or("it is the id of an image, =, and the name of a class")?;
    Ok((image.into(), class.into()))
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

/// Models lie in a store by the digest of their content. In the configuration a classifier names one by its name, its digest
/// or a directory; it is read when the service starts.
#[derive(Debug, Args)]
pub struct Model {
    /// Directory of the store: models/ in the service's state directory
    #[arg(long, global = true, env = "COFT_MODELS", hide_env_values = true, value_name = "DIR", default_value = STORE)]
    pub store: PathBuf,
    #[command(subcommand)]
    pub verb: ModelVerb,
}

const STORE: &str = "/var/lib/coft/models";

#[derive(Debug, Subcommand)]
pub enum ModelVerb {
    /// List the models of the store
    List,
    /// Show what a model is: layout, sizes, preprocessing, digests
    Info {
        /// Name or digest of a model of the store, or a directory (with a / in it)
        #[arg(value_name = "MODEL")]
        model: OsString,
    },
    /// Read every file of a model and hold it against its digest
    Verify {
        /// Name or digest [default: all of them]
        #[arg(value_name = "MODEL")]
        model: Option<String>,
    },
    /// Copy a model from a directory into the store
    ///
    /// Weights that PyTorch has pickled (.bin, .pt) are converted to safetensors. Nothing else of coft reads pickles.
    Import {
        /// Directory with the model's files; or the file with the weights, whose directory has the files that describe it
        #[arg(value_name = "DIR|FILE")]
        path: PathBuf,
        /// Name for it [default: that of the directory, or of the file]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
    /// Download a model from the Hugging Face hub, or what HF_ENDPOINT names; an interrupted download goes on where it was
    Pull {
        /// Repository and revision
        #[arg(value_name = "OWNER/NAME[@REV]")]
        repository: String,
        /// Name for it [default: the repository's, without its owner]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
    /// Remove a model and its names
    Remove {
        /// Name or digest
        #[arg(value_name = "MODEL")]
        model: String,
    },
}

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    the operation failed, for example the round ended with an error, or doctor has found one
  2    the command line was not understood, or the configuration has a mistake
  3    the service cannot be reached
  4    some images could not be classified; the others were
  5    not authorised
  6    the service is busy or not ready; try again later
  7    the round ended without a new model: candidate not taken, cancelled or interrupted
  130  interrupted";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, error::ErrorKind};

    fn parse(line: &str) -> Result<Cli, ErrorKind> {
        Cli::try_parse_from(line.split_whitespace()).map_err(|e| e.kind())
    }

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_may_stand_anywhere() {
        for line in [
            "coftctl --json --classifier parts --bus session status",
            "coftctl status --json --classifier parts --bus session",
        ] {
            let cli = parse(line).unwrap();
            assert!(cli.global.json);
            assert_eq!(cli.global.classifier.as_deref(), Some("parts"));
            assert_eq!(cli.global.bus, "session");
        }
    }

    #[test]
    fn verbs_take_what_they_need() {
        let Verb::Classify(classify) = parse("coftctl classify --top-k 3 a.jpg -").unwrap().verb else { panic!() };
        assert_eq!((classify.files, classify.top_k), (vec!["a.jpg".into(), "-".into()], 3));
        let line = "coftctl --json classify -r --threshold 0.5 --embedding photos";
        let Verb::Classify(classify) = parse(line).unwrap().verb else { panic!() };
        assert_eq!((classify.recursive, classify.threshold, classify.embedding), (true, 0.5, true));
        let Verb::Round(Round::Start(start)) = parse("coftctl round start --wait --seed 7").unwrap().verb else {
            panic!()
        };
        assert_eq!((start.wait, start.seed), (true, Some(7)));
        let Verb::Round(Round::Job(Job::Wait { job })) = parse("coftctl round wait").unwrap().verb else { panic!() };
        assert_eq!(job, None);
        let Verb::Round(Round::Job(Job::Cancel { job })) = parse("coftctl round cancel 4").unwrap().verb else {
            panic!()
        };
        assert_eq!(job, Some(4));
        let Verb::Round(Round::Job(Job::Show { job })) = parse("coftctl round show").unwrap().verb else { panic!() };
        assert_eq!(job, None);
        let activate = |line| match parse(line).unwrap().verb {
            Verb::Generation(Generation::Activate { generation }) => generation,
            other => panic!("{other:?}"),
        };
        assert_eq!(activate("coftctl generation activate"), None);
        assert_eq!(activate("coftctl generation activate 4"), Some(4));
        let check = |line| match parse(line).unwrap().verb {
            Verb::Config(Config::Check { file }) => file,
            other => panic!("{other:?}"),
        };
        assert_eq!(check("coftctl config check"), PathBuf::from("/etc/coft/coft.toml"));
        assert_eq!(check("coftctl config check a.toml"), PathBuf::from("a.toml"));
        let line = "coftctl results --source /srv/a --label nut --doubtful --since 2h --limit 5 --follow";
        let Verb::Results(results) = parse(line).unwrap().verb else { panic!() };
        assert_eq!((results.source.as_deref(), results.label.as_deref()), (Some("/srv/a"), Some("nut")));
        assert_eq!((results.doubtful, results.follow, results.summary, results.limit), (true, true, false, Some(5)));
        assert_eq!(results.since.map(|since| since.fieldwise()), Some(jiff::Span::new().hours(2).fieldwise()));
        let review = |line| match parse(line).unwrap().verb {
            Verb::Review(Review { decide, answer }) => (decide, answer),
            other => panic!("{other:?}"),
        };
        assert_eq!(review("coftctl review"), (false, vec![]));
        assert_eq!(review("coftctl review --decide"), (true, vec![]));
        let answers = [("0a", "bolt"), ("0b", ""), ("0c", "a=b")].map(|(image, class)| (image.into(), class.into()));
        assert_eq!(review("coftctl review --answer 0a=bolt 0b= --answer 0c=a=b"), (false, answers.to_vec()));
    }

    #[test]
    fn nonsense_is_refused() {
        let missing = ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
        for (line, kind) in [
            ("coftctl", missing),
            ("coftctl round", missing),
            ("coftctl config", missing),
            ("coftctl config check a b", ErrorKind::UnknownArgument),
            ("coftctl classify", ErrorKind::MissingRequiredArgument),
            ("coftctl classify --top-k 0 a.jpg", ErrorKind::ValueValidation),
            ("coftctl classify --threshold 2 a.jpg", ErrorKind::ValueValidation),
            ("coftctl classify --threshold=-0.1 a.jpg", ErrorKind::ValueValidation),
            ("coftctl classify --threshold NaN a.jpg", ErrorKind::ValueValidation),
            ("coftctl classify --threshold inf a.jpg", ErrorKind::ValueValidation),
            ("coftctl classify --threshold high a.jpg", ErrorKind::ValueValidation),
            ("coftctl round start --seed=-1", ErrorKind::ValueValidation),
            ("coftctl round show latest", ErrorKind::ValueValidation),
            ("coftctl completions tcsh", ErrorKind::InvalidValue),
            ("coftctl results --since soon", ErrorKind::ValueValidation),
            ("coftctl results --limit 0", ErrorKind::ValueValidation),
            ("coftctl results --summary --follow", ErrorKind::ArgumentConflict),
            ("coftctl results --summary --limit 3", ErrorKind::ArgumentConflict),
            ("coftctl review --answer bolt", ErrorKind::ValueValidation),
            ("coftctl review --answer", ErrorKind::InvalidValue),
            ("coftctl review --decide --answer 0a=bolt", ErrorKind::ArgumentConflict),
        ] {
            assert_eq!(parse(line).unwrap_err(), kind, "{line}");
        }
    }
}
