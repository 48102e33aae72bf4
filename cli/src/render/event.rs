//! Events, a line each.

use super::{BAD, FAINT, FAIR, GOOD, Style, paint};
use crate::service::Event;
use coft_core::ids::JobId;
use coft_core::job::{JobKind, JobState};
use coft_core::shown::shown;
use coft_dbus::ROOT;
use serde_json::{Map, Value};

/// `2025-06-15 15:06:40  sources/0  full shelf 0.93`.
pub fn event(event: &Event, style: &Style) -> String {
    let field = |name: &str| match event.details.get(name) {
        Some(Value::String(text)) => shown(text.as_bytes()).into_owned(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    };
    let text = match event.event {
        "started" => "coftd has started".into(),
        "stopped" => "coftd has stopped".into(),
        "job-started" => format!("{} has started: {}", job(&event.details), field("trigger")),
        "job-stage" => format!("stage {}", field("stage")),
        "job-finished" => {
            let state = field("state");
            let colour = match state.parse() {
                Ok(JobState::Promoted) => GOOD,
                Ok(JobState::Failed) => BAD,
                _ => FAIR,
            };
            format!("job {} {}", field("round"), paint(colour, &state))
        }
        "generation-made" => format!("generation {} was made by job {}", field("generation"), field("round")),
        "generation-removed" => "this generation was removed".into(),
        "generation-activated" => match field("replaces").as_str() {
            "0" => format!("generation {} answers", field("generation")),
            before => format!("generation {} answers in place of {before}", field("generation")),
        },
        "observed" => {
            let probability = event.details.get("probability").and_then(Value::as_f64);
            let probability = probability.map_or_else(String::new, |probability| format!(" {probability:.2}"));
            let doubt = if event.details.get("doubtful") == Some(&Value::Bool(true)) { " ?" } else { "" };
            format!("{}{probability}{doubt}  {:.12}", field("label"), field("image"))
        }
        "state" => format!("state {}", paint(GOOD, &field("state"))),
        "review" => match field("state").as_str() {
            "asking" => format!(
                "which is better, generation {} or {}? {} of at most {} labels: coftctl review --decide",
                field("candidate"),
                field("present"),
                field("answered"),
                field("most")
            ),
            "candidate" if field("activation").is_empty() => {
                format!("the labels have decided for generation {}", field("candidate"))
            }
            "candidate" => format!("job {} activates generation {}", field("activation"), field("candidate")),
            "present" => {
                format!("the labels have decided for generation {}, which goes on serving", field("present"))
            }
            _ => format!("the labels have not decided; generation {} goes on serving", field("present")),
        },
        "problem" => paint(BAD, &format!("{}: {}", field("property"), field("problem"))),
        "problem-solved" => paint(GOOD, &format!("{} is solved", field("property"))),
        other => other.to_owned(),
    };
    let object = event.object.strip_prefix(ROOT).map_or(event.object.as_str(), |below| below.trim_start_matches('/'));
    let object = if object.is_empty() { "coft" } else { object };
    format!("{}  {}  {text}\n", style.second(event.time), paint(FAINT, object))
}

/// The job that has started, as messages name it.
fn job(details: &Map<String, Value>) -> String {
    let kind = details.get("kind").and_then(Value::as_str).and_then(|kind| kind.parse::<JobKind>().ok());
    match (kind, details.get("round").and_then(Value::as_u64)) {
        (Some(kind), Some(number)) => kind.job(JobId(number)).to_string(),
        (_, number) => format!("job {}", number.unwrap_or_default()),
    }
}
