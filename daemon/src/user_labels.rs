//! The user's own labels for some of the images: a CSV file with the columns `path` and `class`, optionally `source`,
//! and one image per line.
//!
//! Paths are relative to the CSV file. An image is identified by its content, as everywhere: the named file must be a
//! copy of a file that is in a source, or was in one. The caller has to find out which image a lost file contained.
//! Where sources use parts of their pictures, each such part of a file is an image of its own.

use crate::ingest::{Place, id_of};
use crate::regular::Steps;
use coft_core::ids::{ClassId, ImageId};
use coft_core::shown::{shown, shown_path};
use coft_core::text::{self, TextError};
use coft_vision::Region;
use csv::ByteRecord;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
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
    /// The images in the file. It is one image, unless sources use several parts of it. Or the reason why the file
    /// cannot be read.
    pub images: io::Result<Vec<ImageId>>,
    class: ClassId,
}

/// The labels of a list by image, each with its line number.
pub type Labels = BTreeMap<ImageId, (ClassId, u64)>;

/// Delimiters that spreadsheets write between fields.
const DELIMITERS: [u8; 4] = *b",;\t|";
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
        let fault = |problem| UserLabelsError { path: path.to_owned(), problem };
        let mut content = Vec::new();
        let read = regular(path).and_then(|file| Steps::new(&file, is_wanted)?.read_to_end(&mut content));
        read.map_err(|error| fault(Problem::Read(error)))?;
        let above = path.parent().unwrap_or(Path::new("."));
        let lines = rows(&content)
            .and_then(|rows| rows.into_iter().map(|row| line(row, above, classes, sources, is_wanted)).collect())
            .map_err(fault)?;
        Ok(Self { path: path.to_owned(), lines })
    }

    /// The lines whose files cannot be read.
    pub fn lost(&mut self) -> impl Iterator<Item = &mut Line> {
        self.lines.iter_mut().filter(|line| line.images.is_err())
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

/// A line of the file: its number, path, class and source, if it names one.
type Row = (u64, Vec<u8>, Vec<u8>, Option<Vec<u8>>);

/// The rows below the header. Paths may contain any bytes, as file names do.
fn rows(content: &[u8]) -> Result<Vec<Row>, Problem> {
    let content = match text::decode(content) {
        Ok(text) => Cow::Owned(text.into_bytes()),
        Err(TextError::NotUtf8 { .. }) => Cow::Borrowed(content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content)),
        Err(error) => return Err(error.into()),
    };
    let first = || content.split(|byte| matches!(byte, b'\n' | b'\r')).find(|line| !line.is_empty());
    let Some((delimiter, [path, class], source, expected)) =
        DELIMITERS.into_iter().find_map(|mark| columns(&content, mark))
    else {
        return Err(Problem::Header { found: first().unwrap_or_default().to_vec() });
    };
    let mut rows = Vec::new();
    for record in reader(&content, delimiter).into_byte_records().skip(1) {
        let record = record.map_err(Problem::Csv)?;
        let line = record.position().map_or(0, csv::Position::line);
        if record.len() != expected {
            return Err(Problem::Fields { line, found: record.len(), expected });
        }
        let source = source.map(|source| record[source].trim_ascii().to_vec()).filter(|source| !source.is_empty());
        rows.push((line, record[path].to_vec(), record[class].to_vec(), source));
    }
    Ok(rows)
}

fn reader(content: &[u8], delimiter: u8) -> csv::Reader<&[u8]> {
    csv::ReaderBuilder::new().delimiter(delimiter).has_headers(false).flexible(true).from_reader(content)
}

/// Reads the header with this delimiter. Returns the delimiter, the indices of the columns for path and class, that for
/// the source, and the number of columns.
fn columns(content: &[u8], delimiter: u8) -> Option<(u8, [usize; 2], Option<usize>, usize)> {
    let mut header = ByteRecord::new();
    reader(content, delimiter).read_byte_record(&mut header).ok()?;
    let column = |name: &str| header.iter().position(|field| field.trim_ascii().eq_ignore_ascii_case(name.as_bytes()));
    Some((delimiter, [column("path")?, column("class")?], column("source"), header.len()))
}

