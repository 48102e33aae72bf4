//! Answers the pictures that have arrived and stores the answers, with `catalog`, `ingest` and `serve`.
//!
//! The catalogue holds what is to be done, the latest picture first; nothing here is lost by a restart. Clients go
//! first: all of this is bulk work, and all sources together have one share of the service.

mod look;
mod pause;
mod worker;

use crate::answers::{Settings, Teller};
use crate::catalog::{Catalog, Standing};
use crate::ingest::Ingest;
use crate::serve::Classifier;
use coft_core::answer::StateRule;
use std::path::PathBuf;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error};
use worker::Worker;

/// A source, and whether its pictures are answered.
#[derive(Clone, Debug)]
pub struct Source {
    pub key: PathBuf,
    pub classify: bool,
    pub state: StateRule,
}

impl From<&crate::watch::Source> for Source {
    fn from(source: &crate::watch::Source) -> Self {
        Self { key: source.key(), classify: source.classify, state: source.state.clone() }
    }
}

/// What is needed to answer.
pub struct Parts {
    pub catalog: Catalog,
    pub ingest: Ingest,
    pub classifier: Classifier,
    pub sources: Vec<Source>,
    pub settings: Settings,
    /// The classifier's name.
    pub name: String,
    /// Whether answers say that a picture is none of the classes.
    pub none_of_these: bool,
    pub teller: Teller,
}

/// Status of the answers of the sources, in the order of the sources; empty at first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswersStatus {
    pub standings: Vec<Standing>,
    /// Pictures that the generation which serves has not answered again yet.
    pub waiting_again: u64,
    /// Why waiting pictures are not answered now; empty if they are.
    pub problem: String,
}

/// The task that answers pictures.
pub struct Answering {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Answering {
    pub fn start(parts: Parts) -> (Self, watch::Receiver<AnswersStatus>) {
        let stop = CancellationToken::new();
        let (status, heard) = watch::channel(AnswersStatus::default());
        let worker = Worker::new(parts, status).run();
        let stopped = stop.clone();
        // The task is dropped wherever it is: what has not been stored is answered after the next start.
        let task = tokio::spawn(
            async move {
                stopped.run_until_cancelled(worker).await;
            }
            .in_current_span(),
        );
        (Self { stop, task }, heard)
    }

    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            error!(%error, "answering pictures failed: {error}");
        }
    }
}

#[cfg(test)]
mod tests;
