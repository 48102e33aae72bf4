//! The objects on the bus: snapshots as objects and properties, method calls as commands.
//!
//! Objects read the latest snapshot when asked; one task follows the snapshots, adds and removes objects, and tells of the
//! properties that changed. Knows nothing of how the service does its work.

mod authorisation;
mod batch;
mod classifier;
mod clients;
mod errors;
mod generation;
mod job;
mod log;
mod manager;
mod options;
mod refusal;
mod source;

pub use refusal::explain;

use crate::answers::Answers;
use crate::control::{Command, Control, Service, ServiceCommand, Snapshot};
use crate::job_status::{DetailedState, JobStatus};
use crate::observation::Observation;
use coft_dbus::{BUS_NAME, Bus as Address, ROOT, classifier_path, generation_path, source_path};
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use zbus::fdo::{ObjectManager, Properties, RequestNameFlags};
use zbus::object_server::{Interface, SignalEmitter};
use zbus::{Connection, OwnedVariant, Variant};

#[derive(Debug, Error)]
pub enum BusError {
    #[error("bus: {0}")]
    Address(String),
    #[error("cannot reach the bus {bus}: {cause}; is it running? (another one: --bus)")]
    Connect { bus: String, cause: zbus::Error },
    #[error("the name {BUS_NAME} is taken on the bus {bus}; another coftd runs there: stop it or use another --bus")]
    Taken { bus: String },
    #[error(
        "the bus {bus} does not give out the name {BUS_NAME}: {cause}; install the policy org.coft.Coft1.conf, or run as \
         the user it names"
    )]
    Denied { bus: String, cause: zbus::Error },
    #[error("cannot export the objects: {0}")]
    Export(#[from] zbus::Error),
    #[error("the bus has gone, and with it every client; start coftd again when it is back")]
    Lost,
}

/// The service's place on the bus.
#[derive(Debug)]
pub struct Bus {
    connection: Connection,
    /// What follows the classifiers that come and go, with their snapshots and answers, and the callers that leave;
    /// each holds the connection.
    followers: [JoinHandle<()>; 2],
}

/// How long calls under way may take to end when the service stops (choice).
const FAREWELL: Duration = Duration::from_secs(5);

/// Exports every object, then takes the name: whoever sees the name sees all of them.
pub async fn start(bus: &str, service: Service) -> Result<Bus, BusError> {
    let address: Address = bus.parse().map_err(BusError::Address)?;
    let connecting = |cause| BusError::Connect { bus: bus.to_owned(), cause };
    // What the builder exports is reachable once it is built; an object server that is asked for later starts some time
    // after, and calls until then get no answer.
    let builder = address.builder().serve_at(ROOT, ObjectManager);
    let builder = builder.serve_at(ROOT, manager::Manager::new(service.clone()));
    let builder = builder.serve_at(log::PATH, log::Log::new(service.log.clone()));
    let connection = builder.build().await.map_err(connecting)?;
    let (clients, leaving) = clients::Clients::follow(&connection).await?;
    let mut shown = Classifiers {
        connection: connection.clone(),
        service_commands: service.service_commands,
        clients,
        shown: HashMap::new(),
    };
    let mut classifiers = service.classifiers;
    let first = classifiers.borrow_and_update().clone();
    shown.show(first).await?;

    match connection.request_name_with_flags(BUS_NAME, RequestNameFlags::DO_NOT_QUEUE).await {
        Ok(_) => {}
        Err(zbus::Error::NameTaken) => return Err(BusError::Taken { bus: bus.to_owned() }),
        Err(cause) => return Err(BusError::Denied { bus: bus.to_owned(), cause }),
    }
    let follower = tokio::spawn(shown.follow(classifiers));
    Ok(Bus { connection, followers: [follower, leaving] })
}

impl Bus {
    /// Ready when the bus has gone, and nobody can reach the service any more.
    pub async fn lost(&self) {
        self.connection.closed().await;
    }

    /// Gives the name back; calls under way are answered first.
    pub async fn stop(self) -> Result<(), BusError> {
        let [classifiers, leaving] = self.followers;
        classifiers.abort();
        if self.connection.is_closed() {
            return Err(BusError::Lost);
        }
        // The connection closes either way, and with it the name is free.
        let _ = self.connection.release_name(BUS_NAME).await;
        leaving.abort();
        // It ends when the last who holds the connection lets go of it.
        if tokio::time::timeout(FAREWELL, self.connection.graceful_shutdown()).await.is_err() {
            warn!("calls that were under way are cut off");
        }
        Ok(())
    }
}

/// The classifiers that are shown.
struct Classifiers {
    connection: Connection,
    service_commands: mpsc::Sender<ServiceCommand>,
    clients: clients::Clients,
    /// What follows each, by its name.
    shown: HashMap<String, Follower>,
}

