//! `coftctl round`, `coftctl job` and `coftctl generation`: jobs, and the generations that they make.

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub enum Round {
    /// Start a round over the images catalogued so far
    Start(Start),
    #[command(flatten)]
    Job(Job),
}

#[derive(Debug, Subcommand)]
pub enum Job {
    /// Stay until a job has ended and show how far it is; Ctrl-C leaves it running
    Wait {
        /// Number of the job [default: the one that runs]
        #[arg(value_name = "N")]
        job: Option<u64>,
    },
    /// Stop a running job; the active model stays
    Cancel {
        /// Number of the job [default: the one that runs]
        #[arg(value_name = "N")]
        job: Option<u64>,
    },
    /// List the jobs, the oldest first
    List,
    /// Show a job
    Show {
        /// Number of the job [default: the latest]
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
    /// The service checks its digests and replays its probe first; what serves now answers until then. Only a
    /// generation of the configured classes and model can serve. Later rounds may promote another one over it;
    /// automatic = false in [schedule] starts none by itself.
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
