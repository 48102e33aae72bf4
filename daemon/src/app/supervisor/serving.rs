//! Makes the active generation answer: when the service starts, and again and again if it cannot be loaded.

use super::Channel;
use crate::app::promoter::Promoter;
use crate::app::status_publisher::StatusPublisher;
use crate::control::Snapshot;
use crate::telemetry::events;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{Instrument, error, info};

/// How long after a failed attempt the active generation is loaded again: by then its library may have been installed,
/// or the GPU may be free. 1 min [choice].
const RETRY: Duration = Duration::from_secs(60);

/// Loads the active generation in tasks of its own, so that a load that hangs does not block the loop.
pub struct Serving {
    promoter: Promoter,
    /// Gets a message when an attempt has ended.
    tried: Channel<()>,
    /// When the next attempt is due, after one that failed.
    again_at: Option<Instant>,
}

impl Serving {
    pub fn new(promoter: Promoter) -> Self {
        Self { promoter, tried: Channel::new(1), again_at: None }
    }

    /// Begins to load the active generation, if there is one; [`Serving::tried`] is ready when the attempt has ended.
    pub fn begin(&self, publisher: &mut StatusPublisher) {
        self.promoter.announce_loading();
        self.show(publisher);
        publisher.loading(publisher.snapshot().active);
        self.attempt(Promoter::serve_active);
    }

    /// Tries again if the next attempt is due.
    pub fn look(&mut self, publisher: &StatusPublisher) {
        if self.again_at.take_if(|at| *at <= Instant::now()).is_none() {
            return;
        }
        if publisher.snapshot().serving_problem.is_empty() {
            return; // another generation was promoted meanwhile
        }
        self.attempt(Promoter::serve_again);
    }

    pub fn again_at(&self) -> Option<Instant> {
        self.again_at
    }

    fn attempt(&self, load: fn(&Promoter)) {
        let (promoter, tried) = (self.promoter.clone(), self.tried.sender.clone());
        tokio::spawn(
            async move {
                let work = promoter.clone();
                if let Err(error) = tokio::task::spawn_blocking(move || load(&work)).await {
                    promoter.loading_failed(error.to_string());
                }
                // If the service has ended, nobody needs the message.
                let _ = tried.send(()).await;
            }
            .in_current_span(),
        );
    }

    /// Ready when an attempt has ended.
    pub async fn tried(&mut self) {
        self.tried.receiver.recv().await;
    }

    /// Publishes and logs the outcome of an attempt, and schedules another one if it failed.
    pub fn tell(&mut self, publisher: &mut StatusPublisher) {
        let known = publisher.snapshot().serving_problem.clone();
        self.show(publisher);
        publisher.loading(None);
        let Snapshot { active, serving_problem: problem, provider, .. } = publisher.snapshot();
        let Some(generation) = active else { return info!("no generation serves yet; the first job makes one") };
        if problem.is_empty() {
            let number = generation.0;
            info!(
                message_id = events::SERVING,
                coft.generation = number,
                provider,
                "generation {number} serves on {provider}"
            );
            return;
        }
        self.again_at = Some(Instant::now() + RETRY);
        if *problem != known {
            error!(
                message_id = events::NOT_SERVING,
                coft.generation = generation.0,
                problem,
                "{problem}; loading is tried again every minute"
            );
        }
    }

    fn show(&self, publisher: &mut StatusPublisher) {
        let (generations, running) = self.promoter.generations();
        publisher.serving(generations, running);
    }
}

#[cfg(test)]
pub(super) mod tests;
