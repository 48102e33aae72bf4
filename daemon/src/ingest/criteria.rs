//! What a refusal depends on besides the file: the program and its settings. Refused files are looked at again once
//! these have changed.

use super::{Ingest, Settings};
use bytesize::ByteSize;
use std::fs;
use tracing::debug;

/// File beside the pixels that records the criteria by which refused files were last looked at.
const FILE: &str = "judge";

impl Ingest {
    /// Whether files that were refused may be accepted now, because another program, or the same with other settings,
    /// has refused them.
    pub async fn criteria_changed(&self) -> bool {
        let path = self.shared.pixels.join(FILE);
        tokio::fs::read_to_string(path).await.ok() != Some(self.criteria())
    }

    /// The program, its settings, and a library that may be installed later.
    fn criteria(&self) -> String {
        format!("{} libheif {}", self.shared.criteria, coft_vision::has_libheif())
    }

    /// Records that this program with these settings has looked at the refused files. If that cannot be written, they
    /// are looked at again at the next start.
    pub async fn note_criteria(&self) {
        let ingest = self.clone();
        let note = move || {
            let (pixels, criteria) = (&ingest.shared.pixels, ingest.criteria());
            fs::create_dir_all(pixels)?;
            coft_fs::replace(&pixels.join(FILE), criteria.as_bytes())
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
