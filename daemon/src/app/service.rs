//! Commands to the service that are carried out apart from a classifier's main loop, because they wait for the disk and
//! for other programs: to read the configuration again, to change it, and to check what the service needs around it.

use super::blocking;
use super::classifiers::Classifiers;
use super::diagnosis::{self, Known, Surroundings};
use crate::config::check::{Fault, Severity, named_files};
use crate::config::edit::{EditError, Files, is_a_name};
use crate::config::{Config, ConfigError, ConfigFile, Loaded};
use crate::control::{Check, CommandError, ServiceCommand};
use crate::edit::Edit;
use crate::systemd;
use crate::telemetry::events;
use coft_core::lifecycle::Refusal;
use coft_core::shown::{shown, shown_path};
use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

pub struct ServiceLoop {
    pub file: ConfigFile,
    /// The configuration in force.
    pub loaded: Loaded,
    pub classifiers: Classifiers,
    /// Why some configured classifiers are not among them.
    pub left_out: watch::Sender<Vec<String>>,
    /// Cancelled when the service ends, so that it does not wait for a disk that hangs.
    pub ended: CancellationToken,
}

/// What a new configuration is compared with.
struct Before {
    loaded: Loaded,
    /// What each classifier waits for, by its name.
    waits: HashMap<String, String>,
}

/// A check of the surroundings that is under way, and the callers that wait for its result.
#[derive(Default)]
struct Look {
    task: Option<JoinHandle<Vec<Check>>>,
    waiting: Vec<oneshot::Sender<Vec<Check>>>,
}

impl ServiceLoop {
    /// Carries out commands until the service ends, then stops the classifiers. SIGHUP makes it read the configuration
    /// again.
    pub async fn run(mut self, mut service_commands: mpsc::Receiver<ServiceCommand>, mut hangups: Signal) {
        let (mut look, ended) = (Look::default(), self.ended.clone());
        loop {
            tokio::select! {
                command = service_commands.recv() => match command {
                    // A client that has gone does not need the reply.
                    Some(ServiceCommand::Reload { reply }) => drop(reply.send(self.reload().await)),
                    Some(ServiceCommand::Edit { edit, reply }) => drop(reply.send(self.edit(edit).await)),
                    Some(ServiceCommand::Diagnose { reply }) => {
                        // All who ask meanwhile share one check: it takes processor time, and starts a program.
                        look.waiting.push(reply);
                        look.task.get_or_insert_with(|| tokio::spawn(diagnosis::look(self.surroundings())));
                    }
                    None => break,
                },
                () = ended.cancelled() => break,
                Some(()) = hangups.recv() => drop(self.reload().await),
                found = finished(&mut look.task) => {
                    look.task = None;
                    for reply in look.waiting.drain(..) {
                        drop(reply.send(found.clone()));
                    }
                }
            }
        }
        self.classifiers.stop_all().await;
    }

    fn surroundings(&self) -> Arc<Surroundings> {
        let known = self.classifiers.running().iter().map(|running| Known {
            config: running.config.clone(),
            snapshot: running.control.snapshot.borrow().clone(),
            reserve: running.reserve.bytes(),
        });
        Arc::new(Surroundings { file: self.file.clone(), loaded: self.loaded.clone(), classifiers: known.collect() })
    }

