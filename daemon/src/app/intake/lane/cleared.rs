//! Quarantined files that were removed while nobody watched.

use crate::catalog::Catalog;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::thread;
use tokio::sync::oneshot;
use tracing::debug;

/// Quarantined files of a source that were removed while nobody watched: they are no problem any more. The search runs
/// on a thread of its own, since their file system may not answer.
pub(super) fn cleared(catalog: Catalog, source: PathBuf, dir: PathBuf) -> oneshot::Receiver<Vec<PathBuf>> {
    let (reply, answer) = oneshot::channel();
    tokio::spawn(async move {
        // If the catalogue cannot be read, that is reported elsewhere.
        let Ok(paths) = catalog.quarantined_in(&source).await else { return };
        let has_gone =
            |path: &PathBuf| fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound);
        let look = move || {
            let gone = if dir.is_dir() { paths.into_iter().filter(has_gone).collect() } else { Vec::new() };
            // While the service stops, nobody receives this.
            let _ = reply.send(gone);
        };
        if thread::Builder::new().name("cleared".into()).spawn(look).is_err() {
            debug!("quarantined files that have gone are looked for at the next start");
        }
    });
    answer
}