fn line(
    (number, path, class, source): Row,
    above: &Path,
    classes: &[String],
    sources: &HashMap<PathBuf, Place>,
    is_wanted: &dyn Fn() -> bool,
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
    let regions = regions(number, source, &path, sources)?;
    Ok(Line { number, images: images(&path, &regions, is_wanted), path, class: ClassId(found as u32) })
}

/// The parts of a file that sources use: that of the source that the line names, otherwise those of all sources.
fn regions(
    line: u64,
    source: Option<Vec<u8>>,
    path: &Path,
    sources: &HashMap<PathBuf, Place>,
) -> Result<Vec<Option<Region>>, Problem> {
    let names = |found: &mut dyn Iterator<Item = &PathBuf>| {
        let mut names: Vec<String> = found.map(|key| shown_path(key).into_owned()).collect();
        names.sort();
        names.join(", ")
    };
    if let Some(source) = source {
        let Some(place) = sources.get(Path::new(OsStr::from_bytes(&source))) else {
            return Err(Problem::Source { line, named: source, there: names(&mut sources.keys()) });
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
mod tests {
    use super::*;

    /// The classes and the lost lines of a list beside three files; `known` is what the catalogue knows about lost
    /// files.
    fn told_knowing(known: &[(&str, &str)], list: impl AsRef<[u8]>) -> Result<(Vec<u32>, Vec<u64>), String> {
        told_among(known, &[], list).map(|(given, lost)| (given.values().map(|(class, _)| class.0).collect(), lost))
    }

    /// The images and the lost lines of a list. Each source is a key, a directory and the part that it uses.
    fn told_among(
        known: &[(&str, &str)],
        sources: &[(&str, &str, Option<Region>)],
        list: impl AsRef<[u8]>,
    ) -> Result<(Labels, Vec<u64>), String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in [
            (&b"a.png"[..], "1"),
            (b"b.png", "2"),
            (b"copy.png", "1"),
            (b"caf\xe9.png", "3"),
            (b"back\\slash.png", "4"),
        ] {
            fs::write(dir.path().join(OsStr::from_bytes(name)), content).unwrap();
        }
        let path = dir.path().join("given.csv");
        fs::write(&path, list).unwrap();
        let classes = ["nut".to_owned(), "hex bolt".to_owned()];
        let prefix = dir.path().display().to_string();
        let place = |(key, of, region): &(&str, &str, Option<Region>)| {
            (PathBuf::from(key), Place { dir: dir.path().join(of), region: *region })
        };
        let sources = sources.iter().map(place).collect();
        let labels = List::read(&path, &classes, &sources, &|| true).and_then(|mut list| {
            for line in list.lost() {
                if let Some((_, content)) = known.iter().find(|(name, _)| line.path == dir.path().join(name)) {
                    line.images = Ok(vec![image(content, None)]);
                }
            }
            list.labels()
        });
        match labels {
            Ok((given, lost)) => Ok((given, lost.iter().map(|line| line.number).collect())),
            Err(error) => Err(error.to_string().replace(&prefix, "DIR")),
        }
    }

    fn image(content: &str, region: Option<Region>) -> ImageId {
        id_of(Sha256::new().chain_update(content), region)
    }

    /// Such files counted as images of no source.
    #[test]
    fn labels_of_files_of_which_a_part_is_looked_at_are_those_of_the_part() {
        let part = |x: f64| Some(Region { x, y: 0.0, width: 0.5, height: 1.0 });
        let (left, right) = (part(0.0), part(0.5));
        let one = [("/cam", ".", left), ("/other", "other", None)];
        let list = "path,class\na.png,hex bolt\n";
        let (given, _) = told_among(&[], &one, list).unwrap();
        let line = (ClassId(1), 2);
        assert_eq!(given, [(image("1", left), line), (image("1", None), line)].into(), "whichever source has it");

        let two = [("left", ".", left), ("right", ".", right)];
        let error = told_among(&[], &two, list).unwrap_err();
        assert!(
            error.contains("line 2: the sources left, right look at other parts of DIR/a.png; name the one"),
            "{error}"
        );
        let list = "path,class,source\na.png,hex bolt,left\na.png,nut, right\n";
        let (given, _) = told_among(&[], &two, list).unwrap();
        assert_eq!(given, [(image("1", left), (ClassId(1), 2)), (image("1", right), (ClassId(0), 3))].into());
        let error = told_among(&[], &two, "path,class,source\na.png,nut,middle\n").unwrap_err();
        assert!(error.contains("line 2: there is no source middle; there are: left, right"), "{error}");
    }

    fn told(list: impl AsRef<[u8]>) -> Result<(Vec<u32>, Vec<u64>), String> {
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
        refused("path,class\na.png\n", "line 2: 1 fields where the first line has 2");
        refused("path,class\na.png,nut,\n", "line 2: 3 fields where the first line has 2");
        refused("path,class\n,nut\n", "line 2: the path is empty");
        refused("path,class\n\"a.png,nut\nb.png,nut\n", "line 2: 1 fields");
        refused(
            "path,class\nb.png,nut\na.png,Hex bolt\n",
            "line 3: there is no class \"Hex bolt\"; did you mean \"hex bolt\"?",
        );
        refused("path,class\na.png,hexbolt\n", "did you mean \"hex bolt\"?");
        refused("path,class\na.png,gear\n", "there is no class \"gear\"; write it as in the label file");
        refused("path,class\nin\\a.png,nut\n", "line 2: there is no file DIR/in\\a.png; write the path with /");
    }

    #[test]
    fn a_list_without_its_header_is_refused_with_its_first_line() {
        for (list, found) in [
            ("file,class\na.png,nut\n", "file,class"),
            ("a.png,nut\n", "a.png,nut"),
            ("\r\nsep=;\r\npath;class\r\n", "sep=;"),
            ("", ""),
        ] {
            let error = told(list).unwrap_err();
            let why = format!("the first line has to name the columns, path,class; it is {found:?}");
            assert!(error.contains(&why), "{error}");
        }
    }

    #[test]
    fn lists_are_read_as_spreadsheets_write_them() {
        let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        for list in [
            b"path;class\na.png;hex bolt\n".to_vec(),
            b"path\tclass\na.png\thex bolt\n".to_vec(),
            b"Class , PATH\nhex bolt , a.png\n".to_vec(),
            b"id,path,class\r\n1,\"a.png\",\"hex bolt\"\r\n\r\n".to_vec(),
            b"\xef\xbb\xbf\"path\",\"class\"\r\n./a.png, hex bolt\r\n".to_vec(),
            b"path,class\ra.png,hex bolt\r".to_vec(),
            utf16("\u{feff}path;class\r\na.png;hex bolt\r\n"),
        ] {
            assert_eq!(told(&list), Ok((vec![1], vec![])), "{}", String::from_utf8_lossy(&list));
        }
    }

    #[test]
    fn names_of_files_may_be_any_bytes_and_classes_may_not() {
        let list = b"path,class\ncaf\xe9.png,nut\nback\\slash.png,hex bolt\n";
        let (mut found, lost) = told(list).unwrap();
        found.sort_unstable();
        assert_eq!((found, lost), (vec![0, 1], vec![]));
        let error = told(b"path,class\na.png,caf\xe9\n").unwrap_err();
        assert!(error.contains("line 2: the byte 0xE9 is not UTF-8"), "{error}");
        let error = told(b"path,class\nlost\xe9.png,nut\n").unwrap_err();
        assert!(error.contains("line 2: there is no file DIR/lost\\xe9.png; the name is not UTF-8"), "{error}");
    }

    #[test]
    fn a_pipe_in_place_of_a_file_held_the_round_up() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("given.csv");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let classes = ["nut".to_owned()];
        let error = List::read(&pipe, &classes, &HashMap::new(), &|| true).unwrap_err().to_string();
        assert!(error.contains("it is no regular file"), "{error}");
        fs::write(dir.path().join("list.csv"), "path,class\ngiven.csv,nut\n").unwrap();
        let mut list = List::read(&dir.path().join("list.csv"), &classes, &HashMap::new(), &|| true).unwrap();
        assert_eq!(list.lost().count(), 1);
    }
}
