//! Access to coftd over D-Bus: the only module that makes calls and knows names, paths and interfaces.
//!
//! A list is read with one call to the ObjectManager, so that its parts are consistent.

mod classifiers;
mod event;
mod jobs;
mod objects;
mod polkit;
mod results;
mod review;

pub use event::Event;
pub use polkit::Action;
pub use results::Place;

use crate::error::CliError;
use crate::view::{Check, Generation, Label, LabelCount, Labels, Source, Status};
use coft_dbus::interface::{CLASSIFIER, GENERATION, MANAGER, SOURCE};
use coft_dbus::stream::Stream;
use coft_dbus::{
    BUS_NAME, Bus, ClassifierProxy, ClassifyOptions, GenerationProxy, ManagerProxy, ROOT, TIMEOUT, generation_path,
};
use coft_metrics::Metrics;
use jobs::jobs;
use objects::{Classifier, Properties};
use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use tokio::sync::OnceCell;
use zbus::fdo::{DBusProxy, ManagedObjects, ObjectManagerProxy, PropertiesProxy};
use zbus::names::{BusName, InterfaceName};
use zbus::proxy::CacheProperties;
use zbus::{Connection, Fd};

/// Timeout of a call that changes something: a person may have to type a password (choice).
const CONSENT_TIMEOUT: Duration = Duration::from_secs(120);

pub struct Service {
    connection: Connection,
    /// The classifier that was named, if any.
    wanted: Option<String>,
    /// Path of the classifier, after it was looked up.
    classifier: OnceCell<String>,
    /// The job that was read last, and its path.
    job: RefCell<Option<(u64, String)>>,
}

impl Service {
    /// `bus` is `system`, `session` or a D-Bus address.
    pub async fn connect(bus: &str, wanted: Option<String>) -> Result<Self, CliError> {
        let address: Bus = bus.parse().map_err(|error| CliError::Usage(format!("--bus: {error}")))?;
        let connection = address
            .builder()
            .method_timeout(CONSENT_TIMEOUT)
            .build()
            .await
            .map_err(|error| CliError::Unreachable(format!("no connection to the {bus} bus: {error}")))?;
        Ok(Self { connection, wanted, classifier: OnceCell::new(), job: RefCell::default() })
    }

    pub async fn status(&self) -> Result<Status, CliError> {
        let mut manager = self.properties(ROOT, MANAGER).await?;
        let mut managed = self.managed().await?;
        let mut others = classifiers::names(&managed);
        let classifier = self.choose(&mut managed)?;
        others.retain(|name| *name != classifier.name);
        let mut sources = numbered(of(&mut managed, SOURCE, &classifier.name))?;
        sources.sort_by_key(|(number, _)| *number);
        let sources =
            sources.into_iter().map(|(_, source)| objects::source(source)).collect::<Result<Vec<Source>, _>>()?;
        let last_round = jobs(&mut managed, &classifier.name)?.pop();
        Ok(Status {
            version: manager.take("Version")?,
            left_out: manager.take("LeftOut")?,
            classifier: classifier.name,
            others,
            classes: classifier.classes,
            active_generation: classifier.active_generation,
            images: classifier.images,
            quarantined: classifier.quarantined,
            setup_problem: classifier.setup_problem,
            intake_problem: classifier.intake_problem,
            serving_problem: classifier.serving_problem,
            provider: classifier.provider,
            provider_problem: classifier.provider_problem,
            round_problem: classifier.round_problem,
            round: classifier.round,
            last_round,
            next_round: classifier.next_round,
            review: self.review().await?,
            unanswered_again: classifier.unanswered_again,
            sources,
        })
    }

    /// Every generation of the classifier, oldest first.
    pub async fn generations(&self) -> Result<Vec<Generation>, CliError> {
        let mut managed = self.managed().await?;
        let classifier = self.choose(&mut managed)?;
        let generations = interface(&mut managed, GENERATION, &classifier.path);
        let mut generations = generations.into_iter().map(objects::generation).collect::<Result<Vec<_>, _>>()?;
        generations.sort_by_key(|generation| generation.generation);
        Ok(generations)
    }

