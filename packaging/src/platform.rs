//! The processor that packages are made for, and the tools that make them.

use crate::repository;
use std::path::{Path, PathBuf};
use std::process::Command;

/// This machine's processor, or arm64, which a Debian in a directory compiles for.
pub struct Platform {
    /// Root of that Debian.
    root: Option<PathBuf>,
    /// Directories that its tools work on. They are seen in there under the same names.
    places: Vec<PathBuf>,
}

impl Platform {
    pub fn new(root: Option<PathBuf>, places: Vec<PathBuf>) -> Self {
        Self { root, places }
    }

    /// As Debian calls it.
    pub fn debian(&self) -> &'static str {
        if self.root.is_some() { "arm64" } else { "amd64" }
    }

    /// As Rust calls it.
    pub fn triple(&self) -> &'static str {
        if self.root.is_some() { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" }
    }

    /// gcc or one of the binutils, in a directory.
    pub fn compiler(&self, tool: &str, dir: &Path) -> Command {
        let tool = if self.root.is_some() { format!("aarch64-linux-gnu-{tool}") } else { tool.to_owned() };
        self.command(&tool, dir)
    }

    /// A program that makes packages, in a directory.
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
