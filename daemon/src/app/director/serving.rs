//! The active generation is made to answer: when the service starts, and again and again where it cannot be loaded.

use super::{Director, blocking};
use crate::control::Snapshot;
use crate::systemd;
use crate::telemetry::events;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{error, info};

/// How long after the active generation could not be loaded it is tried again: its library may have been installed by then, or
/// the GPU be free. 1 min [choice].
const RETRY: Duration = Duration::from_secs(60);

impl Director {
    /// Lets the active generation answer requests before the service does, if there is one that can.
    pub async fn serve_active(&mut self) {
        let court = self.court.clone();
        systemd::status("starting: the active generation is loaded");
        systemd::while_starting(blocking(move || court.serve_active())).await;
        self.tried_to_serve();
        if !self.court.is_current(&self.workshop.base) {
            self.zero_shot_at = Some(Instant::now());
        }
    }

    /// Tries again, if it is time to; the loop hears when that is done.
    pub(super) fn look_at_serving(&mut self) {
        if self.serve_at.take_if(|at| *at <= Instant::now()).is_none() {
            return;
        }
        if self.board.snapshot().serving_problem.is_empty() {
            return; // another one was promoted meanwhile
        }
        let (court, tried) = (self.court.clone(), self.tried.sender.clone());
        tokio::spawn(async move {
            blocking(move || court.serve_again()).await;
            // A service that has gone needs no news.
            let _ = tried.send(()).await;
        });
    }

    /// Tells what has become of the active generation, and when it is tried again.
    pub(super) fn tried_to_serve(&mut self) {
        let known = self.board.snapshot().serving_problem.clone();
        self.show_generations();
        let Snapshot { active, serving_problem: problem, provider, .. } = self.board.snapshot();
        let Some(generation) = active else { return info!("no generation serves yet; the first round makes one") };
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
        self.serve_at = Some(Instant::now() + RETRY);
        if *problem != known {
            error!(
                message_id = events::NOT_SERVING,
                coft.generation = generation.0,
                problem,
                "{problem}; loading is tried again every minute"
            );
        }
    }
}

#[cfg(test)]
mod tests;
