//! The allowed ranges of the settings. Every number has a minimum and a maximum, so that nothing that is computed from
//! the settings overflows.

use super::{Settings, Sgd};
use serde::de::{Deserializer, Error, Unexpected, Visitor};
use std::fmt;

/// A rule that a setting must satisfy.
struct Rule {
    key: &'static str,
    holds: bool,
    /// What to do instead.
    told: &'static str,
}

fn rule(key: &'static str, holds: bool, told: &'static str) -> Rule {
    Rule { key, holds, told }
}

impl Settings {
    /// Whether all settings are within their ranges.
    ///
    /// # Errors
    /// The key of the first setting that is out of range, and its allowed range.
    pub fn validate(&self) -> Result<(), (String, &'static str)> {
        let Self { phase1, phase2, deploy: _, mixed_precision: _ } = self;
        let contrast = &phase2.contrast;
        let rules = [
            rule("phase1.seeds-per-class", (1..=1_000_000).contains(&phase1.seeds_per_class), "use 1 to 1000000"),
            rule("phase1.seed-share", (0.0..=1.0).contains(&phase1.seed_share), "use 0 to 1"),
            rule("phase1.iterations", (1..=100).contains(&phase1.iterations), "use 1 to 100"),
            rule("phase1.context-tokens", (1..=1000).contains(&phase1.context_tokens), "use 1 to 1000"),
            rule(
                "phase1.context-deviation",
                positive(phase1.context_deviation, 1e3),
                "use a number above 0, up to 1000",
            ),
            rule("phase1.visual-tokens", (1..=1000).contains(&phase1.visual_tokens), "use 1 to 1000"),
            rule("phase1.lambda", (0.0..=1e3).contains(&phase1.lambda), "use 0 to 1000"),
            rule("phase1.negative-pace", positive(phase1.negative_pace, 1e6), "use a number above 0, up to 1000000"),
            rule("phase1.crop-scale", positive(phase1.crop_scale, 1.0), "use a number above 0, up to 1"),
            rule("phase2.clean-share", positive(phase2.clean_share, 1.0), "use a number above 0, up to 1"),
            rule("phase2.frozen-blocks", phase2.frozen_blocks <= 1000, "use 0 to 1000"),
            rule("phase2.contrast.weight", (0.0..=1e3).contains(&contrast.weight), "use 0 to 1000"),
            rule("phase2.contrast.momentum", (0.0..1.0).contains(&contrast.momentum), "use 0 to 1, without 1"),
            rule(
                "phase2.contrast.temperature",
                positive(contrast.temperature, 1e3),
                "use a number above 0, up to 1000",
            ),
            rule("phase2.contrast.queue", (1..=10_000_000).contains(&contrast.queue), "use 1 to 10000000"),
            rule("phase2.crop-scale", positive(phase2.crop_scale, 1.0), "use a number above 0, up to 1"),
        ];
        let of = |phase: &str, sgd: &Sgd| broken(sgd.rules()).map(|(key, told)| (format!("{phase}.sgd.{key}"), told));
        let own = broken(rules).map(|(key, told)| (key.to_owned(), told));
        let first = own.or_else(|| of("phase1", &phase1.sgd)).or_else(|| of("phase2", &phase2.sgd));
        first.map_or(Ok(()), Err)
    }
}

impl Sgd {
    fn rules(&self) -> [Rule; 6] {
        [
            rule("learning-rate", positive(self.learning_rate, 1e3), "use a number above 0, up to 1000"),
            rule("momentum", (0.0..1.0).contains(&self.momentum), "use 0 to 1, without 1"),
            rule("weight-decay", (0.0..=1e3).contains(&self.weight_decay), "use 0 to 1000"),
            rule("epochs", (1..=100_000).contains(&self.epochs), "use 1 to 100000"),
            rule("batch", (1..=65_536).contains(&self.batch), "use 1 to 65536"),
            rule("minimum-steps", (1..=10_000_000).contains(&self.minimum_steps), "use 1 to 10000000"),
        ]
    }
}

fn positive(value: f64, most: f64) -> bool {
    value > 0.0 && value <= most
}

fn broken<const N: usize>(rules: [Rule; N]) -> Option<(&'static str, &'static str)> {
    rules.into_iter().find(|rule| !rule.holds).map(|rule| (rule.key, rule.told))
}

/// Reads a whole number. A number that does not fit into `u32` (negative or too large) becomes `u32::MAX`, which is
/// outside every range: [`Settings::validate`] then names the setting and its range.
pub fn count<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    struct Count;
    impl Visitor<'_> for Count {
        type Value = u32;
        fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
            out.write_str("a whole number")
        }
        fn visit_i64<E: Error>(self, value: i64) -> Result<u32, E> {
            Ok(u32::try_from(value).unwrap_or(u32::MAX))
        }
        fn visit_u64<E: Error>(self, value: u64) -> Result<u32, E> {
            Ok(u32::try_from(value).unwrap_or(u32::MAX))
        }
        fn visit_f64<E: Error>(self, value: f64) -> Result<u32, E> {
            Err(E::invalid_type(Unexpected::Float(value), &self))
        }
    }
    from.deserialize_any(Count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_setting_out_of_range_is_named() {
        assert_eq!(Settings::default().validate(), Ok(()));
        let mut settings = Settings::default();
        settings.phase2.sgd.batch = 0;
        assert_eq!(settings.validate(), Err(("phase2.sgd.batch".into(), "use 1 to 65536")));
        settings.phase2.clean_share = 0.0;
        assert_eq!(settings.validate(), Err(("phase2.clean-share".into(), "use a number above 0, up to 1")));
        settings.phase1.crop_scale = f64::NAN;
        assert_eq!(settings.validate(), Err(("phase1.crop-scale".into(), "use a number above 0, up to 1")));
    }

    /// The paths and values of all numbers.
    fn numbers(path: &str, value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                fields.iter().for_each(|(key, value)| numbers(&format!("{path}/{key}"), value, found));
            }
            Value::Number(_) => found.push(path.to_owned()),
            _ => {}
        }
    }

    /// With `epochs = 2147483648` a training had three steps, without any error message.
    #[test]
    fn every_number_that_is_too_large_or_negative_is_refused_with_its_name_and_range() {
        let default = serde_json::to_value(Settings::default()).unwrap();
        let mut paths = Vec::new();
        numbers("", &default, &mut paths);
        assert!(paths.len() >= 25, "{paths:?}");
        for path in paths {
            let whole = default.pointer(&path).unwrap().is_u64();
            let bad = match whole {
                true => vec![json!(1u64 << 31), json!(u32::MAX), json!(1u64 << 32), json!(u64::MAX), json!(-1)],
                false => vec![json!(1e300), json!(2147483648.0), json!(-1.0), json!(-1e-9)],
            };
            for value in bad {
                let mut settings = default.clone();
                *settings.pointer_mut(&path).unwrap() = value.clone();
                let settings: Settings = serde_json::from_value(settings).unwrap();
                let key = path[1..].replace('/', ".");
                let Err((named, told)) = settings.validate() else { panic!("{key} = {value} is taken") };
                assert!(named == key && told.starts_with("use "), "{key} = {value}: {named}: {told}");
            }
        }
    }

    #[test]
    fn a_fraction_is_no_count() {
        let parsed = serde_json::from_value::<Settings>(json!({ "phase1": { "iterations": 1.5 } }));
        assert!(parsed.unwrap_err().to_string().contains("expected a whole number"));
    }
}
