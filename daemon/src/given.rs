//! The user's own labels for some of the images: a CSV file with the header `path,class`, one image a line.
//!
//! Paths are taken relative to the file. An image is recognised by its content, as everywhere: the file must be a copy of one
//! that a source holds, or one that has gone from a source. Which image a lost file held is for the caller to find out.

use coft_core::ids::{ClassId, ImageId};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
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
    #[error("line {line}: {} is the image of line {first} and has another class there; keep one of them", image.display())]
    Contradiction { line: u64, image: PathBuf, first: u64 },
}

/// A label list as it was read.
#[derive(Debug)]
pub struct List {
    path: PathBuf,
    lines: Vec<Line>,
}

/// One image of a list.
#[derive(Debug)]
pub struct Line {
    /// From 1.
    pub number: u64,
    /// Where the file lies or lay, links above it resolved.
    pub path: PathBuf,
    /// The image, or why the file cannot be read.
    pub image: io::Result<ImageId>,
    class: ClassId,
}

#[derive(Deserialize)]
struct Row {
    path: PathBuf,
    class: String,
}

impl List {
    /// Reads the list and every image that it names.
    pub fn read(path: &Path, classes: &[String]) -> Result<Self, GivenError> {
        let fault = |problem| GivenError { path: path.to_owned(), problem };
        let mut reader = csv::Reader::from_path(path).map_err(|error| fault(Problem::Csv(error)))?;
        let headers = reader.headers().map_err(|error| fault(Problem::Csv(error)))?.clone();
        let mut lines = Vec::new();
        for record in reader.records() {
            let record = record.map_err(|error| fault(Problem::Csv(error)))?;
            let number = record.position().map_or(0, csv::Position::line);
            let row: Row = record.deserialize(Some(&headers)).map_err(|error| fault(Problem::Csv(error)))?;
            let Some(class) = classes.iter().position(|class| *class == row.class) else {
                return Err(fault(Problem::Class { line: number, class: row.class }));
            };
            let path = resolved(&path.parent().unwrap_or(Path::new(".")).join(row.path));
            lines.push(Line { number, image: digest(&path), path, class: ClassId(class as u32) });
        }
        Ok(Self { path: path.to_owned(), lines })
    }

    /// The lines whose files cannot be read.
    pub fn lost(&mut self) -> impl Iterator<Item = &mut Line> {
        self.lines.iter_mut().filter(|line| line.image.is_err())
    }

    /// The labels by image, and the lines whose files are lost.
    pub fn labels(self) -> Result<(BTreeMap<ImageId, ClassId>, Vec<Line>), GivenError> {
        let mut given: BTreeMap<ImageId, (ClassId, u64)> = BTreeMap::new();
        let mut lost = Vec::new();
        for line in self.lines {
            let Ok(image) = &line.image else {
                lost.push(line);
                continue;
            };
            match given.get(image) {
                Some(&(other, first)) if other != line.class => {
                    let problem = Problem::Contradiction { line: line.number, image: line.path, first };
                    return Err(GivenError { path: self.path, problem });
                }
                _ => given.insert(image.clone(), (line.class, line.number)),
            };
        }
        Ok((given.into_iter().map(|(image, (class, _))| (image, class)).collect(), lost))
    }
}

/// The path without links and `..`, as far as its directories are still there; the file itself need not be.
fn resolved(path: &Path) -> PathBuf {
    let found = |above: &Path| Some(fs::canonicalize(above).ok()?.join(path.strip_prefix(above).ok()?));
    let found = path.ancestors().skip(1).find_map(found).unwrap_or_else(|| path.to_owned());
    found.components().collect()
}

fn digest(path: &Path) -> io::Result<ImageId> {
    let mut hash = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(ImageId(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The classes and the lost lines of a list beside three files; `known` is what the catalogue says of lost ones.
    fn told_knowing(known: &[(&str, &str)], list: &str) -> Result<(Vec<u32>, Vec<u64>), String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in [("a.png", "1"), ("b.png", "2"), ("copy.png", "1")] {
            fs::write(dir.path().join(name), content).unwrap();
        }
        let path = dir.path().join("given.csv");
        fs::write(&path, list).unwrap();
        let classes = ["nut".to_owned(), "hex bolt".to_owned()];
        let prefix = dir.path().display().to_string();
        let labels = List::read(&path, &classes).and_then(|mut list| {
            for line in list.lost() {
                if let Some((_, content)) = known.iter().find(|(name, _)| line.path == dir.path().join(name)) {
                    line.image = Ok(ImageId(format!("{:x}", Sha256::digest(content))));
                }
            }
            list.labels()
        });
        match labels {
            Ok((given, lost)) => {
                Ok((given.values().map(|class| class.0).collect(), lost.iter().map(|line| line.number).collect()))
            }
            Err(error) => Err(error.to_string().replace(&prefix, "DIR")),
        }
    }

    fn told(list: &str) -> Result<(Vec<u32>, Vec<u64>), String> {
        told_knowing(&[], list)
    }

    #[test]
    fn images_are_known_by_their_content() {
        let (mut found, lost) = told("path,class\na.png,hex bolt\nb.png,nut\ncopy.png,hex bolt\n").unwrap();
        found.sort_unstable();
        assert_eq!((found.as_slice(), lost.as_slice()), ([0, 1].as_slice(), [].as_slice()), "two images, one twice");
    }

    #[test]
    fn a_lost_file_is_left_out_and_its_line_told() {
        let list = "path,class\na.png,hex bolt\nlost.png,nut\nday/lost.png,nut\n";
        assert_eq!(told(list).unwrap(), (vec![1], vec![3, 4]));
    }

    #[test]
    fn a_lost_file_that_is_known_counts() {
        let list = "path,class\na.png,hex bolt\nlost.png,nut\n./day/./lost.png,nut\n";
        let (mut found, lost) = told_knowing(&[("lost.png", "3"), ("day/lost.png", "4")], list).unwrap();
        found.sort_unstable();
        assert_eq!((found, lost), (vec![0, 0, 1], vec![]));
        let error = told_knowing(&[("lost.png", "1")], "path,class\na.png,hex bolt\nlost.png,nut\n").unwrap_err();
        assert!(error.contains("line 3: DIR/lost.png is the image of line 2"), "{error}");
    }

    #[test]
    fn a_bad_line_is_named() {
        let refused = |list: &str, why: &str| {
            let error = told(list).unwrap_err();
            assert!(error.contains("DIR/given.csv") && error.contains(why), "{error}");
        };
        refused("path,class\na.png,nut\nb.png,gear\n", "line 3: there is no class \"gear\"");
        refused("path,class\na.png,nut\ncopy.png,hex bolt\n", "line 3: DIR/copy.png is the image of line 2");
        refused("path,class\na.png\n", "line: 2");
        refused("file,class\na.png,nut\n", "missing field `path`");
    }
}
