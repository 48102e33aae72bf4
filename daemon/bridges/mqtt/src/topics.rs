//! The topics and the messages in them. docs/bridges.md documents them for subscribers.

use crate::broker::Message;
use crate::coft::{Source, Standing};
use crate::config::{Config, Topic};
use crate::levels::ascii;
use coft_dbus::Observation;
use serde_json::{Value, json};

/// The topics of one configuration.
#[derive(Clone, Debug)]
pub struct Topics {
    prefix: Topic,
    discovery: Topic,
}

impl Topics {
    pub fn of(config: &Config) -> Self {
        Self { prefix: config.topic_prefix.clone(), discovery: config.discovery_prefix.clone() }
    }

    /// Whether the retained messages of the other topics are up to date.
    pub fn status(&self, is_online: bool) -> Message {
        let payload = if is_online { "online" } else { "offline" };
        Message { topic: format!("{}/status", self.prefix), payload: payload.into(), retain: true }
    }

    pub fn state(&self, source: &Source, standing: &Standing) -> Message {
        let payload = standing.state.clone();
        Message { topic: self.topic(source, "state"), payload, retain: true }
    }

    pub fn attributes(&self, source: &Source, standing: &Standing) -> Message {
        let payload = json!({
            "source": source.name,
            "since": standing.since,
            "last_label": standing.last_label,
            "last_image": standing.last_image,
            "last_time": standing.last_time,
            "waiting": standing.waiting,
            "problem": standing.problem,
        });
        Message { topic: self.topic(source, "attributes"), payload: payload.to_string(), retain: true }
    }

    /// An answer with the same fields as in `coftctl --json results`.
    pub fn observation(&self, source: &Source, (sequence, image, labels, details): &Observation) -> Message {
        let label = details.label(labels);
        let labels: Vec<Value> =
            labels.iter().map(|(label, score)| json!({ "label": label, "score": score })).collect();
        let mut payload = json!({
            "sequence": sequence,
            "source": source.name,
            "image": image,
            "path": details.path,
            "time": details.time,
            "classifier": details.classifier,
            "generation": details.generation,
            "label": label,
            "labels": labels,
            "margin": details.margin,
            "doubtful": details.doubtful,
        });
        if let Some(none_of_these) = details.none_of_these {
            payload["none_of_these"] = none_of_these.into();
        }
        if let Some(decision) = &details.decision {
            payload["decision"] = decision.as_str().into();
        }
        Message { topic: self.topic(source, "observation"), payload: payload.to_string(), retain: false }
    }

    /// The messages from which Home Assistant makes its entities: a sensor for the state, and for two classes also a
    /// binary sensor, which is on for the second class.
    pub fn discovery(&self, source: &Source, version: &str) -> Vec<Message> {
        let machine = ascii(self.prefix.as_str(), '_');
        let id = format!("{machine}_{}", source.topic);
        let entity = |kind: &str, id: &str, more: Value| {
            let mut payload = json!({
                "unique_id": id,
                "state_topic": self.topic(source, "state"),
                "json_attributes_topic": self.topic(source, "attributes"),
                "availability_topic": self.status(true).topic,
                "qos": 1,
                "device": {
                    "identifiers": [machine],
                    "name": self.prefix.as_str(),
                    "model": "coft",
                    "sw_version": version,
                },
                "origin": { "name": "coft-mqtt", "sw_version": env!("CARGO_PKG_VERSION") },
            });
            if let (Value::Object(all), Value::Object(more)) = (&mut payload, more) {
                all.extend(more);
            }
            let topic = format!("{}/{kind}/{id}/config", self.discovery);
            Message { topic, payload: payload.to_string(), retain: true }
        };
        let mut messages =
            vec![entity("sensor", &id, json!({ "name": source.name, "icon": "mdi:image-search-outline" }))];
        if let [off, on] = &source.classes[..] {
            let template = format!(
                "{{{{ 'ON' if value == {} else 'OFF' if value == {} else 'None' }}}}",
                Value::from(on.as_str()),
                Value::from(off.as_str())
            );
            let name = format!("{}: {on}", source.name);
            messages.push(entity("binary_sensor", &id, json!({ "name": name, "value_template": template })));
        }
        messages
    }

    fn topic(&self, source: &Source, of: &str) -> String {
        format!("{}/{}/{of}", self.prefix, source.topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coft_dbus::ObservationDetails;

    fn topics() -> Topics {
        Topics::of(&Config::default())
    }

    fn source() -> Source {
        let (object, name) = ("/org/coft/Coft1/sources/0".into(), "/srv/coft/in".into());
        Source { object, name, topic: "srv-coft-in".into(), classes: Vec::new() }
    }

    fn json(message: &Message) -> Value {
        serde_json::from_str(&message.payload).unwrap()
    }

    #[test]
    fn the_state_is_kept_and_an_answer_is_not() {
        let standing = Standing { state: "hex nut".into(), since: 7, ..Standing::default() };
        let state = topics().state(&source(), &standing);
        assert_eq!(state, Message { topic: "coft/srv-coft-in/state".into(), payload: "hex nut".into(), retain: true });
        assert_eq!(json(&topics().attributes(&source(), &standing))["since"], 7);
        let details = ObservationDetails {
            time: 1_767_225_600,
            classifier: "default".into(),
            generation: 3,
            margin: 0.5,
            doubtful: false,
            none_of_these: Some(true),
            decision: None,
            path: None,
            later_generation: None,
            later_label: None,
            later_probability: None,
        };
        let answer = (12, "0a".to_owned(), vec![("hex nut".to_owned(), 0.75), ("bolt".to_owned(), 0.25)], details);
        let message = topics().observation(&source(), &answer);
        assert_eq!((message.topic.as_str(), message.retain), ("coft/srv-coft-in/observation", false));
        assert_eq!(
            json(&message),
            json!({
                "sequence": 12, "source": "/srv/coft/in", "image": "0a", "path": null, "time": 1_767_225_600,
                "classifier": "default", "generation": 3, "label": "none-of-these",
                "labels": [{ "label": "hex nut", "score": 0.75 }, { "label": "bolt", "score": 0.25 }],
                "margin": 0.5, "doubtful": false, "none_of_these": true,
            })
        );
    }

    #[test]
    fn home_assistant_is_told_of_a_sensor_and_of_two_classes_a_binary_one() {
        let of = |classes: &[&str]| Source { classes: classes.iter().map(|&name| name.into()).collect(), ..source() };
        let [sensor] = &topics().discovery(&of(&["a", "b", "c"]), "0.1.0")[..] else { panic!() };
        assert_eq!(sensor.topic, "homeassistant/sensor/coft_srv-coft-in/config");
        let told = json(sensor);
        assert_eq!(told["state_topic"], "coft/srv-coft-in/state");
        assert_eq!(told["availability_topic"], "coft/status");
        assert_eq!(told["unique_id"], "coft_srv-coft-in");
        let two = of(&["door \"A\" closed", "door open"]);
        let [_, binary] = &topics().discovery(&two, "0.1.0")[..] else { panic!() };
        assert_eq!(binary.topic, "homeassistant/binary_sensor/coft_srv-coft-in/config");
        assert_eq!(
            json(binary)["value_template"],
            r#"{{ 'ON' if value == "door open" else 'OFF' if value == "door \"A\" closed" else 'None' }}"#
        );
    }
}
