//! `coftctl model`: the store of pretrained models.

use clap::{Args, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

/// Models lie in a store by the digest of their content. In the configuration a classifier names one by its name, its
/// digest or a directory; it is read when the service starts.
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
        /// Directory with the model's files; or the file with the weights, whose directory has the files that
        /// describe it
        #[arg(value_name = "DIR|FILE")]
        path: PathBuf,
        /// Name for it [default: that of the directory, or of the file]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
    /// Download a model from the Hugging Face hub, or what HF_ENDPOINT names; an interrupted download goes on where it
    /// was
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
