//! Access to coftd over D-Bus: the only module that makes calls and knows names, paths and interfaces.
//!
//! A list is read with one call to the ObjectManager, so that its parts are consistent.

mod classifiers;
mod event;
mod objects;
mod results;

pub use event::Event;
pub use results::Place;

use crate::error::CliError;
use crate::view::{Check, Generation, Job, Label, Labels, Review, ReviewItem, Source, Status};
use coft_core::job::JobName;
use coft_dbus::interface::{CLASSIFIER, GENERATION, JOB, MANAGER, SOURCE};
use coft_dbus::stream::Stream;
use coft_dbus::{
    BUS_NAME, Bus, ClassifierProxy, ClassifyOptions, GenerationProxy, ImportOptions, JobProxy, ManagerProxy, ROOT,
    ReviewOptions, RoundOptions, TIMEOUT, generation_path,
};
use coft_metrics::Metrics;
use nix::unistd::User;
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

    /// Every job of the classifier that the service knows, oldest first.
    pub async fn jobs(&self) -> Result<Vec<Job>, CliError> {
        let mut managed = self.managed().await?;
        let classifier = self.choose(&mut managed)?;
        jobs(&mut managed, &classifier.name)
    }

    pub async fn job(&self, number: u64) -> Result<Job, CliError> {
        let known = self.job.borrow().clone().filter(|(known, _)| *known == number);
        let properties = match known {
            Some((_, path)) => self.properties(&path, JOB).await.map_err(|failure| no_such_job(failure, number))?,
            None => self.find_job(number).await?,
        };
        objects::job(properties)
    }

    /// The object of a job. Each classifier numbers its own jobs, so all of them are searched.
    async fn find_job(&self, number: u64) -> Result<Properties, CliError> {
        let mut managed = self.managed().await?;
        let classifier = self.choose(&mut managed)?.name;
        let jobs = of(&mut managed, JOB, &classifier);
        let job = jobs.into_iter().find(|job| job.number().is_ok_and(|found| found == number));
        let job = job.ok_or_else(|| no_job(number))?;
        self.job.replace(Some((number, job.path().to_owned())));
        Ok(job)
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

    /// Starts a round. Returns its number; the round runs on by itself.
    pub async fn start_round(&self, seed: Option<u64>) -> Result<u64, CliError> {
        let classifier = self.classifier_proxy().await?;
        number_of(classifier.start_round(RoundOptions { seed }).await.map_err(one_at_a_time)?.as_str())
    }

    /// Imports a generation; with `force`, whatever its answers are. Returns the number of the job, which runs on by
    /// itself.
    pub async fn import(&self, files: &[(String, OwnedFd)], force: bool) -> Result<u64, CliError> {
        let classifier = self.classifier_proxy().await?;
        let files = files.iter().map(|(name, file)| (name.as_str(), Fd::from(file))).collect();
        let options = ImportOptions { force: force.then_some(true) };
        number_of(classifier.import_generation(files, options).await.map_err(one_at_a_time)?.as_str())
    }

    /// Activates an earlier generation. Returns the number of the job, or `None` if the generation is active already.
    pub async fn activate(&self, number: u64) -> Result<Option<u64>, CliError> {
        let (_, generation) = self.generation_proxy(number).await?;
        let job = generation.activate().await.map_err(|error| no_such_generation(one_at_a_time(error), number))?;
        if job.as_str() == "/" { Ok(None) } else { number_of(job.as_str()).map(Some) }
    }

    /// The current review, or the last one while the same generation has been active.
    pub async fn review(&self) -> Result<Option<Review>, CliError> {
        objects::review(prompt(self.classifier_proxy().await?.review()).await?)
    }

    /// At most `limit` pictures that a person is asked about, and the state of the review.
    pub async fn review_items(&self, limit: u32) -> Result<(Vec<ReviewItem>, Review), CliError> {
        let (items, review) = self.classifier_proxy().await?.review_items(limit).await?;
        let item = |(image, item): (String, coft_dbus::ReviewItem)| {
            let coft_dbus::ReviewItem { path, present, candidate } = item;
            ReviewItem { image, path, present, candidate }
        };
        Ok((items.into_iter().map(item).collect(), stands(review)?))
    }

    /// Submits labels: the id of an image and the name of its class.
    pub async fn submit_review(&self, labels: Vec<(String, String)>) -> Result<Review, CliError> {
        stands(self.classifier_proxy().await?.submit_review(labels, ReviewOptions::default()).await?)
    }

    /// Withdraws the last label of the review.
    pub async fn undo_review(&self) -> Result<Review, CliError> {
        let options = ReviewOptions { undo: Some(true) };
        stands(self.classifier_proxy().await?.submit_review(Vec::new(), options).await?)
    }

    /// The names of the classes.
    pub async fn classes(&self) -> Result<Vec<String>, CliError> {
        prompt(self.classifier_proxy().await?.classes()).await
    }

    /// Asks a job to stop; returns what it is.
    pub async fn cancel(&self, number: u64) -> Result<JobName, CliError> {
        let found = self.find_job(number).await?;
        let path = found.path().to_owned();
        let name = objects::job(found)?.name();
        let job = JobProxy::builder(&self.connection).path(path).cache_properties(CacheProperties::No).build().await?;
        job.cancel().await.map_err(|error| no_such_job(error.into(), number))?;
        Ok(name)
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

    /// The actions of coft that polkit knows.
    pub async fn polkit_actions(&self) -> Result<Vec<Action>, CliError> {
        const POLKIT: &str = "org.freedesktop.PolicyKit1";
        let (path, interface) = ("/org/freedesktop/PolicyKit1/Authority", "org.freedesktop.PolicyKit1.Authority");
        let locale = "";
        let call = self.connection.call_method(Some(POLKIT), path, Some(interface), "EnumerateActions", &locale);
        let answer = prompt(call).await?;
        let actions: Vec<PolkitAction> = answer.body().deserialize()?;
        let ours = actions.into_iter().filter(|action| action.0.starts_with(BUS_NAME));
        Ok(ours.map(|action| Action { owner: owner(&action.9), id: action.0 }).collect())
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

/// A polkit action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    pub id: String,
    /// The user who may ask polkit about this action.
    pub owner: Option<u32>,
}

/// Id, description, message, vendor, the vendor's URL, icon, three defaults, annotations.
type PolkitAction = (String, String, String, String, String, String, u32, u32, u32, HashMap<String, String>);

fn owner(annotations: &HashMap<String, String>) -> Option<u32> {
    let name = annotations.get("org.freedesktop.policykit.owner")?.strip_prefix("unix-user:")?;
    User::from_name(name).ok().flatten().map(|user| user.uid.as_raw())
}

/// The review in an answer, which must have one.
fn stands(review: coft_dbus::Review) -> Result<Review, CliError> {
    objects::review(review)?.ok_or_else(|| CliError::Misunderstood("there is no review in the answer".into()))
}

fn number_of(job: &str) -> Result<u64, CliError> {
    objects::trailing_number(job).ok_or_else(|| CliError::Misunderstood(format!("{job} does not end in a number")))
}

/// Awaits a call that needs no authorisation by a person.
async fn prompt<T, E>(call: impl Future<Output = Result<T, E>>) -> Result<T, CliError>
where
    CliError: From<E>,
{
    let late = |_| CliError::Unreachable("it did not answer in time".into());
    Ok(tokio::time::timeout(TIMEOUT, call).await.map_err(late)??)
}

/// Explains that the service is busy with a job, not with images.
fn one_at_a_time(error: coft_dbus::Error) -> CliError {
    match error.into() {
        CliError::Refused { name, message, .. } if name == "Busy" => CliError::Refused {
            name,
            message,
            advice: "\n  follow it: coftctl job wait; or stop it: coftctl job cancel\n  where another classifier \
                     has it: the same with --classifier NAME",
        },
        failure => failure,
    }
}

/// A job without an object is unknown to the service.
fn no_such_job(failure: CliError, number: u64) -> CliError {
    match failure {
        CliError::NoObject(_) => no_job(number),
        other => other,
    }
}

fn no_job(number: u64) -> CliError {
    CliError::NotFound(format!("there is no job {number}\n  see which there are: coftctl job list"))
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

/// Every job of a classifier, oldest first.
fn jobs(managed: &mut ManagedObjects, classifier: &str) -> Result<Vec<Job>, CliError> {
    let jobs = of(managed, JOB, classifier).into_iter().map(objects::job);
    let mut jobs = jobs.collect::<Result<Vec<_>, _>>()?;
    jobs.sort_by_key(|job| job.round);
    Ok(jobs)
}

fn numbered(objects: Vec<Properties>) -> Result<Vec<(u64, Properties)>, CliError> {
    objects.into_iter().map(|object| Ok((object.number()?, object))).collect()
}
