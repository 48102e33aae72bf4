//! A batch socket: images come one a message and are answered as they are ready.

use super::classifier::{named, unanswered};
use super::clients::Caller;
use crate::serve::{Classification, Classifier, Options, ServeError};
use coft_dbus::stream::{self, Outcome, Served, StreamAnswer, StreamError, StreamLabels, WINDOW};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use tokio::task::JoinSet;
use tracing::debug;

/// Opens a socket that is served until the client closes its end, or leaves the bus; answers that end.
pub fn open(classifier: Classifier, options: Options, caller: Caller) -> Result<OwnedFd, ServeError> {
    let place = classifier.batch_place()?;
    let (ours, theirs) = stream::pair().map_err(|error| ServeError::Internal(error.to_string()))?;
    tokio::spawn(async move {
        let _place = place;
        match caller.while_there(serve(&ours, &classifier, &options)).await {
            Some(Err(error)) if !stream::is_gone(&error) => debug!("a batch socket was closed: {error}"),
            _ => {}
        }
    });
    Ok(theirs)
}

async fn serve(socket: &Served, classifier: &Classifier, options: &Options) -> io::Result<()> {
    // Tasks go on while the client does not read, and so hold no place longer than their image takes.
    let mut under_way = JoinSet::new();
    let mut more = true;
    while more || !under_way.is_empty() {
        tokio::select! {
            // None where nothing is under way: the other branch then goes on alone.
            Some(answer) = under_way.join_next() => {
                socket.answer(&answer.expect("answering neither panics nor is aborted")).await?;
            }
            request = socket.request(), if more && under_way.len() < WINDOW => match request {
                Ok(Some((request, image))) => {
                    under_way.spawn(answer(classifier.clone(), options.clone(), request.id, image));
                }
                Ok(None) => more = false,
                // What is due is answered still.
                Err(error) if error.kind() == ErrorKind::InvalidData => more = false,
                Err(error) => return Err(error),
            },
        }
    }
    Ok(())
}

async fn answer(classifier: Classifier, options: Options, id: u64, image: Option<OwnedFd>) -> StreamAnswer {
    let classified = match image {
        Some(image) => classifier.classify_in_batch(image, &options).await,
        None => Err(ServeError::BadImage("no descriptor came with the request; send an opened file with it".into())),
    };
    let outcome = match classified {
        Ok(classified) => Outcome::Labels(labels(classified)),
        Err(error) => {
            let (name, message) = named(unanswered(error));
            Outcome::Error { error: StreamError { name, message } }
        }
    };
    StreamAnswer { id, outcome }
}

fn labels(classified: Classification) -> StreamLabels {
    StreamLabels {
        labels: classified.labels,
        none_of_these: classified.none_of_these,
        embedding: classified.embedding,
        generation: classified.generation.0,
        queue_seconds: classified.queue.as_secs_f64(),
        decode_seconds: classified.decode.as_secs_f64(),
        inference_seconds: classified.inference.as_secs_f64(),
        provider: classified.provider.name().to_owned(),
    }
}
