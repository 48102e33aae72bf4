//! `[round]` of the configuration, and how the trainer is found.

use coft_core::shown::shown_path;
use coft_core::spec::{Device, Method, Precision};
use coft_launch::Launcher;
use serde::Deserialize;
use std::env;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `[round]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RoundSettings {
    /// The method: CoFT or CoFT+. coft [choice].
    pub method: Adaptation,
    /// Seeds every random draw. 1 [choice].
    pub seed: u64,
    pub device: Device,
    /// Number format in which models of later rounds compute when they serve. fp32 [choice].
    pub precision: Precision,
    /// CPU threads; 0 lets libtorch choose. 0 [choice].
    pub threads: u32,
    /// Path of the trainer's program, or of the socket of its unit. If absent: the default socket, then `coft-trainer`
    /// beside this program, then `coft-trainer` in `/usr/libexec/coft`.
    pub trainer: Option<PathBuf>,
    /// Fewest images in the catalogue for a round that adapts; ≥ 1. 16 [choice]: fewer images are too small a pool.
    pub minimum_images: u64,
    /// Niceness of a trainer that is a child, 0 to 19. Its unit always gives 19. 19 [choice]: requests that wait for an
    /// answer have priority.
    pub niceness: i32,
    /// A round that takes longer is stopped; "1s" or more. "12h" [choice].
    #[serde(with = "humantime_serde")]
    pub deadline: Duration,
}

/// The methods that a service offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Adaptation {
    #[default]
    Coft,
    CoftPlus,
}

impl From<Adaptation> for Method {
    fn from(method: Adaptation) -> Self {
        match method {
            Adaptation::Coft => Method::Coft,
            Adaptation::CoftPlus => Method::CoftPlus,
        }
    }
}

impl Default for RoundSettings {
    fn default() -> Self {
        Self {
            method: Adaptation::default(),
            seed: 1,
            device: Device::default(),
            precision: Precision::default(),
            threads: 0,
            trainer: None,
            minimum_images: 16,
            niceness: 19,
            deadline: Duration::from_secs(12 * 60 * 60),
        }
    }
}

/// Message where the trainer is not installed, and below it the command that installs it.
pub const NO_TRAINER: &str = "this service serves only: coft-trainer is not installed";
pub const INSTALL_TRAINER: &str = "sudo apt install coft-trainer";

impl RoundSettings {
    /// Finds what starts the trainer, or explains why there is none.
    pub fn find_trainer(&self) -> Result<Launcher, String> {
        const NAME: &str = "coft-trainer";
        if let Some(trainer) = &self.trainer {
            return launcher(trainer)
                .ok_or_else(|| format!("round.trainer: there is no program {}", shown_path(trainer)));
        }
        let beside = env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(NAME)));
        let installed = Path::new("/usr/libexec/coft").join(NAME);
        let places = [PathBuf::from(TRAINER_SOCKET)].into_iter().chain(beside).chain([installed]);
        places.filter_map(|place| launcher(&place)).next().ok_or_else(|| NO_TRAINER.to_owned())
    }
}

/// Path of the socket that the shipped coft-trainer.socket opens.
const TRAINER_SOCKET: &str = "/run/coft/trainer";

fn launcher(path: &Path) -> Option<Launcher> {
    let found = path.metadata().ok()?.file_type();
    let (is_program, is_socket) = (found.is_file(), found.is_socket());
    let program = is_program.then(|| Launcher::Program(path.to_owned()));
    program.or_else(|| is_socket.then(|| Launcher::Unit(path.to_owned())))
}
