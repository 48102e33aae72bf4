//! A summary of the service.

use super::job::{brief, state};
use super::review::asks;
use super::{BAD, FAINT, Style, counted, fields, paint};
use crate::view::{NextRound, Source, Status};
use coft_core::answer::UNKNOWN;
use coft_core::job::JobState;
use coft_core::shown::shown;

pub fn status(status: &Status, style: &Style) -> String {
    let model = match (status.active_generation, &status.serving_problem) {
        (_, Some(problem)) => paint(BAD, problem),
        (Some(generation), None) => format!("generation {generation} on {}", provider(&status.provider)),
        (None, None) if status.setup_problem.is_some() => "none yet".into(),
        (None, None) => format!("none yet; {}", first_model(status)),
    };
    let job = match (status.round, &status.last_round) {
        (Some(running), Some(last)) if last.round == running => {
            format!(
                "{} is running, {:.0} %; follow it: coftctl job wait {running}",
                last.name(),
                (last.fraction * 100.0).floor()
            )
        }
        (Some(running), _) => format!("job {running} is running; follow it: coftctl job wait {running}"),
        (None, Some(last)) => {
            let result = Some(brief(last)).filter(|result| result != "-").map(|result| format!(": {result}"));
            format!("none is running; {} {}{}", last.name(), state(last), result.unwrap_or_default())
        }
        (None, None) => paint(FAINT, "none is running"),
    };
    let failed = status.last_round.as_ref().filter(|last| last.state == JobState::Failed);
    let advice = failed.map(|last| format!("see what to do: coftctl job show {}", last.round));
    let mut images = counted(status.images, "image");
    if status.quarantined > 0 {
        images += &format!(", {} refused", counted(status.quarantined, "file"));
    }
    let mut lines = vec![("coftd", status.version.clone()), ("classifier", status.classifier.clone())];
    if !status.others.is_empty() {
        lines.push(("", format!("others: {}; ask one of them: --classifier NAME", status.others.join(", "))));
    }
    lines.extend(status.setup_problem.iter().map(|problem| ("set-up", paint(BAD, problem))));
    lines.extend([("classes", classes(&status.classes)), ("model", model)]);
    lines.extend(status.provider_problem.iter().map(|problem| ("", paint(BAD, problem))));
    // While the service starts, the generation is loaded for the first time.
    if status.serving_problem.is_some() && status.setup_problem.is_none() {
        lines.push(("", "put that right; loading is tried again every minute".into()));
    }
    lines.push(("job", job));
    lines.extend(advice.map(|advice| ("", advice)));
    // What starts the next round is known only after the set-up.
    let known = status.next_round != NextRound::default() || status.setup_problem.is_none();
    if status.round.is_none() && known && status.round_problem.is_none() {
        lines.push(("", next(status, style)));
    }
    lines.extend(status.round_problem.iter().map(|problem| ("", paint(BAD, problem))));
    lines.extend(status.review.iter().filter(|review| review.is_asking()).map(|review| ("review", asks(review))));
    lines.push(("catalogue", images));
    if let Some(problem) = &status.intake_problem {
        lines.push(("", paint(BAD, problem)));
        lines.push(("", "put that right; images are tried again by themselves, at once with: coftctl rescan".into()));
    }
    let mut text = fields(&lines);
    if status.sources.is_empty() {
        text += "sources     none; name a directory in the configuration of coftd\n";
    }
    for (index, source) in status.sources.iter().enumerate() {
        let name = if index == 0 { "sources" } else { "" };
        let state = match &source.problem {
            Some(problem) => paint(BAD, problem),
            None if source.images == 0 => "no images yet; put some there".into(),
            None => counted(source.images, "image"),
        };
        let called = match source.name == source.path {
            true => shown(source.path.as_bytes()).into_owned(),
            false => format!("{} ({})", source.name, shown(source.path.as_bytes())),
        };
        text += &format!("{name:12}{called}: {state}{}\n", shows(source, style));
        if source.waiting_files > 0 {
            let files = counted(source.waiting_files, "file");
            text += &format!("{:12}{files} to be looked at, the latest first\n", "");
        }
        if source.unanswered > 0 {
            let wait =
                if source.unanswered == 1 { "picture waits for its answer" } else { "pictures wait for their answers" };
            let problem = source.answers_problem.as_ref().map(|problem| format!(": {}", paint(BAD, problem)));
            text += &format!("{:12}{} {wait}{}\n", "", source.unanswered, problem.unwrap_or_default());
        }
    }
    for problem in &status.left_out {
        text += &format!("{:12}{}\n", "left out", paint(BAD, problem));
        text += &format!("{:12}correct it, then: coftctl reload\n", "");
    }
    if status.unanswered_again > 0 {
        let pictures = counted(status.unanswered_again, "picture");
        text += &format!("{:12}{pictures} of earlier generations are being answered again\n", "");
    }
    text
}

/// The state of a source according to its latest pictures, if it is known.
fn shows(source: &Source, style: &Style) -> String {
    match (&source.state, source.state_since) {
        (Some(state), Some(since)) if state != UNKNOWN => {
            format!("; {} since {}", shown(state.as_bytes()), style.time(since))
        }
        _ => String::new(),
    }
}

/// Where the first model comes from: it needs no request.
fn first_model(status: &Status) -> String {
    match (status.round, &status.last_round) {
        (Some(running), _) => format!("job {running} makes the first one"),
        (None, _) if status.round_problem.is_some() => {
            "no job can make the first one now; to take in one of another service: coftctl import DIR".into()
        }
        (None, Some(last)) if last.state == JobState::Failed => {
            format!("{} did not make the first one; it is tried again by itself", last.name())
        }
        (None, _) => "a job that starts by itself makes the first one".into(),
    }
}

/// When the next round starts, or that a person has to start it.
fn next(status: &Status, style: &Style) -> String {
    if status.active_generation.is_none() && status.serving_problem.is_none() {
        return "the next job starts by itself".into();
    }
    if let Some(other) = &status.next_round.waits_for {
        return format!("the next job waits until that of the classifier {} has ended", shown(other.as_bytes()));
    }
    match (status.next_round.images, status.next_round.at) {
        (Some(images), _) => format!("the next round starts by itself after {}", counted(images, "more image")),
        (None, Some(0)) => "the next round is about to start by itself".into(),
        (None, Some(at)) => format!("the next round starts by itself at {}", style.time(at)),
        (None, None) if status.images == 0 => {
            "the next round starts by hand, once there are images: coftctl round start".into()
        }
        (None, None) => "the next round starts by hand: coftctl round start".into(),
    }
}

/// All classes if they are few, otherwise the first ones.
fn classes(classes: &[String]) -> String {
    let classes: Vec<_> = classes.iter().map(|class| shown(class.as_bytes())).collect();
    const MANY: usize = 8;
    const FIRST: usize = 5;
    match classes.len() {
        count if count > MANY => format!("{} and {} more (--json: all)", classes[..FIRST].join(", "), count - FIRST),
        _ => classes.join(", "),
    }
}

/// `CUDAExecutionProvider` becomes `CUDA`: the rest is ONNX Runtime's naming.
fn provider(name: &str) -> &str {
    match name.strip_suffix("ExecutionProvider").unwrap_or(name) {
        "" => "an unknown provider",
        short => short,
    }
}
