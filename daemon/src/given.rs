//! The user's own labels for some of the images: a CSV file with the header `path,class`, one image a line.
//!
//! Paths are taken relative to the file. An image is recognised by its content, as everywhere: the file must be a copy of one
//! that a source holds.

use coft_core::ids::{ClassId, ImageId};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

#[derive(Debug, Error)]
#[error("the label list {}: {problem}", path.display())]
pub struct GivenError {
    path: PathBuf,
    problem: Problem,
}

#[derive(Debug, Error)]
enum Problem {
    #[error("{0}")]
    Csv(csv::Error),
    #[error("line {line}: there is no class {class:?}; write it as in the label file")]
    Class { line: u64, class: String },
    #[error("line {line}: {image} cannot be read: {source}")]
    Image { line: u64, image: PathBuf, source: io::Error },
    #[error("line {line}: {image} is the image of line {first} and has another class there; keep one of them")]
    Contradiction { line: u64, image: PathBuf, first: u64 },
}

#[derive(Deserialize)]
struct Row {
    path: PathBuf,
    class: String,
}

/// Reads the list and every image that it names; the labels by image.
pub fn read(path: &Path, classes: &[String]) -> Result<BTreeMap<ImageId, ClassId>, GivenError> {
    let fault = |problem| GivenError { path: path.to_owned(), problem };
    let mut reader = csv::Reader::from_path(path).map_err(|error| fault(Problem::Csv(error)))?;
    let headers = reader.headers().map_err(|error| fault(Problem::Csv(error)))?.clone();
    let mut given: BTreeMap<ImageId, (ClassId, u64)> = BTreeMap::new();
    for record in reader.records() {
        let record = record.map_err(|error| fault(Problem::Csv(error)))?;
        let line = record.position().map_or(0, csv::Position::line);
        let row: Row = record.deserialize(Some(&headers)).map_err(|error| fault(Problem::Csv(error)))?;
        let Some(class) = classes.iter().position(|class| *class == row.class) else {
            return Err(fault(Problem::Class { line, class: row.class }));
        };
        let image = path.parent().unwrap_or(Path::new(".")).join(&row.path);
        let id = match digest(&image) {
            Ok(id) => id,
            Err(source) => return Err(fault(Problem::Image { line, image, source })),
        };
        let class = ClassId(class as u32);
        match given.get(&id) {
            Some(&(other, first)) if other != class => {
                return Err(fault(Problem::Contradiction { line, image, first }));
            }
            _ => given.insert(id, (class, line)),
        };
    }
    Ok(given.into_iter().map(|(id, (class, _))| (id, class)).collect())
}

fn digest(path: &Path) -> io::Result<ImageId> {
    let mut hash = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(ImageId(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn told(list: &str) -> Result<Vec<u32>, String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in [("a.png", "1"), ("b.png", "2"), ("copy.png", "1")] {
            fs::write(dir.path().join(name), content).unwrap();
        }
        let path = dir.path().join("given.csv");
        fs::write(&path, list).unwrap();
        let classes = ["nut".to_owned(), "hex bolt".to_owned()];
        let prefix = dir.path().display().to_string();
        match read(&path, &classes) {
            Ok(given) => Ok(given.values().map(|class| class.0).collect()),
            Err(error) => Err(error.to_string().replace(&prefix, "DIR")),
        }
    }

    #[test]
    fn images_are_known_by_their_content() {
        let mut found = told("path,class\na.png,hex bolt\nb.png,nut\ncopy.png,hex bolt\n").unwrap();
        found.sort_unstable();
        assert_eq!(found, [0, 1], "two images, one of them twice");
    }

    #[test]
    fn a_bad_line_is_named() {
        let refused = |list: &str, why: &str| {
            let error = told(list).unwrap_err();
            assert!(error.contains("DIR/given.csv") && error.contains(why), "{error}");
        };
        refused("path,class\na.png,nut\nb.png,gear\n", "line 3: there is no class \"gear\"");
        refused("path,class\nlost.png,nut\n", "line 2: DIR/lost.png cannot be read");
        refused("path,class\na.png,nut\ncopy.png,hex bolt\n", "line 3: DIR/copy.png is the image of line 2");
        refused("path,class\na.png\n", "line: 2");
        refused("file,class\na.png,nut\n", "missing field `path`");
    }
}