/// What tells of a classifier, until it is dropped.
struct Follower {
    /// Of the classifier: another one of its name has others.
    commands: mpsc::Sender<Command>,
    /// Ends it, and takes its objects away.
    gone: CancellationToken,
    tasks: JoinSet<()>,
}

impl Classifiers {
    async fn follow(mut self, mut classifiers: watch::Receiver<Vec<Control>>) {
        while classifiers.changed().await.is_ok() {
            let next = classifiers.borrow_and_update().clone();
            if let Err(error) = self.show(next).await {
                warn!(problem = %error, "clients were not told of a classifier: {error}");
            }
        }
        // Nobody changes them any more.
        std::future::pending::<()>().await;
    }

    /// Shows these classifiers and no others.
    async fn show(&mut self, classifiers: Vec<Control>) -> zbus::Result<()> {
        let is_there = |name: &String, follower: &Follower| {
            let same = |there: &Control| there.name == *name && there.commands.same_channel(&follower.commands);
            classifiers.iter().any(same)
        };
        let gone = self.shown.extract_if(|name, follower| !is_there(name, follower));
        for (_, mut follower) in gone.collect::<Vec<_>>() {
            follower.gone.cancel();
            while follower.tasks.join_next().await.is_some() {}
        }
        for control in classifiers {
            if self.shown.contains_key(&control.name) {
                continue;
            }
            let (connection, name, mut snapshots) =
                (self.connection.clone(), control.name.clone(), control.snapshot.clone());
            let (answers, commands) = (control.answers.clone(), control.commands.clone());
            let (service_commands, clients) = (self.service_commands.clone(), self.clients.clone());
            let mut objects = Objects { connection, control, service_commands, clients, told: HashMap::new() };
            let first = snapshots.borrow_and_update().clone();
            objects.show(&Snapshot::default(), &first).await?;
            let mut follower = Follower { commands, gone: CancellationToken::new(), tasks: JoinSet::new() };
            let (gone, seen) = (follower.gone.clone(), snapshots.clone());
            let connection = self.connection.clone();
            follower.tasks.spawn(follow(objects, snapshots, first, gone.clone()));
            follower.tasks.spawn(async move {
                gone.run_until_cancelled(observe(connection, seen, answers)).await;
            });
            self.shown.insert(name, follower);
        }
        Ok(())
    }
}

async fn follow(
    mut objects: Objects,
    mut snapshots: watch::Receiver<Snapshot>,
    mut shown: Snapshot,
    gone: CancellationToken,
) {
    while let Some(Ok(())) = gone.run_until_cancelled(snapshots.changed()).await {
        let next = snapshots.borrow_and_update().clone();
        if let Err(error) = objects.show(&shown, &next).await {
            warn!(problem = %error, "clients were not told of a change: {error}");
        }
        shown = next;
    }
    gone.cancelled().await;
    if let Err(error) = objects.withdraw(&shown).await {
        warn!(problem = %error, "objects of a classifier that is gone stay on the bus: {error}");
    }
}

/// Answers that are read at a time before they are told. 100 [choice].
const TOLD_AT_ONCE: usize = 100;

/// Tells of each picture that is answered. Answers do not wait for the bus: what is told is read from those that are
/// kept, so that nothing piles up where the bus is slow. Where it does not take a signal, the next one tells by its
/// number that one is missing.
async fn observe(connection: Connection, snapshot: watch::Receiver<Snapshot>, mut answers: Answers) {
    let mut told: HashMap<PathBuf, u64> = HashMap::new();
    while let Some(reach) = answers.next().await {
        for (index, source) in reach.sources.iter().enumerate() {
            let (at_start, latest) = (reach.at_start[index], reach.latest[index]);
            let number =
                snapshot.borrow().sources.iter().find(|status| status.key == *source).map(|known| known.number);
            let (Some(number), told) = (number, told.entry(source.clone()).or_insert(at_start)) else { continue };
            // A catalogue that was damaged may have begun anew.
            *told = latest.min(*told);
            while *told < latest {
                let observations = match answers.after(source, *told, TOLD_AT_ONCE).await {
                    Ok(observations) => observations,
                    Err(error) => {
                        warn!(problem = %error, "clients were not told of answers: {error}");
                        Vec::new()
                    }
                };
                if observations.is_empty() {
                    *told = latest;
                }
                for observation in observations {
                    *told = observation.sequence;
                    if let Err(error) = tell_of(&connection, number, observation).await {
                        warn!(problem = %error, "clients were not told of an answer: {error}");
                    }
                }
            }
        }
    }
}

