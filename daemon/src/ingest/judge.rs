//! Which program, with which settings, has looked at the refused files: another one may accept them.

use super::{Ingest, Settings};
use bytesize::ByteSize;
use std::fs;
use tracing::debug;

/// File beside the pixels that records which program and settings last looked at refused files.
const JUDGE: &str = "judge";

impl Ingest {
    /// Whether files that were refused may be accepted now, because another program, or the same with other settings,
    /// has refused them.
    pub async fn judges_otherwise(&self) -> bool {
        let path = self.shared.pixels.join(JUDGE);
        tokio::fs::read_to_string(path).await.ok() != Some(self.judge())
    }

    /// What a refusal depends on besides the file: the program, its settings, and a library that may be installed
    /// later.
    fn judge(&self) -> String {
        format!("{} libheif {}", self.shared.judge, coft_vision::has_libheif())
    }

    /// Records that this program with these settings has looked at the refused files. If that cannot be written, they
    /// are looked at again at the next start.
    pub async fn note_judge(&self) {
        let ingest = self.clone();
        let note = move || {
            let (pixels, judge) = (&ingest.shared.pixels, ingest.judge());
            fs::create_dir_all(pixels)?;
            coft_fs::replace(&pixels.join(JUDGE), judge.as_bytes())
        };
        let noted = tokio::task::spawn_blocking(note).await.expect("writing a file neither panics nor is aborted");
        if let Err(error) = noted {
            debug!(%error, "refused files are looked at again at the next start: {error}");
        }
    }
}

/// Identifies the program and its settings.
pub(super) fn program_and_settings(settings: &Settings, decode_memory: ByteSize) -> String {
    let program = fs::metadata("/proc/self/exe").ok().map(|program| (program.len(), program.modified().ok()));
    format!("{program:?} {settings:?} {decode_memory:?}")
}
