//! Whether the service still answers: a run of the model that does not end blocks every request, and only a restart of
//! the service helps.

use super::Supervisor;
use crate::serve::UnderWay;
use crate::systemd;
use crate::telemetry::events;
use std::time::Duration;
use tracing::{error, info};

/// How often [`Health::look`] is called while a run is under way.
const LOOK_INTERVAL: Duration = super::ROUTINE_INTERVAL;
/// A run that takes this long counts as hanging. 1 min [choice]: a large model on a small processor takes seconds for
/// a batch.
const LONGEST_RUN: Duration = Duration::from_secs(60);
/// The same for a run that opens its session first. 1 h [choice]: TensorRT takes minutes to build an engine.
const LONGEST_OPENING: Duration = Duration::from_secs(60 * 60);

/// Counts calls rather than time: a process that was stopped and continues has not hung meanwhile.
#[derive(Debug, Default)]
pub struct Health {
    last: Option<UnderWay>,
    looks: u32,
}

impl Health {
    /// Takes what the thread that runs the model is working on. Has to be called every second while it works.
    pub fn look(&mut self, under_way: Option<UnderWay>) {
        match under_way == self.last {
            true => self.looks = self.looks.saturating_add(1),
            false => (self.last, self.looks) = (under_way, 0),
        }
    }

    /// Why nothing is answered any more; none if all is well.
    pub fn problem(&self) -> Option<String> {
        let longest = if self.last?.is_opening { LONGEST_OPENING } else { LONGEST_RUN };
        let hangs = LOOK_INTERVAL * self.looks >= longest;
        hangs.then(|| {
            format!(
                "a run of the model has not ended for {} s; only a new start of the service mends it",
                longest.as_secs()
            )
        })
    }
}

impl Supervisor {
    /// Logs when the model has stopped answering or answers again. When it has stopped, the watchdog message is not
    /// sent any more; without a watchdog of systemd the service aborts, so that whoever started it notices.
    pub(super) fn look_at_health(&mut self) {
        let known = self.health.problem();
        self.health.look(self.promoter.under_way());
        let problem = self.health.problem();
        if problem == known {
            return;
        }
        self.show_generations();
        let Some(problem) = problem else { return info!("the run of the model has ended; images are answered again") };
        error!(message_id = events::NOT_SERVING, problem, "{problem}");
        if systemd::watchdog_interval().is_none() {
            error!("no watchdog of systemd starts the service again: it aborts");
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(batch: u64) -> Option<UnderWay> {
        Some(UnderWay { batch, is_opening: false })
    }

    /// Whether the run counts as hanging after `looks` calls with the same run.
    fn looked(health: &mut Health, under_way: Option<UnderWay>, looks: u32) -> bool {
        (0..looks).for_each(|_| health.look(under_way));
        health.problem().is_some()
    }

    /// Every request failed, but the service reported no problem and went on sending the watchdog message.
    #[test]
    fn a_run_that_does_not_end_is_noticed_and_so_is_that_it_has_ended() {
        let mut health = Health::default();
        assert!(!looked(&mut health, run(7), 60));
        assert!(looked(&mut health, run(7), 1));
        assert!(health.problem().unwrap().contains("has not ended for 60 s"));
        assert!(looked(&mut health, run(7), 100));
        assert!(!looked(&mut health, run(8), 1));
    }

    #[test]
    fn neither_many_runs_nor_none_is_a_hang() {
        let mut health = Health::default();
        assert!((0..1000).all(|batch| !looked(&mut health, run(batch), 1)));
        assert!(!looked(&mut health, None, 1000));
    }

    #[test]
    fn opening_a_session_may_take_longer() {
        let mut health = Health::default();
        let opening = Some(UnderWay { batch: 1, is_opening: true });
        assert!(!looked(&mut health, opening, 3600));
        assert!(looked(&mut health, opening, 1));
        assert!(!looked(&mut health, run(1), 1), "it is open, and the run has just begun");
    }
}
