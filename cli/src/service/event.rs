//! Events, made from the signals of the service and of the bus.
//!
//! Progress and counts change all the time and are left out; `coftctl status` shows them.

use coft_dbus::interface::{CLASSIFIER, GENERATION, JOB, SOURCE};
use coft_dbus::{Observation, ObservationDetails, ROOT};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use zbus::{Message, OwnedObjectPath, OwnedVariant};

/// An event.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// When it was received, Unix time, s.
    pub time: i64,
    pub event: &'static str,
    /// Path of the object on the bus.
    pub object: String,
    /// What the event is about; its fields depend on the event.
    #[serde(flatten)]
    pub details: Map<String, Value>,
}

type Properties = HashMap<String, OwnedVariant>;

/// Properties that state a problem, or that it is solved.
const PROBLEMS: [&str; 7] =
    ["SetupProblem", "IntakeProblem", "ServingProblem", "ProviderProblem", "RoundProblem", "Problem", "AnswersProblem"];

impl Event {
    /// The events in a signal; empty if the signal reports only progress.
    pub fn of(message: &Message, time: i64) -> Vec<Self> {
        let header = message.header();
        let text = |part: Option<&str>| part.unwrap_or_default().to_owned();
        let (interface, member) =
            (text(header.interface().map(|name| name.as_str())), text(header.member().map(|name| name.as_str())));
        let object = text(header.path().map(|path| path.as_str()));
        let event = |event, details: Value| {
            let Value::Object(details) = details else { unreachable!("details are an object") };
            Self { time, event, object: object.clone(), details }
        };
        let body = message.body();
        match (interface.as_str(), member.as_str()) {
            ("org.freedesktop.DBus", "NameOwnerChanged") => {
                let Ok((_, _, owner)) = body.deserialize::<(String, String, String)>() else { return Vec::new() };
                let name = if owner.is_empty() { "stopped" } else { "started" };
                vec![Self { object: ROOT.into(), ..event(name, json!({})) }]
            }
            ("org.freedesktop.DBus.ObjectManager", "InterfacesAdded") => {
                let added = body.deserialize::<(OwnedObjectPath, HashMap<String, Properties>)>();
                let Ok((path, interfaces)) = added else { return Vec::new() };
                let told = interfaces.iter().filter_map(|(interface, properties)| {
                    let (name, details) = appeared(interface, properties)?;
                    Some(Self { object: path.to_string(), ..event(name, details) })
                });
                told.collect()
            }
            ("org.freedesktop.DBus.ObjectManager", "InterfacesRemoved") => {
                let Ok((path, interfaces)) = body.deserialize::<(OwnedObjectPath, Vec<String>)>() else {
                    return Vec::new();
                };
                let is_told = interfaces.iter().any(|name| name == GENERATION);
                let removed = Self { object: path.to_string(), ..event("generation-removed", json!({})) };
                if is_told { vec![removed] } else { Vec::new() }
            }
            ("org.freedesktop.DBus.Properties", "PropertiesChanged") => {
                let changed = body.deserialize::<(String, Properties, Vec<String>)>();
                let Ok((interface, properties, _)) = changed else { return Vec::new() };
                changes(&interface, &properties).into_iter().map(|(name, details)| event(name, details)).collect()
            }
            (JOB, "Finished") => {
                let Ok(state) = body.deserialize::<String>() else { return Vec::new() };
                vec![event("job-finished", json!({ "round": number(&object), "state": state }))]
            }
            (CLASSIFIER, "GenerationActivated") => {
                let Ok((generation, replaces)) = body.deserialize::<(u64, u64)>() else { return Vec::new() };
                vec![event("generation-activated", json!({ "generation": generation, "replaces": replaces }))]
            }
            (SOURCE, "Observed") => {
                let Ok((sequence, image, labels, details)) = body.deserialize::<Observation>() else {
                    return Vec::new();
                };
                let label = details.label(&labels).to_owned();
                let probability = labels.iter().find(|(name, _)| *name == label).map(|(_, probability)| *probability);
                let ObservationDetails { classifier, generation, doubtful, time, .. } = details;
                vec![event(
                    "observed",
                    json!({
                        "sequence": sequence, "image": image, "label": label, "probability": probability,
                        "doubtful": doubtful, "classifier": classifier, "generation": generation, "came": time,
                    }),
                )]
            }
            _ => Vec::new(),
        }
    }
}

/// A job that begins and a generation that is made appear as new objects.
fn appeared(interface: &str, properties: &Properties) -> Option<(&'static str, Value)> {
    match interface {
        JOB => Some((
            "job-started",
            json!({
                "classifier": value(properties.get("Classifier")?),
                "round": value(properties.get("Round")?),
                "kind": value(properties.get("Kind")?),
                "trigger": value(properties.get("Trigger")?),
            }),
        )),
        GENERATION => Some((
            "generation-made",
            json!({ "generation": value(properties.get("Number")?), "round": value(properties.get("Round")?) }),
        )),
        _ => None,
    }
}

fn changes(interface: &str, properties: &Properties) -> Vec<(&'static str, Value)> {
    let mut told = Vec::new();
    for name in PROBLEMS {
        if let Some(problem) = properties.get(name).map(value) {
            let event = if problem == "" { "problem-solved" } else { "problem" };
            told.push((event, json!({ "property": name, "problem": problem })));
        }
    }
    if let (JOB, Some(stage)) = (interface, properties.get("Stage").map(value).filter(|stage| stage != "")) {
        told.push(("job-stage", json!({ "stage": stage })));
    }
    let review = properties.get("Review").cloned().map(Properties::try_from);
    if let (CLASSIFIER, Some(Ok(review))) = (interface, review) {
        // It is empty once nothing is asked any more, for example because another generation serves.
        if let Some(state) = review.get("state").map(value) {
            let of = |name| review.get(name).map(value);
            told.push((
                "review",
                json!({
                    "state": state, "round": of("round"), "candidate": of("candidate"), "present": of("present"),
                    "answered": of("answered"), "most": of("most"), "activation": of("activation"),
                }),
            ));
        }
    }
    if let (SOURCE, Some(state)) = (interface, properties.get("State")) {
        let since = properties.get("StateSince").map(value);
        told.push(("state", json!({ "state": value(state), "since": since })));
    }
    told
}

/// Texts and numbers; other values are not shown.
fn value(value: &OwnedVariant) -> Value {
    let text = String::try_from(value.clone()).map(Value::from);
    let number =
        |_| u64::try_from(value.clone()).map(Value::from).or_else(|_| i64::try_from(value.clone()).map(Value::from));
    text.or_else(number).unwrap_or(Value::Null)
}

fn number(path: &str) -> Option<u64> {
    path.rsplit('/').next()?.parse().ok()
}
