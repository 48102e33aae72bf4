//! Rounds: the list, the details of one, and the outcome of one.

use super::generation::all_the_same;
use super::{BAD, FAINT, FAIR, GOOD, Style, counted, duration, fields, lines, paint, progress_line, table};
use crate::view::Round;
use coft_core::job::JobState;
use std::time::Duration;

pub fn rounds(rounds: &[Round], style: &Style) -> String {
    if rounds.is_empty() {
        return "no rounds yet; the first one starts by itself; see what goes on: coftctl status\n".into();
    }
    let mut table = table(&["ROUND", "TRIGGER", "STARTED", "TOOK", "IMAGES", "STATE", "RESULT"], &[0, 3, 4]);
    for round in rounds {
        table.add_row([
            round.round.to_string(),
            round.trigger.to_string(),
            style.time(round.started),
            took(round).unwrap_or_default(),
            round.images.to_string(),
            state(round),
            brief(round),
        ]);
    }
    lines(&table)
}

pub fn round(round: &Round, style: &Style) -> String {
    let mut pairs = vec![
        ("round", round.round.to_string()),
        ("state", state(round)),
        ("trigger", round.trigger.to_string()),
        ("images", round.images.to_string()),
        ("started", style.time(round.started)),
    ];
    pairs
        .extend(round.continues.map(|earlier| ("takes up", format!("round {earlier}, which did not come to its end"))));
    if let Some(ended) = round.ended {
        pairs.push((
            "ended",
            format!("{}{}", style.time(ended), took(round).map_or_else(String::new, |t| format!(", took {t}"))),
        ));
    }
    if round.is_running() {
        pairs.push(("progress", progress_line(round)));
    } else {
        pairs.push(("result", brief(round)));
    }
    if let Some(kept) = round.result.candidate {
        pairs.push(("candidate", format!("kept as generation {kept}; {}", all_the_same(kept))));
    }
    if let Some(hint) = &round.result.hint {
        pairs.push(("hint", hint.clone()));
    }
    pairs.extend(round.warnings.iter().map(|warning| ("warning", paint(FAIR, warning))));
    fields(&pairs)
}

/// The last line of `round start --wait`.
pub fn outcome(round: &Round) -> String {
    let took = took(round).map_or_else(String::new, |took| format!(" after {took}"));
    let number = round.round;
    let result = &round.result;
    match round.state {
        JobState::Promoted => {
            let generation = result.generation.map_or_else(String::new, |g| format!(": generation {g} is active"));
            let images = match round.images {
                0 => String::new(),
                images => format!(", {}", counted(images, "image")),
            };
            format!("round {number} {}{took}{generation}{images}\n", paint(GOOD, "promoted"))
        }
        JobState::Kept => {
            let reason = result.reason.as_deref().unwrap_or("no reason was given");
            let candidate = result.candidate.map_or_else(String::new, |kept| {
                format!("  its candidate is kept as generation {kept}; {}\n", all_the_same(kept))
            });
            format!("round {number} {}{took}; the active model stays: {reason}\n{candidate}", paint(FAIR, "kept"))
        }
        JobState::Failed => {
            let message = result.message.as_deref().unwrap_or("no message was given");
            let hint = result.hint.as_deref().map_or_else(String::new, |hint| format!("\n  {hint}"));
            format!("round {number} {}{took}: {message}{hint}\n", paint(BAD, "failed"))
        }
        JobState::Cancelled if round.trigger.adapts() => {
            let go_on = "what it has done is kept; to go on with it: coftctl round start --wait";
            format!("round {number} {}{took}; the active model stays\n  {go_on}\n", paint(FAIR, "cancelled"))
        }
        other => format!("round {number} {}{took}; the active model stays\n", paint(FAIR, other.into())),
    }
}

pub(super) fn state(round: &Round) -> String {
    let style = match round.state {
        JobState::Promoted => GOOD,
        JobState::Failed => BAD,
        JobState::Running => FAINT,
        _ => FAIR,
    };
    paint(style, round.state.into())
}

/// The result of the round, or its progress.
pub(super) fn brief(round: &Round) -> String {
    let result = &round.result;
    if round.is_running() {
        return progress_line(round);
    }
    match (&result.generation, &result.reason, &result.message) {
        (Some(generation), ..) => format!("generation {generation}"),
        (_, Some(reason), _) => reason.clone(),
        (_, _, Some(message)) => message.clone(),
        (None, None, None) => String::from("-"),
    }
}

fn took(round: &Round) -> Option<String> {
    Some(duration(Duration::try_from_secs_f64(round.took_seconds?).ok()?))
}
