//! The other programs of coft, installed or built beside this one: their paths, and the report of coftd.

use crate::error::CliError;
use crate::view::ConfigReport;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const INSTALLED: &str = "/usr/libexec/coft";

/// The service's program, to be run as a command.
///
/// # Errors
/// It is not installed.
pub fn coftd() -> Result<Command, CliError> {
    let places = places(env::current_exe().ok().as_deref());
    let found = places.iter().map(|dir| dir.join("coftd")).find(|path| path.is_file());
    found.map(Command::new).ok_or_else(|| {
        let looked: Vec<_> = places.iter().map(|dir| dir.display().to_string()).collect();
        CliError::NotFound(format!("coftd is not in {}\n  install it: sudo apt install coft", looked.join(", ")))
    })
}

/// The report of the service's program about a configuration. It starts nothing.
///
/// # Errors
/// It is not installed, cannot be run, or prints something else.
pub fn config_report(file: &Path) -> Result<ConfigReport, CliError> {
    let ended = coftd()?.arg("--check").arg("--config").arg(file).output();
    let ended = ended.map_err(|error| CliError::NotFound(format!("coftd cannot be run: {error}")))?;
    serde_json::from_slice(&ended.stdout).map_err(|_| {
        let said = String::from_utf8_lossy(&ended.stderr);
        CliError::Misunderstood(format!("coftd --check ended with {}: {}", ended.status, said.trim()))
    })
}

/// Possible directories: beside this program (in a build), in the prefix of the installation, and where packages put
/// it.
fn places(this: Option<&Path>) -> Vec<PathBuf> {
    let dir = this.and_then(Path::parent);
    let prefix = dir.and_then(Path::parent).map(|prefix| prefix.join("libexec/coft"));
    let mut places: Vec<PathBuf> = dir.map(Path::to_owned).into_iter().chain(prefix).collect();
    if !places.iter().any(|place| place == Path::new(INSTALLED)) {
        places.push(INSTALLED.into());
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_lie_in_the_prefix_of_this_one() {
        let looked = |this: &str| places(Some(Path::new(this)));
        assert_eq!(looked("/usr/bin/coftctl"), ["/usr/bin", "/usr/libexec/coft"].map(PathBuf::from));
        let built = ["/src/target/debug", "/src/target/libexec/coft", "/usr/libexec/coft"];
        assert_eq!(looked("/src/target/debug/coftctl"), built.map(PathBuf::from));
        assert_eq!(places(None), [PathBuf::from("/usr/libexec/coft")]);
    }
}
