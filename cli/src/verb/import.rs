//! `coftctl import`.

use super::wait;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::service::Service;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Most files that are handed over: as many descriptors as the bus lets through in a message.
const MOST: usize = coft_dbus::MANY;

pub async fn run(service: &Service, output: Output, dir: PathBuf) -> Result<Exit, Failure> {
    let files = open(&dir).map_err(|error| Failure::Usage(format!("{}: {error}", dir.display())))?;
    let round = service.import(&files).await?;
    wait::run(service, output, round).await
}

fn open(dir: &Path) -> std::io::Result<Vec<(String, OwnedFd)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)?.take(MOST) {
        let entry = entry?;
        if entry.path().is_file() {
            files.push((entry.file_name().to_string_lossy().into_owned(), File::open(entry.path())?.into()));
        }
    }
    Ok(files)
}
