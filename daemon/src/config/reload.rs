//! What of a configuration that was read again can be used without a restart: all that rounds to come are made from,
//! when they start, and the thresholds. What is opened, watched or exported once stays until the next start.

use super::{Config, Loaded};
use crate::model;
use std::collections::BTreeSet;
use toml::{Table, Value};

/// Sections and settings that are used at once.
const AT_ONCE: [&str; 7] =
    ["schedule", "round", "training", "settings", "import", "classifier.thresholds", "classifier.given-labels"];

impl Loaded {
    /// Whether the file had the same text.
    pub fn is_same_text(&self, other: &Loaded) -> bool {
        self.text == other.text
    }

    /// The settings of `new` that are others than here and can be used at once.
    ///
    /// # Errors
    /// The settings that are others and need a restart; then none is to be used.
    pub fn changed_to(&self, new: &Loaded) -> Result<Vec<String>, Vec<String>> {
        let is_at_once = |key: &String| {
            AT_ONCE
                .iter()
                .any(|known| key.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
        };
        let (changed, mut fixed): (Vec<_>, Vec<_>) = differing(&self.text, &new.text).into_iter().partition(is_at_once);
        // A setting may be written otherwise and mean the same.
        if self.config.with_changes_of(&new.config) == new.config {
            return Ok(changed);
        }
        if fixed.is_empty() {
            fixed.push("what a path names".into());
        }
        Err(fixed)
    }
}

impl Config {
    fn with_changes_of(&self, new: &Config) -> Config {
        let model::Settings { thresholds, given_labels, .. } = new.classifier.clone();
        let classifier = model::Settings { thresholds, given_labels, ..self.classifier.clone() };
        let Config { schedule, round, training, import, .. } = new.clone();
        Config { classifier, schedule, round, training, import, ..self.clone() }
    }
}

/// Keys of the settings that two texts write differently.
fn differing(old: &str, new: &str) -> BTreeSet<String> {
    let table = |text: &str| text.parse::<Table>().unwrap_or_default();
    let mut keys = BTreeSet::new();
    compare("", &table(old), &table(new), &mut keys);
    keys
}

fn compare(section: &str, old: &Table, new: &Table, keys: &mut BTreeSet<String>) {
    for name in old.keys().chain(new.keys()) {
        let key = if section.is_empty() { name.clone() } else { format!("{section}.{name}") };
        match (old.get(name), new.get(name)) {
            (Some(Value::Table(old)), Some(Value::Table(new))) => compare(&key, old, new, keys),
            (Some(Value::Table(table)), None) | (None, Some(Value::Table(table))) => {
                compare(&key, table, &Table::new(), keys);
            }
            (old, new) if old == new => {}
            _ => drop(keys.insert(key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn loaded(text: &str) -> Loaded {
        let mut config = Config::parse(text).unwrap();
        config.resolve(Path::new("/etc/coft"));
        Loaded { config, text: text.to_owned() }
    }

    fn changed(old: &str, new: &str) -> Result<Vec<String>, Vec<String>> {
        loaded(old).changed_to(&loaded(new))
    }

    #[test]
    fn rounds_to_come_and_thresholds_are_used_at_once() {
        let old = "[schedule]\nnew-images = 200\n[classifier]\nthresholds = { nut = 0.5 }\n";
        let new = "[schedule]\nnew-images = 50\nautomatic = false\n[classifier]\nthresholds = { nut = 0.7 }\n\
                   given-labels = \"g.csv\"\n[round]\nmethod = \"coft-plus\"\n[training]\ndeploy = \"average\"\n\
                   [training.phase1]\nlambda = 0.5\n[import]\ntrusted-key = \"k.pem\"\n";
        let keys = [
            "classifier.given-labels",
            "classifier.thresholds.nut",
            "import.trusted-key",
            "round.method",
            "schedule.automatic",
            "schedule.new-images",
            "training.deploy",
            "training.phase1.lambda",
        ];
        assert_eq!(changed(old, new).unwrap(), keys);
        assert_eq!(changed(new, old).unwrap(), keys);
    }

    #[test]
    fn what_is_opened_at_the_start_is_refused_by_name_and_with_it_the_rest() {
        for (new, key) in [
            ("bus = \"session\"\n", "bus"),
            ("state-dir = \"/b\"\n", "state-dir"),
            ("[classifier]\nlabels = \"l\"\n", "classifier.labels"),
            ("[classifier]\nshares = { nut = 0.9 }\n", "classifier.shares.nut"),
            ("[[source]]\npath = \"/a\"\n", "source"),
            ("[ingest]\nmost-images = 20\n", "ingest.most-images"),
            ("[decode]\nmemory = \"64MiB\"\n", "decode.memory"),
            ("[serve]\nproviders = [\"cpu\"]\n", "serve.providers"),
        ] {
            let with_another = format!("{new}[schedule]\nnew-images = 50\n");
            assert_eq!(changed("", &with_another), Err(vec![key.to_owned()]), "{new}");
        }
    }

    #[test]
    fn the_same_in_other_words_is_no_change() {
        let old = "[[source]]\npath = \"/a\"\n";
        let new =
            "# A camera.\nstate-dir = \"/var/lib/coft/\"\n[[source]]\npath = \"/a/.\"\nquiet-period = \"2000ms\"\n";
        assert_eq!(changed(old, new), Ok(vec![]));
        let told = changed(old, &format!("{new}[schedule]\nnew-images = 200\n"));
        assert_eq!(told, Ok(vec!["schedule.new-images".to_owned()]), "harmless");
    }
}
