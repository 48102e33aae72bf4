//! Finds the built programs, and makes their processes end with this process.

use anyhow::ensure;
use nix::sys::{prctl, signal::Signal};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A directory with `coftd`, `coft-trainer`, `coft-launch` and `coftctl`.
#[derive(Clone, Debug)]
pub struct Programs(PathBuf);

impl Programs {
    /// The programs of the build that the running test belongs to.
    pub fn of_this_test() -> anyhow::Result<Self> {
        let test = std::env::current_exe()?;
        let profile = test.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
        Self::within(profile)
    }

    pub fn within(dir: &Path) -> anyhow::Result<Self> {
        let programs = Self(dir.to_owned());
        for program in [programs.coftd(), programs.coft_trainer(), programs.coft_launch(), programs.coftctl()] {
            ensure!(program.is_file(), "{} is not built; run the tests by `cargo xtask test`", program.display());
        }
        Ok(programs)
    }

    /// The same programs without the trainer, as on a device that only serves. They exist as long as the directory.
    pub fn without_trainer(&self) -> anyhow::Result<(TempDir, Self)> {
        let dir = TempDir::new_in(&self.0)?;
        for program in [self.coftd(), self.coftctl()] {
            let name = program.file_name().expect("a program has a name");
            fs::hard_link(&program, dir.path().join(name))?;
        }
        let programs = Self(dir.path().to_owned());
        Ok((dir, programs))
    }

    pub fn coftd(&self) -> PathBuf {
        self.0.join("coftd")
    }

    pub fn coft_trainer(&self) -> PathBuf {
        self.0.join("coft-trainer")
    }

    pub fn coft_launch(&self) -> PathBuf {
        self.0.join("coft-launch")
    }

    pub fn coftctl(&self) -> PathBuf {
        self.0.join("coftctl")
    }

    pub fn coft_mqtt(&self) -> PathBuf {
        self.0.join("coft-mqtt")
    }

    pub fn coft_exporter(&self) -> PathBuf {
        self.0.join("coft-exporter")
    }
}

/// Makes the command's process end when the thread that starts it ends, however that happens.
pub fn ends_with_us(command: &mut Command) -> &mut Command {
    // SAFETY: the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGTERM)?)) }
}