    /// The name of the classifier, and the files of one of its generations, by name.
    pub async fn open_generation(&self, number: u64) -> Result<(String, HashMap<String, OwnedFd>), CliError> {
        let (classifier, generation) = self.generation_proxy(number).await?;
        let files = generation.open().await.map_err(|error| no_such_generation(error.into(), number))?;
        Ok((classifier, files.into_iter().map(|(name, file)| (name, file.into())).collect()))
    }

    /// What a generation has answered about the latest pictures.
    pub async fn count_answers(&self, number: u64) -> Result<Vec<LabelCount>, CliError> {
        let (_, generation) = self.generation_proxy(number).await?;
        let counts = prompt(generation.count_answers()).await?;
        let count = |(label, pictures, labelled, right)| LabelCount { label, pictures, labelled, right };
        Ok(counts.into_iter().map(count).collect())
    }

    /// The names of the classes.
    pub async fn classes(&self) -> Result<Vec<String>, CliError> {
        prompt(self.classifier_proxy().await?.classes()).await
    }

    pub async fn rescan(&self) -> Result<(), CliError> {
        Ok(self.manager().await?.rescan().await?)
    }

    /// Returns the settings that have changed.
    pub async fn reload(&self) -> Result<Vec<String>, CliError> {
        Ok(self.manager().await?.reload().await?)
    }

    /// The metrics as text for Prometheus; if the service does not answer, the text says so.
    pub async fn metrics(&self) -> String {
        Metrics::read(&self.connection).await.prometheus()
    }

    /// The version that the service reports.
    pub async fn version(&self) -> Result<String, CliError> {
        prompt(self.manager().await?.version()).await
    }

    /// The results of the checks that the service makes itself.
    pub async fn diagnose(&self) -> Result<Vec<Check>, CliError> {
        let checks = prompt(self.manager().await?.diagnose()).await?;
        let check = |(check, level, found, advice)| Check { check, level, found, advice };
        Ok(checks.into_iter().map(check).collect())
    }

    /// The user that the service runs as; `None` if it does not run.
    pub async fn user(&self) -> Option<u32> {
        let bus = DBusProxy::builder(&self.connection).cache_properties(CacheProperties::No).build().await.ok()?;
        let name = BusName::try_from(BUS_NAME).expect("the name of the service is one");
        prompt(bus.get_connection_unix_user(name)).await.ok()
    }

