//! The rows of the CSV file, as spreadsheets write them.

use super::Problem;
use coft_core::text::{self, TextError};
use csv::ByteRecord;
use std::borrow::Cow;

/// Delimiters that spreadsheets write between fields.
const DELIMITERS: [u8; 4] = *b",;\t|";

/// A line of the file: its number, path, class and source, if it names one.
pub(super) type Row = (u64, Vec<u8>, Vec<u8>, Option<Vec<u8>>);

/// The rows below the header. Paths may contain any bytes, as file names do.
pub(super) fn rows(content: &[u8]) -> Result<Vec<Row>, Problem> {
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
