//! `labels.csv`: every answer that a person has given about a picture, in the order in which they were given, with the
//! columns `image` and `class`. The class is empty if the person could not tell.

use coft_core::ids::ImageId;
use coft_core::shown::shown_path;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use tracing::warn;

const FILE: &str = "labels.csv";
const COLUMNS: [&str; 2] = ["image", "class"];
/// SHA-256 in hex.
const ID_LENGTH: usize = 64;

/// A person's answer about a picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    pub image: ImageId,
    /// None if the person could not tell.
    pub class: Option<String>,
}

/// The list of labels as it is on the disk.
#[derive(Debug)]
pub struct Labels {
    path: PathBuf,
    list: Vec<Label>,
    /// Why the list could not be read. It may be intact, so it is not replaced.
    unreadable: Option<io::ErrorKind>,
}

impl Labels {
    /// Reads the list of a state directory. A damaged list is logged and copied, so that somebody can repair it; the
    /// labels that can be read are kept.
    pub fn open(dir: &Path) -> Self {
        let mut labels = Self { path: dir.join(FILE), list: Vec::new(), unreadable: None };
        match fs::read(&labels.path) {
            Ok(content) => {
                let (list, problem) = read(&content);
                labels.list = list;
                if let Some(problem) = problem {
                    labels.set_aside(&content, &problem);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let file = shown_path(&labels.path);
                warn!(
                    problem = %error,
                    "the list of a person's labels, {file}, cannot be read: {error}; rounds do without them, and no \
                     answer is taken, until the service starts again"
                );
                labels.unreadable = Some(error.kind());
            }
        }
        labels
    }

    pub fn list(&self) -> &[Label] {
        &self.list
    }

    /// Replaces the list; at any moment the disk has either the old list or the new one.
    ///
    /// # Errors
    /// The file cannot be written, or could not be read; then the old list stays.
    pub fn replace(&mut self, list: Vec<Label>) -> io::Result<()> {
        if let Some(kind) = self.unreadable {
            return Err(io::Error::new(kind, format!("{FILE} could not be read when the service started ({kind})")));
        }
        let mut csv = csv::Writer::from_writer(Vec::new());
        csv.write_record(COLUMNS)?;
        for Label { image, class } in &list {
            csv.write_record([image.0.as_str(), class.as_deref().unwrap_or_default()])?;
        }
        coft_fs::replace(&self.path, &csv.into_inner().map_err(|error| error.into_error())?)?;
        self.list = list;
        Ok(())
    }

    fn set_aside(&mut self, content: &[u8], problem: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let aside = self.path.with_file_name(format!("{FILE}.damaged-{now}"));
        let (kept, damaged) = (self.list.len(), shown_path(&aside));
        // A copy, so that a power cut in between leaves the list where it is looked for.
        let replaced = coft_fs::replace(&aside, content).and_then(|()| self.replace(self.list.clone()));
        match replaced {
            Ok(()) => warn!(
                problem,
                labels = kept,
                "the list of a person's labels is damaged: {problem}; it is {damaged} now, and {kept} of its labels are kept"
            ),
            Err(error) => {
                warn!(problem, "the list of a person's labels is damaged: {problem}; it cannot be replaced: {error}");
            }
        }
    }
}

/// The labels that can be read, and what is wrong with the first line that is not one.
fn read(content: &[u8]) -> (Vec<Label>, Option<String>) {
    let (mut list, mut problem, mut known) = (Vec::new(), None, HashSet::new());
    let mut csv = csv::ReaderBuilder::new().flexible(true).from_reader(content);
    match csv.headers() {
        Ok(header) if header.iter().eq(COLUMNS) => {}
        Ok(_) => problem = Some("the first line does not name the columns".to_owned()),
        Err(error) => problem = Some(error.to_string()),
    }
    for row in csv.records() {
        let label = row.map_err(|error| error.to_string()).and_then(|row| {
            let line = row.position().map_or(0, csv::Position::line);
            label(&row).ok_or_else(|| format!("line {line} is no label"))
        });
        match label {
            Ok(label) if known.insert(label.image.clone()) => list.push(label),
            Ok(label) => problem = problem.or_else(|| Some(format!("the image {} is labelled twice", label.image))),
            Err(why) => problem = problem.or(Some(why)),
        }
    }
    (list, problem)
}

fn label(row: &csv::StringRecord) -> Option<Label> {
    let mut fields = row.iter();
    let (Some(image), Some(class), None) = (fields.next(), fields.next(), fields.next()) else { return None };
    let is_id = image.len() == ID_LENGTH && image.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_id.then(|| Label { image: ImageId(image.to_owned()), class: (!class.is_empty()).then(|| class.to_owned()) })
}