    async fn manager(&self) -> Result<ManagerProxy<'_>, CliError> {
        Ok(ManagerProxy::builder(&self.connection).cache_properties(CacheProperties::No).build().await?)
    }

    /// `image` is a regular file or a sealed memfd; its position does not matter.
    pub async fn classify(&self, image: &impl AsFd, options: ClassifyOptions) -> Result<Labels, CliError> {
        let classifier = self.classifier_proxy().await?;
        let (labels, details) = prompt(classifier.classify(Fd::from(image.as_fd()), options)).await?;
        Ok(Labels {
            labels: labels.into_iter().map(|(label, score)| Label { label, score }).collect(),
            none_of_these: details.none_of_these,
            decision: details.decision,
            embedding: details.embedding,
            generation: details.generation,
            queue_seconds: details.queue_seconds,
            decode_seconds: details.decode_seconds,
            inference_seconds: details.inference_seconds,
            provider: details.provider,
        })
    }

    /// Opens a socket for any number of images.
    pub async fn open_batch(&self, options: ClassifyOptions) -> Result<Stream, CliError> {
        let socket = prompt(self.classifier_proxy().await?.open_batch(options)).await?;
        Ok(Stream::new(socket.into())?)
    }

    async fn classifier_proxy(&self) -> Result<ClassifierProxy<'_>, CliError> {
        let path = self.classifier().await?;
        let builder = ClassifierProxy::builder(&self.connection).path(path);
        Ok(builder.cache_properties(CacheProperties::No).build().await?)
    }

    /// The name of the classifier, and a proxy of one of its generations.
    async fn generation_proxy(&self, number: u64) -> Result<(String, GenerationProxy<'_>), CliError> {
        let classifier = self.choose(&mut self.managed().await?)?.name;
        let builder = GenerationProxy::builder(&self.connection).path(generation_path(&classifier, number));
        Ok((classifier, builder.cache_properties(CacheProperties::No).build().await?))
    }

    /// The path of the classifier that is used; looked up once.
    async fn classifier(&self) -> Result<&str, CliError> {
        let find = async || Ok::<_, CliError>(self.choose(&mut self.managed().await?)?.path);
        Ok(self.classifier.get_or_try_init(find).await?)
    }

    /// The name of the classifier that was named, if one was named; an error if it does not exist.
    pub async fn named(&self) -> Result<Option<String>, CliError> {
        match self.wanted {
            Some(_) => Ok(Some(self.choose(&mut self.managed().await?)?.name)),
            None => Ok(None),
        }
    }

    fn choose(&self, managed: &mut ManagedObjects) -> Result<Classifier, CliError> {
        let all = interface(managed, CLASSIFIER, ROOT).into_iter().map(objects::classifier);
        objects::choose(all.collect::<Result<Vec<_>, _>>()?, self.wanted.as_deref())
    }

    async fn managed(&self) -> Result<ManagedObjects, CliError> {
        let proxy = ObjectManagerProxy::builder(&self.connection)
            .destination(BUS_NAME)
            .path(ROOT)
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        prompt(proxy.get_managed_objects()).await
    }

    async fn properties(&self, path: &str, interface: &'static str) -> Result<Properties, CliError> {
        let proxy = PropertiesProxy::builder(&self.connection)
            .destination(BUS_NAME)
            .path(path)
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        let interface = InterfaceName::from_static_str_unchecked(interface);
        Ok(Properties::new(path, prompt(proxy.get_all(interface)).await?))
    }
}

/// Awaits a call that needs no authorisation by a person.
async fn prompt<T, E>(call: impl Future<Output = Result<T, E>>) -> Result<T, CliError>
where
    CliError: From<E>,
{
    let late = |_| CliError::Unreachable("it did not answer in time".into());
    Ok(tokio::time::timeout(TIMEOUT, call).await.map_err(late)??)
}

fn no_such_generation(failure: CliError, number: u64) -> CliError {
    match failure {
        CliError::NoObject(_) => {
            CliError::NotFound(format!("no generation {number}\n  see which there are: coftctl generation list"))
        }
        other => other,
    }
}

/// The objects below `root` that have `interface`, taken out of `managed`.
fn interface(managed: &mut ManagedObjects, interface: &str, root: &str) -> Vec<Properties> {
    let mut found = Vec::new();
    for (path, interfaces) in managed {
        let below = path.as_str().strip_prefix(root).is_some_and(|rest| rest.starts_with('/'));
        if let Some(values) = below.then(|| interfaces.remove(interface)).flatten() {
            found.push(Properties::new(path.as_str(), values));
        }
    }
    found
}

/// The objects that have an interface and belong to a classifier, taken out of `managed`.
fn of(managed: &mut ManagedObjects, interface: &str, classifier: &str) -> Vec<Properties> {
    let mut found = Vec::new();
    for (path, interfaces) in managed {
        if interfaces.get(interface).is_some_and(|values| objects::is_of(values, classifier)) {
            let values = interfaces.remove(interface).unwrap_or_default();
            found.push(Properties::new(path.as_str(), values));
        }
    }
    found
}

fn numbered(objects: Vec<Properties>) -> Result<Vec<(u64, Properties)>, CliError> {
    objects.into_iter().map(|object| Ok((object.number()?, object))).collect()
}