async fn tell_of(connection: &Connection, source: usize, observation: Observation) -> zbus::Result<()> {
    source::tell(&SignalEmitter::new(connection, source_path(source))?, observation).await
}

/// What is exported, and what was last told of it.
struct Objects {
    connection: Connection,
    control: Control,
    service_commands: mpsc::Sender<ServiceCommand>,
    clients: clients::Clients,
    /// Properties by object path.
    told: HashMap<String, HashMap<String, OwnedVariant>>,
}

impl Objects {
    /// Brings the exported objects from one snapshot to the next. What is alike in both has nothing to tell.
    async fn show(&mut self, before: &Snapshot, now: &Snapshot) -> zbus::Result<()> {
        let name = self.control.name.clone();
        for gone in before.sources.iter().filter(|b| now.sources.iter().all(|n| n.number != b.number)) {
            self.remove::<source::Source>(source_path(gone.number)).await?;
        }
        for shown in now.sources.iter().filter(|shown| !before.sources.contains(shown)) {
            let object = source::Source::new(self.control.clone(), shown.number);
            self.refresh(source_path(shown.number), object).await?;
        }
        for gone in before.generations.iter().filter(|b| now.generations.iter().all(|n| n.generation != b.generation)) {
            self.remove::<generation::Generation>(generation_path(&name, gone.generation.0)).await?;
        }
        for shown in now.generations.iter().filter(|shown| !before.generations.contains(shown)) {
            let object = generation::Generation::new(self.control.clone(), shown.generation);
            self.refresh(generation_path(&name, shown.generation.0), object).await?;
        }
        for gone in before.jobs.iter().filter(|b| now.jobs.iter().all(|n| n.id != b.id)) {
            self.remove::<job::Job>(job::path_of(&self.control, gone.id)).await?;
        }
        for shown in &now.jobs {
            let known = before.jobs.iter().find(|job| job.id == shown.id);
            if known != Some(shown) {
                self.show_job(known, shown, now).await?;
            }
        }
        let classifier =
            classifier::Classifier::new(self.control.clone(), self.service_commands.clone(), self.clients.clone());
        self.refresh(classifier_path(&name), classifier).await
    }

    /// Takes every object away.
    async fn withdraw(&mut self, shown: &Snapshot) -> zbus::Result<()> {
        let nothing = Snapshot::default();
        self.show(shown, &nothing).await?;
        self.remove::<classifier::Classifier>(classifier_path(&self.control.name)).await
    }

    async fn remove<I: Interface>(&mut self, path: String) -> zbus::Result<()> {
        self.connection.object_server().remove::<I, _>(path.as_str()).await?;
        self.told.remove(&path);
        Ok(())
    }

    async fn show_job(&mut self, known: Option<&JobStatus>, shown: &JobStatus, now: &Snapshot) -> zbus::Result<()> {
        let path = job::path_of(&self.control, shown.id);
        self.refresh(path.clone(), job::Job::new(self.control.clone(), shown.id)).await?;
        if shown.ended.is_some() && known.is_some_and(|known| known.ended.is_none()) {
            if let DetailedState::Promoted(generation) = shown.state {
                let promoted = now.generations.iter().find(|there| there.generation == generation);
                let replaces = promoted.and_then(|promoted| promoted.replaces).map_or(0, |before| before.0);
                let emitter = SignalEmitter::new(&self.connection, classifier_path(&self.control.name))?;
                classifier::Classifier::generation_activated(&emitter, generation.0, replaces).await?;
            }
            job::Job::finished(&SignalEmitter::new(&self.connection, path)?, shown.state.name().into()).await?;
        }
        Ok(())
    }

    /// Exports the object if it is new, or tells of those of its properties that are not what was told last.
    async fn refresh<I: Interface>(&mut self, path: String, object: I) -> zbus::Result<()> {
        let server = self.connection.object_server();
        let emitter = SignalEmitter::new(&self.connection, path.clone())?;
        // Read before it is exported: what changes in between is told once more rather than never.
        let properties = object.get_all(server, &self.connection, None, &emitter).await?;
        let told = match self.told.insert(path.clone(), properties.clone()) {
            Some(told) => told,
            None if server.at(path.as_str(), object).await?.is_none() => return Ok(()),
            // The method that made the object has exported it, with properties that may have changed since.
            None => HashMap::new(),
        };
        let changed: HashMap<&str, Variant<'_>> = properties
            .iter()
            .filter(|(name, value)| told.get(*name) != Some(value))
            .map(|(name, value)| Ok((name.as_str(), Variant::try_from(value)?)))
            .collect::<zbus::Result<_>>()?;
        if !changed.is_empty() {
            Properties::properties_changed(&emitter, I::name(), changed, Cow::Borrowed(&[])).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
