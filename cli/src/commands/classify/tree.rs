//! Classifies directories: every image file below them, through one batch socket.

use super::{open, report};
use crate::error::{CliError, Exit, refused};
use crate::output::Output;
use crate::service::Service;
use crate::view::{Label, Labels};
use coft_core::shown::shown_path;
use coft_dbus::ClassifyOptions;
use coft_dbus::stream::{Outcome, StreamLabels};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use tokio::sync::mpsc;
use walkdir::WalkDir;

/// Extensions of the files that the service reads.
const EXTENSIONS: [&str; 12] =
    ["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif", "qoi", "heic", "heif", "avif"];

pub async fn run(
    service: &Service,
    output: Output,
    named: Vec<PathBuf>,
    options: ClassifyOptions,
) -> Result<Exit, CliError> {
    let found = tokio::task::spawn_blocking(move || below(&named)).await.expect("looking does not panic");
    let (files, unreadable) = found?;
    let mut exit = Exit::Done;
    for (name, failure) in unreadable {
        exit = report(output, &name, Err(failure))?.unwrap_or(exit);
    }
    let stream = service.open_batch(options).await?;
    let (told, mut answers) = mpsc::unbounded_channel();
    let (unread, total) = (told.clone(), files.len());

    let send = async {
        for (id, file) in files.iter().enumerate() {
            match open(file).await {
                // If the service closes the socket, the answers end too early, which is reported below.
                Ok(image) => match stream.send(id as u64, &image).await {
                    Ok(()) => {}
                    Err(_) => break,
                },
                Err(failure) => {
                    let _ = unread.send((id, Err(failure)));
                }
            }
        }
        drop(unread);
        let _ = stream.finish();
    };
    let receive = async {
        while let Ok(Some(answer)) = stream.answer().await {
            let outcome = match answer.outcome {
                Outcome::Labels(found) => Ok(labels(found)),
                Outcome::Error { error } => Err(refused(&error.name, Some(error.message))),
            };
            let _ = told.send((answer.id as usize, outcome));
        }
        drop(told);
    };
    let print = async {
        let bar = progress(total);
        let (mut early, mut next) = (BTreeMap::new(), 0);
        while let Some((id, outcome)) = answers.recv().await {
            early.insert(id, outcome);
            while let Some(outcome) = early.remove(&next) {
                exit = report(output, &files[next], outcome)?.unwrap_or(exit);
                next += 1;
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        match next == total {
            true => Ok(exit),
            false => Err(CliError::Unreachable(format!("it closed the connection after {next} of {total} images"))),
        }
    };
    // When the answers have ended, nothing more is sent.
    let work = async {
        tokio::pin!(send, receive);
        tokio::select! {
            () = &mut receive => {}
            () = &mut send => receive.await,
        }
    };
    tokio::pin!(work, print);
    // An error in printing ends the work.
    tokio::select! {
        exit = &mut print => exit,
        _ = &mut work => print.await,
    }
}

/// Paths that could not be read, with the errors.
type Unreadable = Vec<(PathBuf, CliError)>;

/// The named files and those below the named directories, sorted by name.
fn below(named: &[PathBuf]) -> Result<(Vec<PathBuf>, Unreadable), CliError> {
    let (mut files, mut unreadable) = (Vec::new(), Vec::new());
    for name in named {
        if !name.is_dir() {
            files.push(name.clone());
            continue;
        }
        for entry in WalkDir::new(name).sort_by_file_name() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    let name = error.path().unwrap_or(name).to_owned();
                    unreadable.push((name, CliError::Unreadable(error.into())));
                    continue;
                }
            };
            let extension = entry.path().extension().map(|extension| extension.to_string_lossy().to_lowercase());
            if entry.file_type().is_file() && extension.is_some_and(|found| EXTENSIONS.contains(&found.as_str())) {
                files.push(entry.into_path());
            }
        }
    }
    match files.is_empty() {
        true => {
            let named: Vec<_> = named.iter().map(|name| shown_path(name)).collect();
            Err(CliError::NotFound(format!("no image files below {}", named.join(", "))))
        }
        false => Ok((files, unreadable)),
    }
}

fn labels(found: StreamLabels) -> Labels {
    Labels {
        labels: found.labels.into_iter().map(|(label, score)| Label { label, score }).collect(),
        none_of_these: found.none_of_these,
        decision: found.decision,
        embedding: found.embedding.map(|values| values.into_iter().map(f64::from).collect()),
        generation: found.generation,
        queue_seconds: found.queue_seconds,
        decode_seconds: found.decode_seconds,
        inference_seconds: found.inference_seconds,
        provider: found.provider,
    }
}

/// A progress bar on standard error, unless the answers are printed on the same terminal.
fn progress(total: usize) -> ProgressBar {
    if io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos} of {len} images, {per_sec}, {eta} left");
    ProgressBar::new(total as u64).with_style(style.expect("a fixed template"))
}
