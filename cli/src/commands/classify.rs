//! `coftctl classify`: several files are processed at a time, and the answers come in the order of the files. With
//! `--recursive` the images go through a batch socket, otherwise each is a call of its own.
//!
//! A file that is not an image is reported, and the others go on. An error that concerns the service (it is not
//! running, not ready, or the call is not allowed) ends the command, since it would repeat for the next file.

mod tree;

use crate::args::Classify;
use crate::error::{CliError, Exit};
use crate::image_input;
use crate::output::Output;
use crate::render;
use crate::service::Service;
use crate::view::{Answer, Classified, Labels, Problem};
use coft_core::shown::shown;
use coft_dbus::ClassifyOptions;
use futures_util::{StreamExt, stream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

/// Number of files in progress at a time, 1 to 16: enough to fill a batch of the service (choice).
const CONCURRENCY: usize = 8;

/// Pauses before a busy service is asked again, 10 s in all (choice).
const PATIENCE: [Duration; 8] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(600),
    Duration::from_millis(1000),
    Duration::from_millis(2000),
    Duration::from_millis(3000),
    Duration::from_millis(3000),
];

pub async fn run(service: &Service, output: Output, asked: Classify) -> Result<Exit, CliError> {
    if asked.embedding && !output.is_json() {
        return Err(CliError::Usage("an embedding is printed as JSON alone; add --json".into()));
    }
    let options = ClassifyOptions {
        top_k: Some(asked.top_k),
        threshold: Some(asked.threshold),
        embedding: asked.embedding.then_some(true),
        ..ClassifyOptions::default()
    };
    if asked.recursive {
        return tree::run(service, output, asked.files, options).await;
    }
    if asked.files.iter().filter(|file| file.as_os_str() == image_input::STANDARD_INPUT).count() > 1 {
        return Err(CliError::Usage("standard input holds one image; name - once".into()));
    }
    let mut answers = stream::iter(asked.files)
        .map(|file| async {
            let answer = classify(service, &file, &options).await;
            (file, answer)
        })
        .buffered(CONCURRENCY);
    let mut exit = Exit::Done;
    while let Some((file, answer)) = answers.next().await {
        exit = report(output, &file, answer)?.unwrap_or(exit);
    }
    Ok(exit)
}

/// Prints the result for a file. Returns the exit code for a failed file. Passes on errors that concern the service.
fn report(output: Output, file: &Path, answer: Result<Labels, CliError>) -> Result<Option<Exit>, CliError> {
    match answer {
        Ok(labels) => print(output, &Classified::new(file, Answer::Labels(labels))).map(|()| None),
        Err(failure) if concerns_the_file(&failure) => {
            let error = Problem { name: failure.name().into(), message: failure.to_string() };
            print(output, &Classified::new(file, Answer::Error { error }))?;
            Ok(Some(Exit::SomeInputs))
        }
        Err(failure) => Err(failure),
    }
}

fn print(output: Output, line: &Classified) -> Result<(), CliError> {
    match &line.answer {
        Answer::Error { error } if !output.is_json() => {
            anstream::eprintln!("coftctl: {}: {}", shown(line.file.as_bytes()), error.message);
            Ok(())
        }
        Answer::Error { .. } => output.line(line, String::new),
        Answer::Labels(labels) => output.line(line, || render::labels(&line.file, labels)),
    }
}

async fn classify(service: &Service, file: &Path, options: &ClassifyOptions) -> Result<Labels, CliError> {
    let image = open(file).await?;
    for wait in PATIENCE {
        match service.classify(&image, options.clone()).await {
            Err(CliError::Refused { name, .. }) if name == "Busy" => tokio::time::sleep(wait).await,
            answer => return answer,
        }
    }
    service.classify(&image, options.clone()).await
}

async fn open(file: &Path) -> Result<OwnedFd, CliError> {
    let name = file.to_owned();
    tokio::task::spawn_blocking(move || image_input::open(&name))
        .await
        .expect("opening a file does not panic and is never aborted")
        .map_err(CliError::Unreadable)
}

fn concerns_the_file(failure: &CliError) -> bool {
    match failure {
        CliError::Unreadable(_) => true,
        CliError::Refused { name, .. } => {
            matches!(name.as_str(), "BadImage" | "DeadlineExceeded" | "Failed")
        }
        _ => false,
    }
}
