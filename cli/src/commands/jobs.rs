//! `coftctl job` and, for rounds alone, `coftctl round`.

use super::wait;
use crate::args::Job as Asked;
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::render::{self, Style};
use crate::service::Service;
use crate::view::{Job, Named};
use coft_core::job::JobKind;

/// Which jobs a command is about where it is given no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    Rounds,
    AllJobs,
}

impl Only {
    fn takes(self, job: &Job) -> bool {
        self == Only::AllJobs || job.kind == JobKind::Adaptation
    }

    fn noun(self) -> &'static str {
        if self == Only::Rounds { "round" } else { "job" }
    }
}

pub async fn run(service: &Service, output: Output, asked: Asked, only: Only) -> Result<Exit, CliError> {
    match asked {
        Asked::Wait { job } => wait::run(service, output, meant(service, job, only).await?).await,
        Asked::Cancel { job } => cancel(service, output, meant(service, job, only).await?).await,
        Asked::List => {
            let jobs = jobs(service, only).await?;
            output.document(&jobs, || render::jobs(&jobs, only.noun(), &Style::of_this_machine()))?;
            Ok(Exit::Done)
        }
        Asked::Show { job } => show(service, output, job, only).await,
    }
}

async fn jobs(service: &Service, only: Only) -> Result<Vec<Job>, CliError> {
    let mut jobs = service.jobs().await?;
    jobs.retain(|job| only.takes(job));
    Ok(jobs)
}

/// The job that was named, otherwise the one that runs; of several, the one that needs the trainer.
async fn meant(service: &Service, named: Option<u64>, only: Only) -> Result<u64, CliError> {
    if let Some(number) = named {
        return Ok(number);
    }
    let jobs = service.jobs().await?;
    let running = || jobs.iter().filter(|job| job.is_running());
    let meant = running().filter(|job| only.takes(job)).min_by_key(|job| !job.kind.needs_trainer());
    meant.map(|job| job.round).ok_or_else(|| {
        let noun = only.noun();
        let other = running().next();
        CliError::NotFound(other.map_or_else(
            || format!("no {noun} is running\n  see how the last one ended: coftctl {noun} show"),
            |job| format!("no {noun} is running, but {} is: see coftctl job list", job.name()),
        ))
    })
}

async fn cancel(service: &Service, output: Output, number: u64) -> Result<Exit, CliError> {
    let name = service.cancel(number).await?;
    output.document(&Named { round: number }, || format!("{name} is being cancelled; the active model stays\n"))?;
    Ok(Exit::Done)
}

async fn show(service: &Service, output: Output, named: Option<u64>, only: Only) -> Result<Exit, CliError> {
    let job = match named {
        Some(number) => service.job(number).await?,
        None => jobs(service, only).await?.pop().ok_or_else(|| {
            CliError::NotFound(format!(
                "there are no {}s yet\n  start a round: coftctl round start --wait",
                only.noun()
            ))
        })?,
    };
    let review = service.review().await?;
    let text = || render::job(&job, &Style::of_this_machine()) + &render::asked_by(&job, review.as_ref());
    output.document(&job, text)?;
    Ok(Exit::Done)
}
