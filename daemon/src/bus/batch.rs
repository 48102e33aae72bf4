//! A batch socket: images come one a message and are answered as they are ready.

use super::clients::Caller;
use super::errors::{named, unanswered};
use crate::serve::{Classification, Classifier, Options, ServeError};
use coft_dbus::stream::{self, Outcome, Served, StreamAnswer, StreamError, StreamLabels, WINDOW};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::debug;

/// How long a socket stays open over which nothing comes, or whose client does not take the answers that are due. 10
/// min [choice].
const IDLE: Duration = Duration::from_secs(10 * 60);

/// Opens a socket that is served until the client closes its end, leaves the bus, or is silent for too long; answers
/// that end.
pub fn open(classifier: Classifier, options: Options, caller: Caller) -> Result<OwnedFd, ServeError> {
    let place = classifier.batch_place(options.party)?;
    let (ours, theirs) = stream::pair().map_err(|error| ServeError::Internal(error.to_string()))?;
    tokio::spawn(async move {
        let _place = place;
        match caller.while_there(serve(&ours, &classifier, &options, IDLE)).await {
            Some(Err(error)) if !stream::is_gone(&error) => debug!("a batch socket was closed: {error}"),
            _ => {}
        }
    });
    Ok(theirs)
}

async fn serve(socket: &Served, classifier: &Classifier, options: &Options, idle: Duration) -> io::Result<()> {
    // Tasks go on while the client does not read, and so hold no place longer than their image takes.
    let mut under_way = JoinSet::new();
    let mut more = true;
    while more || !under_way.is_empty() {
        tokio::select! {
            // None where nothing is under way: the other branch then goes on alone.
            Some(answer) = under_way.join_next() => {
                let answer = answer.expect("answering neither panics nor is aborted");
                timeout(idle, socket.answer(&answer)).await.map_err(|_| ErrorKind::TimedOut)??;
            }
            // Images under way come to their end by themselves.
            () = sleep(idle), if more && under_way.is_empty() => more = false,
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
        decision: classified.decision,
        embedding: classified.embedding,
        generation: classified.generation.0,
        queue_seconds: classified.queue.as_secs_f64(),
        decode_seconds: classified.decode.as_secs_f64(),
        inference_seconds: classified.inference.as_secs_f64(),
        provider: classified.provider.name().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode_budget::DecodeBudget;
    use crate::serve::Settings;
    use coft_dbus::stream::Stream;

    /// One client that sent nothing held its socket for ever.
    #[tokio::test]
    async fn a_socket_over_which_nothing_comes_is_closed() {
        let (classifier, _controller) = Classifier::start(Settings::default(), DecodeBudget::default());
        let (ours, theirs) = stream::pair().unwrap();
        serve(&ours, &classifier, &Options::default(), Duration::from_millis(1)).await.unwrap();
        drop(ours);
        assert!(Stream::new(theirs).unwrap().answer().await.unwrap().is_none(), "its end is closed, too");
    }

    /// Answers that nobody took did the same.
    #[tokio::test]
    async fn a_socket_whose_answers_nobody_takes_is_closed() {
        let (classifier, _controller) = Classifier::start(Settings::default(), DecodeBudget::default());
        let (ours, theirs) = stream::pair().unwrap();
        let client = Stream::new(theirs).unwrap();
        let image = tempfile::tempfile().unwrap();
        let options = Options::default();
        let send = async {
            let mut id = 0;
            while client.send(id, &image).await.is_ok() {
                id += 1;
            }
        };
        let served = tokio::select! {
            served = serve(&ours, &classifier, &options, Duration::from_secs(2)) => served,
            () = send => unreachable!("the service reads on until it closes the socket"),
        };
        assert_eq!(served.unwrap_err().kind(), ErrorKind::TimedOut);
    }
}
