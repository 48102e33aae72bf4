//! Decides how a configuration that was read again can be used. Settings for later rounds, the schedule and the
//! thresholds apply without a start. What a classifier has opened, watched or exported once needs a start of that
//! classifier, while the others go on. Settings of the service as a whole apply only after the service is started
//! again.

use super::classifiers::OF_THE_SERVICE;
use super::{Config, Loaded};
use crate::model;
use std::collections::BTreeSet;
use toml::{Table, Value};

impl Loaded {
    /// Whether the files have the same texts.
    pub fn is_same_text(&self, other: &Loaded) -> bool {
        self.texts().eq(other.texts())
    }

    /// The settings that differ between `self` and `new`.
    ///
    /// # Errors
    /// The changed settings that need a restart of the service; then no setting of `new` may be used.
    pub fn changed_to(&self, new: &Loaded) -> Result<Vec<String>, Vec<String>> {
        let is_fixed = |key: &String| OF_THE_SERVICE.iter().any(|of| key == of || key.starts_with(&format!("{of}.")));
        let (fixed, changed): (Vec<_>, Vec<_>) = differing(&self.text, &new.text).into_iter().partition(is_fixed);
        let (old, now) = (&self.config, &new.config);
        // A setting may be written differently and mean the same.
        let of_the_service = |config: &Config| {
            (config.state_dir.clone(), config.bus.clone(), config.decode.clone(), config.serve.memory)
        };
        if of_the_service(old) != of_the_service(now) {
            return Err(if fixed.is_empty() { vec!["what a path names".into()] } else { fixed });
        }
        let mut changed = if old == now { Vec::new() } else { changed };
        for other in &new.others {
            let before = self.others.iter().find(|before| before.path == other.path);
            let keys = differing(before.map_or("", |before| &before.text), &other.text);
            let is_same = before.is_some_and(|before| before.config == other.config);
            let keys = keys.into_iter().filter(|_| !is_same).map(|key| format!("{}{key}", other.config.prefix()));
            changed.extend(keys);
            if before.is_none() {
                changed.push(format!("{}new", other.config.prefix()));
            }
        }
        let is_gone = |before: &&super::Other| new.others.iter().all(|other| other.path != before.path);
        changed.extend(self.others.iter().filter(is_gone).map(|gone| format!("{}removed", gone.config.prefix())));
        Ok(changed)
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        [self.text.as_str()].into_iter().chain(self.others.iter().map(|other| other.text.as_str()))
    }
}

impl Config {
    /// This configuration, with those settings of `new` that apply without a start.
    pub fn with_changes_of(&self, new: &Config) -> Config {
        let model::Settings { thresholds, given_labels, .. } = new.classifier.clone();
        let classifier = model::Settings { thresholds, given_labels, ..self.classifier.clone() };
        let Config { schedule, round, training, import, .. } = new.clone();
        Config { classifier, schedule, round, training, import, ..self.clone() }
    }
}

/// Keys of the settings whose values differ between two texts.
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
        Loaded { config, text: text.to_owned(), others: Vec::new(), unusable: Vec::new() }
    }

    fn changed(old: &str, new: &str) -> Result<Vec<String>, Vec<String>> {
        loaded(old).changed_to(&loaded(new))
    }

    #[test]
    fn settings_that_are_others_are_named() {
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
    fn what_belongs_to_the_service_is_refused_by_name_and_with_it_the_rest() {
        for (new, key) in [
            ("bus = \"session\"\n", "bus"),
            ("state-dir = \"/b\"\n", "state-dir"),
            ("[decode]\nmemory = \"64MiB\"\n", "decode.memory"),
            ("[serve]\nmemory = \"64MiB\"\n", "serve.memory"),
        ] {
            let with_another = format!("{new}[schedule]\nnew-images = 50\n");
            assert_eq!(changed("", &with_another), Err(vec![key.to_owned()]), "{new}");
        }
    }

    #[test]
    fn rounds_to_come_and_thresholds_need_no_start() {
        let needs_start = |new: &str| {
            let [old, new] = ["", new].map(|text| loaded(text).config);
            old.with_changes_of(&new) != new
        };
        assert!(!needs_start("[schedule]\nnew-images = 50\n[classifier]\nthresholds = { nut = 0.7 }\n"));
        assert!(!needs_start("[round]\nmethod = \"coft-plus\"\n[training]\ndeploy = \"average\"\n"));
        for new in [
            "[classifier]\nlabels = \"l\"\n",
            "[classifier]\nshares = { nut = 0.9 }\n",
            "[[source]]\npath = \"/a\"\n",
            "[ingest]\nmost-images = 20\n",
            "[serve]\nproviders = [\"cpu\"]\n",
        ] {
            assert!(needs_start(new), "{new}");
        }
    }

    #[test]
    fn the_same_in_other_words_is_no_change() {
        let old = "[[source]]\npath = \"/a\"\n";
        let new =
            "# A camera.\nstate-dir = \"/var/lib/coft/\"\n[[source]]\npath = \"/a/.\"\nquiet-period = \"2000ms\"\n";
        assert_eq!(changed(old, new), Ok(vec![]));
        assert_eq!(changed(old, &format!("{new}[schedule]\nnew-images = 200\n")), Ok(vec![]), "the default");
    }
}
