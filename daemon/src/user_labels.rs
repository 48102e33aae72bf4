//! The user's own labels for some of the images: a CSV file with the columns `path` and `class`, optionally `source`,
//! and one image per line.
//!
//! Paths are relative to the CSV file. An image is identified by its content, as everywhere: the named file must be a
//! copy of a file that is in a source, or was in one. The caller has to find out which image a lost file contained.
//! Where sources use parts of their pictures, each such part of a file is an image of its own.

mod rows;

use crate::ingest::{Place, id_of};
use crate::regular::Steps;
use coft_core::ids::{ClassId, ImageId};
use coft_core::shown::{shown, shown_path};
use coft_core::text::{self, TextError};
use coft_vision::Region;
use rows::{Row, rows};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

#[derive(Debug, Error)]
#[error("the label list {}: {problem}", shown_path(path))]
pub struct UserLabelsError {
    path: PathBuf,
    problem: Problem,
}

#[derive(Debug, Error)]
enum Problem {
    #[error("it cannot be read: {0}")]
    Read(io::Error),
    #[error(transparent)]
    Text(#[from] TextError),
    #[error("{0}")]
    Csv(csv::Error),
    #[error("the first line has to name the columns, path,class; it is \"{}\"", shown(found))]
    Header { found: Vec<u8> },
    #[error(
        "line {line}: {found} fields where the first line has {expected}; put a field that holds the mark between \
         fields into quotation marks"
    )]
    Fields { line: u64, found: usize, expected: usize },
    #[error("line {line}: the path is empty")]
    NoPath { line: u64 },
    #[error("line {line}: there is no file {}; {advice}", shown_path(path))]
    NoFile { line: u64, path: PathBuf, advice: &'static str },
    #[error("line {line}: there is no source {}; there are: {there}", shown(named))]
    Source { line: u64, named: Vec<u8>, there: String },
    #[error(
        "line {line}: the sources {there} look at other parts of {}; name the one that is meant in a column source",
        shown_path(path)
    )]
    WhichSource { line: u64, path: PathBuf, there: String },
    #[error("line {line}: there is no class {class:?}; {advice}")]
    Class { line: u64, class: String, advice: String },
    #[error(
        "line {line}: {} is the image of line {first} and has another class there; keep one of them",
        shown_path(image)
    )]
    Contradiction { line: u64, image: PathBuf, first: u64 },
}

/// A label list as it was read.
#[derive(Debug)]
pub struct List {
    path: PathBuf,
    lines: Vec<Line>,
}

/// One line of a list.
#[derive(Debug)]
pub struct Line {
    /// Line number, from 1.
    pub number: u64,
    /// Path of the file, which may be gone; links in its directories are resolved.
    pub path: PathBuf,
    /// Key of the source that the line names.
    pub source: Option<PathBuf>,
    /// The images in the file. It is one image, unless sources use several parts of it. Or the reason why the file
    /// cannot be read.
    pub images: io::Result<Vec<ImageId>>,
    class: ClassId,
}

/// Finds the images in a file, of which the sources use these parts.
type LookAt<'a> = dyn Fn(&Path, &[Option<Region>]) -> io::Result<Vec<ImageId>> + 'a;

/// The labels of a list by image, each with its line number.
pub type Labels = BTreeMap<ImageId, (ClassId, u64)>;

/// Least likeness of a class name to be suggested, from 0 to 1. [choice]
const NEAR: f64 = 0.6;

