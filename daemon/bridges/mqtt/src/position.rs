//! Stores how far answers were sent. The file is replaced as a whole, so the program can continue from it, whenever it
//! was stopped.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;
use tracing::warn;

const FILE: &str = "positions.json";

/// An answer, by its number and its image. If the same number has another image, it is from another state directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    pub sequence: u64,
    pub image: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Known {
    /// The last answer of each source, by its name or directory, that the broker has acknowledged.
    sources: BTreeMap<String, Position>,
    /// Topics for which the broker retains a message of this program.
    retained: BTreeSet<String>,
}

#[derive(Debug)]
pub struct Positions {
    dir: PathBuf,
    known: Known,
}

#[derive(Debug, Error)]
#[error("{}: {source}; it is kept there how far what was sent goes", path.display())]
pub struct PositionError {
    path: PathBuf,
    source: io::Error,
}

impl Positions {
    /// # Errors
    /// The directory cannot be used.
    pub fn open(dir: &Path) -> Result<Self, PositionError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| PositionError { path, source }
        };
        coft_fs::remove_unfinished(dir).map_err(failed(dir))?;
        let file = dir.join(FILE);
        let known = match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                warn!("{}: {error}; what was not sent before is not sent", file.display());
                Known::default()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Known::default(),
            Err(error) => return Err(failed(&file)(error)),
        };
        let positions = Self { dir: dir.to_owned(), known };
        // So an unwritable directory is an error at the start, and not at the first answer.
        positions.write().map_err(failed(dir))?;
        Ok(positions)
    }

    pub fn of(&self, source: &str) -> Option<&Position> {
        self.known.sources.get(source)
    }

    /// # Errors
    /// The position could not be written, but it is kept in memory.
    pub fn advance(&mut self, source: &str, position: Position) -> Result<(), PositionError> {
        self.known.sources.insert(source.to_owned(), position);
        self.save()
    }

    pub fn retained(&self) -> &BTreeSet<String> {
        &self.known.retained
    }

    /// # Errors
    /// Like [`Positions::advance`].
    pub fn retain(&mut self, topics: BTreeSet<String>) -> Result<(), PositionError> {
        if self.known.retained != topics {
            self.known.retained = topics;
            self.save()?;
        }
        Ok(())
    }

    fn save(&self) -> Result<(), PositionError> {
        self.write().map_err(|source| PositionError { path: self.dir.clone(), source })
    }

    fn write(&self) -> io::Result<()> {
        coft_fs::replace(&self.dir.join(FILE), &serde_json::to_vec(&self.known)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn at(sequence: u64) -> Position {
        Position { sequence, image: format!("{sequence:02x}") }
    }

    #[test]
    fn what_was_sent_is_known_after_a_restart() {
        let dir = TempDir::new().unwrap();
        let mut positions = Positions::open(dir.path()).unwrap();
        assert_eq!(positions.of("/a"), None);
        positions.advance("/a", at(7)).unwrap();
        positions.advance("/b", at(1)).unwrap();
        positions.advance("/a", at(8)).unwrap();
        positions.retain(["coft/a/state".to_owned()].into()).unwrap();
        let again = Positions::open(dir.path()).unwrap();
        assert_eq!((again.of("/a"), again.of("/b")), (Some(&at(8)), Some(&at(1))));
        assert!(again.retained().contains("coft/a/state"));
    }

    #[test]
    fn half_a_file_is_none_and_a_directory_that_is_not_there_is_told() {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join(".new-x"), "{\"sour").unwrap();
        assert_eq!(Positions::open(dir.path()).unwrap().of("/a"), None);
        assert!(!dir.path().join(".new-x").exists(), "a loss of power has left it");
        let told = Positions::open(&dir.path().join("none")).unwrap_err().to_string();
        assert!(told.contains("none") && told.contains("how far"), "{told}");
    }
}