    /// Reads the configuration again. If it needs no restart, all of it is used at once, otherwise nothing of it.
    async fn reload(&mut self) -> Result<Vec<String>, CommandError> {
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

    async fn read_again(&mut self) -> Result<Vec<String>, CommandError> {
        let (file, before) = (self.file.clone(), self.before());
        let looked = blocking(move || look_at(&file, &before, false));
        let used = match self.ended.run_until_cancelled(looked).await.ok_or(CommandError::Refused(Refusal::Stopping))? {
            Ok((new, mut changed)) => self.go_over_to(new).await.map(|edited| {
                changed.extend(edited);
                changed
            }),
            Err(problem) => Err(CommandError::NotReloaded(problem)),
        };
        if let Err(CommandError::NotReloaded(problem)) = &used {
            for name in self.names() {
                // The status of each classifier shows the problem.
                let _ = self.classifiers.configure(Err(problem.clone()), &name).await;
            }
        }
        used
    }

    /// Changes the configuration files and uses the result; if it cannot be used, the files are put back.
    async fn edit(&mut self, edit: Edit) -> Result<(), CommandError> {
        if let Edit::Remove { name, purge: true } = &edit
            && self.is_gone(name)
        {
            // Its file was removed earlier; what it had stored was to be kept then, or could not be removed.
            return self.purge(name).await;
        }
        let (file, before, asked) = (self.file.clone(), self.before(), edit.clone());
        let made = blocking(move || make(&asked, &file, &before));
        let Made { new, undo } =
            self.ended.run_until_cancelled(made).await.ok_or(CommandError::Refused(Refusal::Stopping))??;
        if let Err(refused) = self.go_over_to(new).await {
            return Err(match blocking(move || undo.write()).await {
                Ok(_) => refused,
                Err(error) => CommandError::Failed(format!("{refused}; and the change cannot be taken back: {error}")),
            });
        }
        info!(message_id = events::RELOADED, "the configuration was changed as a program has asked: {}", edit.said());
        match edit {
            Edit::Remove { name, purge: true } => self.purge(&name).await,
            _ => Ok(()),
        }
    }

    /// Whether a classifier that had a file of its own does not exist any more, but what it had stored does.
    fn is_gone(&self, name: &str) -> bool {
        let config = &self.loaded.config;
        is_a_name(name) && !self.names().iter().any(|there| there == name) && config.state_dir_of(name).is_dir()
    }

    /// Removes what a classifier that had a file of its own has stored.
    async fn purge(&self, name: &str) -> Result<(), CommandError> {
        let home = self.loaded.config.state_dir_of(name);
        let shown = shown_path(&home).into_owned();
        let removed = blocking(move || coft_fs::remove_dir_at_once(&home)).await;
        removed.map_err(|error| CommandError::Failed(format!("what was kept in {shown} cannot be removed: {error}")))
    }

    fn before(&self) -> Before {
        let waits = self.classifiers.running().iter().map(|running| {
            let problem = running.control.snapshot.borrow().setup_problem.clone();
            (running.control.name.clone(), problem)
        });
        Before { loaded: self.loaded.clone(), waits: waits.collect() }
    }

    /// Uses another configuration. The settings of rounds to come need no start. If another setting has changed, or a
    /// file that a setting names was edited, the classifier is started anew while the others go on. Returns the
    /// settings whose files were edited.
    async fn go_over_to(&mut self, new: Loaded) -> Result<Vec<String>, CommandError> {
        let (mut configured, mut starting, mut edited): (Vec<Config>, Vec<Config>, Vec<String>) = Default::default();
        for config in new.classifiers().cloned() {
            let name = config.classifier.name.clone();
            let before = self.loaded.classifiers().find(|known| known.classifier.name == name);
            if !before.is_some_and(|before| before.with_changes_of(&config) == config) {
                starting.push(config);
                continue;
            }
            // First what can be refused: if it is, nothing of the new configuration is used.
            match self.classifiers.configure(Ok(config.clone()), &name).await {
                Ok(files) if files.is_empty() => configured.push(config),
                Ok(files) => {
                    edited.extend(files.iter().map(|key| format!("{}{key}", config.prefix())));
                    configured.push(config.clone());
                    starting.push(config);
                }
                Err(refused) => {
                    self.take_back(&configured).await;
                    return Err(refused);
                }
            }
        }
        let stays = |name: &String| new.classifiers().any(|config| config.classifier.name == *name);
        for gone in self.names().into_iter().filter(|name| !stays(name)) {
            self.classifiers.stop(&gone).await;
        }
        for config in starting {
            self.classifiers.start_anew(config).await;
        }
        self.left_out.send_replace(new.unusable.iter().map(ToString::to_string).collect());
        self.loaded = new;
        Ok(edited)
    }

    /// Returns classifiers that have the new configuration already to the configuration in force.
    async fn take_back(&mut self, configured: &[Config]) {
        for name in configured.iter().map(|config| &config.classifier.name) {
            let before = self.loaded.classifiers().find(|known| known.classifier.name == *name).cloned();
            if let Some(before) = before {
                // This configuration was in force, so it fits.
                let _ = self.classifiers.configure(Ok(before), name).await;
            }
        }
    }

    fn names(&self) -> Vec<String> {
        self.classifiers.running().iter().map(|running| running.control.name.clone()).collect()
    }
}

/// A change that was written.
struct Made {
    new: Loaded,
    undo: Files,
}

/// Writes a change and reads the resulting configuration; if that cannot be used, the change is taken back.
fn make(edit: &Edit, file: &ConfigFile, before: &Before) -> Result<Made, CommandError> {
    let refused = |error: EditError| match error {
        EditError::Invalid(problem) => CommandError::Invalid(problem),
        error @ EditError::Write { .. } => CommandError::Failed(error.to_string()),
    };
    // The change is made to the files as they are now, even if they were edited since.
    let now = file.read().map_err(|error| CommandError::NotReloaded(error.to_string()))?;
    let undo = edit.files(file, &now).and_then(Files::write).map_err(refused)?;
    match look_at(file, before, true) {
        Ok((new, _)) => Ok(Made { new, undo }),
        Err(problem) => Err(match undo.write() {
            Ok(_) => CommandError::Invalid(problem),
            Err(error) => CommandError::Failed(format!("{problem}; and the change cannot be taken back: {error}")),
        }),
    }
}

/// Reads the configuration again, with every file that it names; returns it with the settings that have changed. With
/// `may_leave_out`, files of classifiers that were left out before may still be faulty, because the change is to
/// something else.
fn look_at(file: &ConfigFile, before: &Before, may_leave_out: bool) -> Result<(Loaded, Vec<String>), String> {
    let new = file.read().map_err(|error| error.to_string())?;
    let known = |error: &ConfigError| before.loaded.unusable.iter().any(|before| before.path() == error.path());
    if let Some(error) = new.unusable.iter().find(|error| !may_leave_out || !known(error)) {
        return Err(error.to_string());
    }
    let changed = before.loaded.changed_to(&new).map_err(|fixed| needs_restart(&fixed))?;
    for config in new.classifiers() {
        // The files that a classifier needs have to exist, except those that it waits for already.
        let waits = before.waits.get(&config.classifier.name).map(String::as_str).unwrap_or_default();
        let mut faults = named_files(config, false).into_iter();
        let is_new = |fault: &Fault| {
            let is_needed = fault.severity == Severity::Error && fault.key.to_string().starts_with("classifier.");
            is_needed && !waits.contains(&fault.message)
        };
        if let Some(fault) = faults.find(is_new) {
            return Err(format!("{}{}: {}", config.prefix(), fault.key, fault.message));
        }
    }
    let changed = changed.iter().map(|key| shown(key.as_bytes()).into_owned()).collect();
    Ok((new, changed))
}

fn needs_restart(keys: &[String]) -> String {
    let keys: Vec<_> = keys.iter().map(|key| shown(key.as_bytes())).collect();
    let change = if keys.len() == 1 { "changes" } else { "change" };
    format!("{} {change} at a restart alone; to use the file as a whole: systemctl restart coftd", keys.join(", "))
}

/// The result of a check, once it has ended; never ready if none is under way.
async fn finished(look: &mut Option<JoinHandle<Vec<Check>>>) -> Vec<Check> {
    match look {
        Some(task) => task.await.unwrap_or_default(),
        None => pending().await,
    }
}