impl List {
    /// Reads the list and every image that it names; stops when `is_wanted` returns false. `sources` has all sources by
    /// their keys.
    pub fn read(
        path: &Path,
        classes: &[String],
        sources: &HashMap<PathBuf, Place>,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Self, UserLabelsError> {
        Self::read_with(path, classes, sources, is_wanted, &|path, regions| images(path, regions, is_wanted))
    }

    /// Reads the list and none of the images: every line counts as one whose file cannot be read.
    pub fn read_alone(
        path: &Path,
        classes: &[String],
        sources: &HashMap<PathBuf, Place>,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Self, UserLabelsError> {
        Self::read_with(path, classes, sources, is_wanted, &|_, _| Err(io::ErrorKind::NotFound.into()))
    }

    fn read_with(
        path: &Path,
        classes: &[String],
        sources: &HashMap<PathBuf, Place>,
        is_wanted: &dyn Fn() -> bool,
        images: &LookAt,
    ) -> Result<Self, UserLabelsError> {
        let fault = |problem| UserLabelsError { path: path.to_owned(), problem };
        let mut content = Vec::new();
        let read = regular(path).and_then(|file| Steps::new(&file, is_wanted)?.read_to_end(&mut content));
        read.map_err(|error| fault(Problem::Read(error)))?;
        let above = path.parent().unwrap_or(Path::new("."));
        let lines = rows(&content)
            .and_then(|rows| rows.into_iter().map(|row| line(row, above, classes, sources, images)).collect())
            .map_err(fault)?;
        Ok(Self { path: path.to_owned(), lines })
    }

    /// The lines whose files cannot be read.
    pub fn lost(&mut self) -> impl Iterator<Item = &mut Line> {
        self.lines.iter_mut().filter(|line| line.images.is_err())
    }

    /// Leaves out the lines whose files cannot be read.
    pub fn forget_lost(&mut self) {
        self.lines.retain(|line| line.images.is_ok());
    }

    /// The labels by image, and the lines whose files cannot be read.
    pub fn labels(self) -> Result<(Labels, Vec<Line>), UserLabelsError> {
        let mut given = Labels::new();
        let mut lost = Vec::new();
        for line in self.lines {
            let Ok(images) = &line.images else {
                if let Some(advice) = misspelt(&line.path) {
                    let problem = Problem::NoFile { line: line.number, path: line.path, advice };
                    return Err(UserLabelsError { path: self.path, problem });
                }
                lost.push(line);
                continue;
            };
            for image in images {
                match given.get(image) {
                    Some(&(other, first)) if other != line.class => {
                        let problem = Problem::Contradiction { line: line.number, image: line.path, first };
                        return Err(UserLabelsError { path: self.path, problem });
                    }
                    _ => given.insert(image.clone(), (line.class, line.number)),
                };
            }
        }
        Ok((given, lost))
    }
}

fn line(
    (number, path, class, source): Row,
    above: &Path,
    classes: &[String],
    sources: &HashMap<PathBuf, Place>,
    images: &LookAt,
) -> Result<Line, Problem> {
    let class = std::str::from_utf8(&class)
        .map_err(|error| TextError::NotUtf8 { line: number as usize, byte: class[error.valid_up_to()] })?;
    let class = text::composed(class.trim());
    let Some(found) = classes.iter().position(|known| *known == class) else {
        let advice = nearest(&class, classes)
            .map_or_else(|| "write it as in the label file".to_owned(), |near| format!("did you mean {near:?}?"));
        return Err(Problem::Class { line: number, class, advice });
    };
    if path.trim_ascii().is_empty() {
        return Err(Problem::NoPath { line: number });
    }
    // Spaces around a path are dropped, unless a file with these spaces in its name exists.
    let at = |path: &[u8]| resolved(&above.join(OsStr::from_bytes(path)));
    let path = Some(at(&path)).filter(|path| path.exists()).unwrap_or_else(|| at(path.trim_ascii()));
    let source = source.map(|name| PathBuf::from(OsStr::from_bytes(&name)));
    let regions = regions(number, source.as_deref(), &path, sources)?;
    // As the catalogue writes it: the line may have more slashes.
    let source = source.and_then(|named| Some(sources.get_key_value(&named)?.0.clone()));
    Ok(Line { number, images: images(&path, &regions), path, source, class: ClassId(found as u32) })
}

/// The parts of a file that sources use: that of the source that the line names, otherwise those of all sources.
fn regions(
    line: u64,
    source: Option<&Path>,
    path: &Path,
    sources: &HashMap<PathBuf, Place>,
) -> Result<Vec<Option<Region>>, Problem> {
    let names = |found: &mut dyn Iterator<Item = &PathBuf>| {
        let mut names: Vec<String> = found.map(|key| shown_path(key).into_owned()).collect();
        names.sort();
        names.join(", ")
    };
    if let Some(source) = source {
        let Some(place) = sources.get(source) else {
            let named = source.as_os_str().as_bytes().to_vec();
            return Err(Problem::Source { line, named, there: names(&mut sources.keys()) });
        };
        return Ok(vec![place.region]);
    }
    // Sources with the same directory each use another part.
    let has_it = |place: &Place| path.starts_with(fs::canonicalize(&place.dir).as_ref().unwrap_or(&place.dir));
    let having: Vec<&PathBuf> = sources.iter().filter(|(_, place)| has_it(place)).map(|(key, _)| key).collect();
    if having.len() > 1 {
        let there = names(&mut having.into_iter());
        return Err(Problem::WhichSource { line, path: path.to_owned(), there });
    }
    let mut regions: Vec<Option<Region>> = Vec::new();
    for place in sources.values() {
        if !regions.contains(&place.region) {
            regions.push(place.region);
        }
    }
    Ok(if regions.is_empty() { vec![None] } else { regions })
}

/// The class that the user probably meant.
pub fn nearest<'c>(class: &str, classes: &'c [String]) -> Option<&'c String> {
    let class = text::likeness(class);
    let near = |known: &'c String| (strsim::normalized_damerau_levenshtein(&class, &text::likeness(known)), known);
    let (likeness, known) = classes.iter().map(near).max_by(|(one, _), (other, _)| one.total_cmp(other))?;
    (likeness >= NEAR).then_some(known)
}

/// The mistake in the path of a file that does not exist, if it can be seen. Any other path may be that of a file that
/// has gone.
fn misspelt(path: &Path) -> Option<&'static str> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.contains(&b'\\') {
        return Some("write the path with / between its parts");
    }
    std::str::from_utf8(bytes)
        .is_err()
        .then_some("the name is not UTF-8; save the list in the encoding of the files' names")
}

/// Opens a regular file for reading; opening a pipe could block the caller for ever.
fn regular(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")),
    }
}

/// The path without links and `..`, as far as its directories exist; the file itself need not exist.
fn resolved(path: &Path) -> PathBuf {
    let found = |above: &Path| Some(fs::canonicalize(above).ok()?.join(path.strip_prefix(above).ok()?));
    let found = path.ancestors().skip(1).find_map(found).unwrap_or_else(|| path.to_owned());
    found.components().collect()
}

fn images(path: &Path, regions: &[Option<Region>], is_wanted: &dyn Fn() -> bool) -> io::Result<Vec<ImageId>> {
    let (file, mut hash) = (regular(path)?, Sha256::new());
    io::copy(&mut BufReader::with_capacity(1 << 20, Steps::new(&file, is_wanted)?), &mut hash)?;
    Ok(regions.iter().map(|region| id_of(hash.clone(), *region)).collect())
}

#[cfg(test)]
mod tests;
