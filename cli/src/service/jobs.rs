//! The jobs of a classifier: which there are, and how they are started and cancelled.

use super::objects::{self, Properties};
use super::{Service, no_such_generation, of};
use crate::error::CliError;
use crate::view::Job;
use coft_core::job::JobName;
use coft_dbus::interface::JOB;
use coft_dbus::{ImportOptions, JobProxy, RoundOptions};
use std::os::fd::OwnedFd;
use zbus::Fd;
use zbus::fdo::ManagedObjects;
use zbus::proxy::CacheProperties;

impl Service {
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

    /// Asks a job to stop; returns what it is.
    pub async fn cancel(&self, number: u64) -> Result<JobName, CliError> {
        let found = self.find_job(number).await?;
        let path = found.path().to_owned();
        let name = objects::job(found)?.name();
        let job = JobProxy::builder(&self.connection).path(path).cache_properties(CacheProperties::No).build().await?;
        job.cancel().await.map_err(|error| no_such_job(error.into(), number))?;
        Ok(name)
    }
}

/// Every job of a classifier, oldest first.
pub(super) fn jobs(managed: &mut ManagedObjects, classifier: &str) -> Result<Vec<Job>, CliError> {
    let jobs = of(managed, JOB, classifier).into_iter().map(objects::job);
    let mut jobs = jobs.collect::<Result<Vec<_>, _>>()?;
    jobs.sort_by_key(|job| job.round);
    Ok(jobs)
}

fn number_of(job: &str) -> Result<u64, CliError> {
    objects::trailing_number(job).ok_or_else(|| CliError::Misunderstood(format!("{job} does not end in a number")))
}

/// Explains that the service is busy with a job, not with images.
fn one_at_a_time(error: coft_dbus::Error) -> CliError {
    match error.into() {
        CliError::Refused { name, message, .. } if name == "Busy" => CliError::Refused {
            name,
            message,
            advice: "\n  follow it: coftctl job wait N; or stop it: coftctl job cancel N\n  where another classifier \
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
