//! Lines of bytes, each with a bounded length, whatever a program writes.

use std::fmt::Write;
use std::io;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// Reads lines. A line of more than `limit` bytes is returned as soon as `limit` bytes are there; the rest of it is
/// discarded.
#[derive(Debug)]
pub struct Lines<R> {
    reader: BufReader<R>,
    limit: usize,
    line: Line,
    /// Whether the current line was already returned, and its rest is to be discarded.
    passing_over: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Line {
    pub bytes: Vec<u8>,
    /// Whether the line was longer than the limit.
    pub cut: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub fn new(reader: R, limit: usize) -> Self {
        Self { reader: BufReader::new(reader), limit, line: Line::default(), passing_over: false }
    }

    /// The next line; `None` at the end. If the future is dropped before it is ready, no byte is lost.
    ///
    /// # Errors
    /// Reading fails.
    pub async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let found = self.reader.fill_buf().await?;
            if found.is_empty() {
                return Ok(Some(std::mem::take(&mut self.line)).filter(|line| !line.bytes.is_empty()));
            }
            let end = found.iter().position(|byte| *byte == b'\n');
            let part = &found[..end.unwrap_or(found.len())];
            if !self.passing_over {
                let kept = part.len().min(self.limit - self.line.bytes.len());
                self.line.cut = kept < part.len();
                self.line.bytes.extend_from_slice(&part[..kept]);
            }
            let came = self.passing_over;
            self.passing_over = end.is_none() && (came || self.line.cut);
            let used = end.map_or(found.len(), |end| end + 1);
            self.reader.consume(used);
            if !came && (end.is_some() || self.line.cut) {
                return Ok(Some(std::mem::take(&mut self.line)));
            }
        }
    }
}

impl Line {
    /// The line as text for a log. Bytes that are not UTF-8 are replaced, and control characters, which could move a
    /// terminal's cursor, are escaped.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for c in String::from_utf8_lossy(&self.bytes).trim_end_matches('\r').chars() {
            match c.is_control() && c != '\t' {
                true => write!(text, "{}", c.escape_default()).expect("a string takes everything"),
                false => text.push(c),
            }
        }
        if self.cut {
            text.push('…');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> Vec<String> {
        let mut lines = Lines::new(bytes, 8);
        let mut all = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            all.push(line.text());
        }
        all
    }

    #[tokio::test]
    async fn whatever_is_written_comes_in_lines() {
        assert_eq!(read(b"one\n\ntwo").await, ["one", "", "two"]);
        assert_eq!(read(b"\xff\xfe\nok\r\n").await, ["\u{fffd}\u{fffd}", "ok"]);
        assert_eq!(read(b"12345678\n1234567890\nnext\n").await, ["12345678", "12345678…", "next"]);
        let long = [&[b'x'; 100_000][..], b"\nnext"].concat();
        assert_eq!(read(&long).await, ["xxxxxxxx…", "next"]);
        assert_eq!(read(b"a\x1b[2J\n").await, ["a\\u{1b}[2J"]);
        assert_eq!(read(&[b'x'; 100_000]).await, ["xxxxxxxx…"], "a line without an end");
        assert_eq!(read(b"").await, [""; 0]);
    }
}
