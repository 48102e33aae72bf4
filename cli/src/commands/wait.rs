//! `coftctl job wait`, and the end of every command that starts a job and waits for it.
//!
//! The job is polled a few times a second; its signals are not used. So a job that ended at once, a signal that came
//! too early and a service that restarts in between are all handled in the same way.

use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::render;
use crate::service::Service;
use crate::view::Job;
use coft_core::job::JobState;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;

/// Time between two looks at the job (choice: the bar moves smoothly).
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Time between two lines of progress without a terminal (choice).
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Longest time that the service may be away, as during a restart (choice).
const AWAY_AT_MOST: Duration = Duration::from_secs(30);

pub async fn run(service: &Service, output: Output, number: u64) -> Result<Exit, CliError> {
    let mut display = Display::new(number);
    let mut name = format!("job {number}");
    let end = tokio::select! {
        end = follow(service, number, &mut display, &mut name) => end?,
        interrupt = tokio::signal::ctrl_c() => {
            interrupt.map_err(CliError::Signal)?;
            display.clear();
            eprintln!(
                "{name} goes on without this command; to follow it again: coftctl job wait {number}, \
                 to stop it: coftctl job cancel {number}"
            );
            return Ok(Exit::Interrupted);
        }
    };
    display.clear();
    let review = service.review().await?;
    output.document(&end, || render::outcome(&end) + &render::asked_by(&end, review.as_ref()))?;
    Ok(exit(&end))
}

/// `name` becomes that of the job.
async fn follow(service: &Service, number: u64, display: &mut Display, name: &mut String) -> Result<Job, CliError> {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = Instant::now();
    loop {
        ticks.tick().await;
        match service.job(number).await {
            Ok(now) if !now.is_running() => return Ok(now),
            Ok(now) => {
                seen = Instant::now();
                *name = now.name().to_string();
                display.show(&now);
            }
            Err(CliError::Unreachable(_)) if seen.elapsed() < AWAY_AT_MOST => {}
            Err(failure) => return Err(failure),
        }
    }
}

fn exit(job: &Job) -> Exit {
    match job.state {
        JobState::Promoted => Exit::Done,
        JobState::Kept | JobState::Cancelled | JobState::Interrupted => Exit::NotTaken,
        JobState::Running | JobState::Failed => Exit::Failed,
    }
}

/// Progress on standard error while a job runs: a bar on a terminal, otherwise lines.
enum Display {
    Bar(ProgressBar),
    Lines { last: Option<(Instant, String)> },
}

impl Display {
    fn new(number: u64) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Lines { last: None };
        }
        Self::Bar(bar(number))
    }

    fn show(&mut self, job: &Job) {
        let text = render::progress_line(job);
        match self {
            Self::Bar(bar) => {
                bar.set_position((job.fraction * 1000.0) as u64);
                bar.set_prefix(job.name().to_string());
                bar.set_message(text);
            }
            Self::Lines { last } => {
                let due = last.as_ref().is_none_or(|(at, line)| at.elapsed() >= LINE_EVERY && *line != text);
                if due {
                    eprintln!("{}: {text}", job.name());
                    *last = Some((Instant::now(), text));
                }
            }
        }
    }

    fn clear(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn bar(number: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} {bar:24} {msg}").expect("a test makes this bar");
    ProgressBar::new(1000).with_style(style).with_prefix(format!("job {number}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_can_be_drawn() {
        assert_eq!(bar(7).prefix(), "job 7");
    }
}
