//! Jobs: the list, the details of one, and the outcome of one.

use super::generation::all_the_same;
use super::{BAD, FAINT, FAIR, GOOD, Style, counted, duration, fields, lines, paint, progress_line, table};
use crate::view::Job;
use coft_core::job::JobState;
use std::time::Duration;

/// `noun` is what the jobs are called: `round`, or `job` if they are of any kind.
pub fn jobs(jobs: &[Job], noun: &str, style: &Style) -> String {
    if jobs.is_empty() {
        return format!("no {noun}s yet; see what goes on and what comes next: coftctl status\n");
    }
    let mut table = table(&["JOB", "KIND", "TRIGGER", "STARTED", "TOOK", "IMAGES", "STATE", "RESULT"], &[0, 4, 5]);
    for job in jobs {
        table.add_row([
            job.round.to_string(),
            job.kind.to_string(),
            job.trigger.to_string(),
            style.time(job.started),
            took(job).unwrap_or_default(),
            job.images.to_string(),
            state(job),
            brief(job),
        ]);
    }
    lines(&table)
}

pub fn job(job: &Job, style: &Style) -> String {
    let mut pairs = vec![
        ("job", job.round.to_string()),
        ("kind", job.kind.to_string()),
        ("state", state(job)),
        ("trigger", job.trigger.to_string()),
        ("images", job.images.to_string()),
        ("started", style.time(job.started)),
    ];
    pairs.extend(job.continues.map(|earlier| ("takes up", format!("round {earlier}, which did not come to its end"))));
    if let Some(ended) = job.ended {
        pairs.push((
            "ended",
            format!("{}{}", style.time(ended), took(job).map_or_else(String::new, |t| format!(", took {t}"))),
        ));
    }
    if job.is_running() {
        pairs.push(("progress", progress_line(job)));
    } else {
        pairs.push(("result", brief(job)));
    }
    if let Some(kept) = job.result.candidate {
        pairs.push(("candidate", format!("kept as generation {kept}; {}", all_the_same(kept))));
    }
    if let Some(hint) = &job.result.hint {
        pairs.push(("hint", hint.clone()));
    }
    pairs.extend(job.warnings.iter().map(|warning| ("warning", paint(FAIR, warning))));
    fields(&pairs)
}

/// The last line of a command that waits for a job.
pub fn outcome(job: &Job) -> String {
    let took = took(job).map_or_else(String::new, |took| format!(" after {took}"));
    let name = job.name();
    let result = &job.result;
    match job.state {
        JobState::Promoted => {
            let generation = result.generation.map_or_else(String::new, |g| format!(": generation {g} is active"));
            let images = match job.images {
                0 => String::new(),
                images => format!(", {}", counted(images, "image")),
            };
            format!("{name} {}{took}{generation}{images}\n", paint(GOOD, "promoted"))
        }
        JobState::Kept => {
            let reason = result.reason.as_deref().unwrap_or("no reason was given");
            let candidate = result.candidate.map_or_else(String::new, |kept| {
                format!("  its candidate is kept as generation {kept}; {}\n", all_the_same(kept))
            });
            format!("{name} {}{took}; the active model stays: {reason}\n{candidate}", paint(FAIR, "kept"))
        }
        JobState::Failed => {
            let message = result.message.as_deref().unwrap_or("no message was given");
            let hint = result.hint.as_deref().map_or_else(String::new, |hint| format!("\n  {hint}"));
            format!("{name} {}{took}: {message}{hint}\n", paint(BAD, "failed"))
        }
        JobState::Cancelled if job.trigger.adapts() => {
            let go_on = "what it has done is kept; to go on with it: coftctl round start --wait";
            format!("{name} {}{took}; the active model stays\n  {go_on}\n", paint(FAIR, "cancelled"))
        }
        other => format!("{name} {}{took}; the active model stays\n", paint(FAIR, other.into())),
    }
}

pub(super) fn state(job: &Job) -> String {
    let style = match job.state {
        JobState::Promoted => GOOD,
        JobState::Failed => BAD,
        JobState::Running => FAINT,
        _ => FAIR,
    };
    paint(style, job.state.into())
}

/// The result of the job, or its progress.
pub(super) fn brief(job: &Job) -> String {
    let result = &job.result;
    if job.is_running() {
        return progress_line(job);
    }
    match (&result.generation, &result.reason, &result.message) {
        (Some(generation), ..) => format!("generation {generation}"),
        (_, Some(reason), _) => reason.clone(),
        (_, _, Some(message)) => message.clone(),
        (None, None, None) => String::from("-"),
    }
}

fn took(job: &Job) -> Option<String> {
    Some(duration(Duration::try_from_secs_f64(job.took_seconds?).ok()?))
}
