//! `coftctl import`.

use super::wait;
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::service::Service;
use coft_core::manifest::{MANIFEST, STATED, is_of_a_bundle};
use coft_core::shown::shown_path;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

pub async fn run(service: &Service, output: Output, dir: PathBuf, force: bool) -> Result<Exit, CliError> {
    let unusable = |why: String| CliError::Usage(format!("{}: {why}", shown_path(&dir)));
    let files = open(&dir).map_err(|error| unusable(error.to_string()))?;
    if let Some(missing) = [MANIFEST].iter().chain(&STATED).find(|name| files.iter().all(|(file, _)| file != *name)) {
        let advice = "import a directory that coftctl export --format onnx has written";
        return Err(unusable(format!("there is no {missing} in it; {advice}")));
    }
    let round = service.import(&files, force).await?;
    wait::run(service, output, round).await
}

fn open(dir: &Path) -> std::io::Result<Vec<(String, OwnedFd)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_of_a_bundle(&name) {
            files.push((name, File::open(entry.path())?.into()));
        }
    }
    Ok(files)
}
