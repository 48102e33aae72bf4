//! The architecture that packages are made for, and the tools that make them.

use crate::repository;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The architecture of this machine, or arm64. For arm64, a Debian in a directory has the compilers.
pub struct Platform {
    /// Root directory of that Debian.
    root: Option<PathBuf>,
    /// Directories that its tools work on. They have the same paths inside that Debian.
    places: Vec<PathBuf>,
}

impl Platform {
    pub fn new(root: Option<PathBuf>, places: Vec<PathBuf>) -> Self {
        Self { root, places }
    }

    /// The architecture's name in Debian.
    pub fn debian(&self) -> &'static str {
        if self.root.is_some() { "arm64" } else { "amd64" }
    }

    /// The target's name in Rust.
    pub fn triple(&self) -> &'static str {
        if self.root.is_some() { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" }
    }

    /// A command of gcc or the binutils, run in a directory.
    pub fn compiler(&self, tool: &str, dir: &Path) -> Command {
        let tool = if self.root.is_some() { format!("aarch64-linux-gnu-{tool}") } else { tool.to_owned() };
        self.command(&tool, dir)
    }

    /// A command of a program that makes packages, run in a directory.
    pub fn command(&self, program: &str, dir: &Path) -> Command {
        let mut command = match &self.root {
            None => Command::new(program),
            Some(root) => {
                let mut command = Command::new("unshare");
                command.args(["--mount", "sh"]).arg(repository().join("packaging/enter")).arg(root).args(&self.places);
                command.args(["--", program]).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
                command
            }
        };
        command.current_dir(dir);
        command
    }
}
