//! What is asked of the service beside its main loop, since it waits for the disk and for other programs: to read the
//! configuration again, and to look at what the service needs around it.

use super::diagnosis::{self, Surroundings};
use crate::config::{ConfigFile, Loaded};
use crate::control::{Check, Command, Errand, Refused, Snapshot};
use crate::room::Reserve;
use crate::systemd;
use crate::telemetry::events;
use coft_core::shown::{shown, shown_path};
use std::future::pending;
use std::sync::Arc;
use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::{error, info};

pub struct Errands {
    pub file: ConfigFile,
    /// What is in force.
    pub loaded: Loaded,
    /// To the one who uses it.
    pub commands: mpsc::Sender<Command>,
    pub snapshot: watch::Receiver<Snapshot>,
    pub reserve: Reserve,
}

/// A look at the surroundings that is under way, and who waits for what it finds.
#[derive(Default)]
struct Look {
    task: Option<JoinHandle<Vec<Check>>>,
    waiting: Vec<oneshot::Sender<Vec<Check>>>,
}

impl Errands {
    /// Runs errands until nobody can ask any more. A hang-up is the signal to read the configuration again.
    pub async fn run(mut self, mut errands: mpsc::Receiver<Errand>, mut hangups: Signal) {
        let mut look = Look::default();
        loop {
            tokio::select! {
                errand = errands.recv() => match errand {
                    // A client that has gone does not miss its answer.
                    Some(Errand::Reload { reply }) => drop(reply.send(self.reload().await)),
                    Some(Errand::Diagnose { reply }) => {
                        // One look for all who ask meanwhile: it takes processors, and starts a program.
                        look.waiting.push(reply);
                        look.task.get_or_insert_with(|| tokio::spawn(diagnosis::look(self.surroundings())));
                    }
                    None => return,
                },
                Some(()) = hangups.recv() => drop(self.reload().await),
                found = finished(&mut look.task) => {
                    look.task = None;
                    for reply in look.waiting.drain(..) {
                        drop(reply.send(found.clone()));
                    }
                }
            }
        }
    }

    fn surroundings(&self) -> Arc<Surroundings> {
        Arc::new(Surroundings {
            file: self.file.clone(),
            loaded: self.loaded.clone(),
            snapshot: self.snapshot.borrow().clone(),
            reserve: self.reserve.bytes(),
        })
    }

    /// Reads the configuration again; what can be used at once is, or nothing of it.
    async fn reload(&mut self) -> Result<Vec<String>, Refused> {
        systemd::reloading();
        let reloaded = self.read_again().await;
        let file = shown_path(&self.file.path);
        match &reloaded {
            Ok(changed) if changed.is_empty() => {
                info!(message_id = events::RELOADED, "{file} was read again; it says what it said before");
            }
            Ok(changed) => {
                let changed = changed.join(", ");
                info!(message_id = events::RELOADED, changed, "{file} was read again; used from now on: {changed}");
            }
            Err(refused) => {
                error!(
                    message_id = events::NOT_RELOADED,
                    problem = %refused,
                    "the configuration was not reloaded and the old one stays: {refused}"
                );
            }
        }
        systemd::ready();
        reloaded
    }

    async fn read_again(&mut self) -> Result<Vec<String>, Refused> {
        let file = self.file.clone();
        let read = tokio::task::spawn_blocking(move || file.read()).await;
        let read = read.map_err(|error| Refused::Failed(error.to_string()))?;
        let outcome = read.map_err(|error| error.to_string()).and_then(|new| {
            let changed = self.loaded.changed_to(&new).map_err(|fixed| needs_restart(&fixed))?;
            Ok((new, changed))
        });
        let (reply, answer) = oneshot::channel();
        let config = outcome.as_ref().map(|(new, _)| Box::new(new.config.clone())).map_err(Clone::clone);
        let asked = self.commands.send(Command::Configure { config, reply }).await;
        asked.map_err(|_| Refused::Stopping)?;
        answer.await.map_err(|_| Refused::Stopping)??;
        let (new, changed) = outcome.map_err(Refused::NotReloaded)?;
        self.loaded = new;
        Ok(changed.iter().map(|key| shown(key.as_bytes()).into_owned()).collect())
    }
}

fn needs_restart(keys: &[String]) -> String {
    let keys: Vec<_> = keys.iter().map(|key| shown(key.as_bytes())).collect();
    let change = if keys.len() == 1 { "changes" } else { "change" };
    format!("{} {change} at a restart alone; to use the file as a whole: systemctl restart coftd", keys.join(", "))
}

/// What a look has found, once it has ended; never where none is under way.
async fn finished(look: &mut Option<JoinHandle<Vec<Check>>>) -> Vec<Check> {
    match look {
        Some(task) => task.await.unwrap_or_default(),
        None => pending().await,
    }
}
