//! What changes with the configuration and with what it names: a reload, and files that were missing.

use super::{Supervisor, ZERO_SHOT_RETRY, blocking};
use crate::app::setup::{Findings, Setup};
use crate::config::Config;
use crate::control::CommandError;
use crate::model;
use coft_core::job::Trigger;
use std::sync::Arc;
use tokio::time::Instant;
use tracing::warn;

impl Supervisor {
    /// Applies a configuration that was read again; a round that runs keeps the settings that it was started with.
    pub(super) async fn configure(
        &mut self,
        config: Result<Box<Config>, String>,
    ) -> Result<Vec<&'static str>, CommandError> {
        let edited = match &config {
            Ok(config) => {
                let (settings, base) = (config.classifier.clone(), Arc::clone(&self.training.base));
                blocking(move || model::edited(&settings, &base)).await
            }
            Err(_) => Vec::new(),
        };
        let outcome = config.and_then(|config| {
            // If the classes' files were edited, the thresholds are for the new classes, with which the classifier
            // starts anew.
            if edited.is_empty() {
                model::check_thresholds(&config.classifier, &self.training.base.classes)
                    .map_err(|error| error.to_string())?;
            }
            Ok(config)
        });
        let outcome = outcome.map(|config| {
            self.training.configure(&config);
            self.lifecycle.require(config.round.minimum_images);
            self.promoter.decide_by(config.classifier.thresholds.clone());
            // The task that follows the old set-up ends as soon as nobody receives from it.
            self.setup = Setup::new(&config, &self.training.base, &self.training.catalog).follow();
            self.schedule = config.schedule;
            (self.look_at_room, self.not_before) = (Instant::now(), None);
            edited.into_iter().map(|(setting, _)| setting).collect()
        });
        self.publisher.not_reloaded(outcome.clone().err());
        outcome.map_err(CommandError::NotReloaded)
    }

    /// The findings about the set-up have changed: rounds may have to wait for something, or not any more.
    pub(super) async fn found(&mut self, findings: Findings) {
        let known = std::mem::replace(&mut self.findings, findings);
        self.findings.log_after(&known);
        self.publisher.setup(self.findings.to_string());
        let wait = self.findings.hold(Trigger::ZeroShot);
        let import = ", or take in a generation of another service: coftctl import DIR";
        let import = if self.findings.serves_only { import } else { "" };
        self.promoter.waiting(wait.as_ref().map(|why| format!("no generation serves yet: {why}{import}")));
        self.look_at_room = Instant::now();
        if known.hold(Trigger::ZeroShot).is_some() && wait.is_none() {
            self.zero_shot_at = self.zero_shot_at.map(|_| Instant::now());
            self.zero_shot_pause = ZERO_SHOT_RETRY;
        }
        if self.findings.catalog != known.catalog {
            self.save_history().await;
        }
    }

    /// Writes the known jobs into a catalogue that has replaced a damaged one.
    async fn save_history(&self) {
        for job in self.history.jobs() {
            if let Err(error) = self.training.catalog.save_job(job).await {
                return warn!(problem = %error, "the history of jobs cannot be written down again: {error}");
            }
        }
    }
}
