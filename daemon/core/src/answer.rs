//! What the answers about a source's pictures mean: the label of each, whether it is doubtful, and the state that the
//! latest pictures show together.

use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// The label of a picture that looks like none of the classes, where the user has switched that label on.
pub const NONE_OF_THESE: &str = "none-of-these";
/// The state where the latest pictures do not agree on one.
pub const UNKNOWN: &str = "unknown";

/// An answer is doubtful where its label has less than this probability. 0.6 [choice], see docs/decisions/0019.
pub const SURE: f64 = 0.6;

/// Whether a label of this calibrated probability is doubtful.
pub fn is_doubtful(probability: f64) -> bool {
    // Every comparison with NaN is false.
    !matches!(probability.partial_cmp(&SURE), Some(std::cmp::Ordering::Greater | std::cmp::Ordering::Equal))
}

/// Difference between the largest and the second largest probability; `probabilities` are sorted, the largest first.
pub fn margin(probabilities: impl IntoIterator<Item = f64>) -> f64 {
    let mut best = probabilities.into_iter();
    best.next().unwrap_or_default() - best.next().unwrap_or_default()
}

/// `[source.state]` of the configuration: when the latest pictures of a source make a state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct StateRule {
    /// Number of pictures that are looked at, the latest ones; 1 to 1000. 5 [choice].
    pub window: u32,
    /// Number of these pictures that must have the same label; 1 to `window`. 3 [choice].
    pub agree: u32,
    /// Least mean probability of the pictures with that label; 0 to 1. 0.6 [choice].
    pub minimum_probability: f64,
}

impl Default for StateRule {
    fn default() -> Self {
        Self { window: 5, agree: 3, minimum_probability: 0.6 }
    }
}

/// What a picture shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Its label: the decision where thresholds are set, otherwise the most likely class, or [`NONE_OF_THESE`].
    pub label: String,
    /// `None` for a picture that looks like none of the classes, because that label has no probability.
    pub probability: Option<f64>,
}

impl StateRule {
    /// Whether all values are within their ranges.
    ///
    /// # Errors
    /// The name of the first value that is out of range, and what to write instead.
    pub fn validate(&self) -> Result<(), (&'static str, &'static str)> {
        if !(1..=1000).contains(&self.window) {
            Err(("window", "use 1 to 1000"))
        } else if !(1..=self.window).contains(&self.agree) {
            Err(("agree", "use 1 or more, and no more than window"))
        } else if !(0.0..=1.0).contains(&self.minimum_probability) {
            Err(("minimum-probability", "use 0 to 1"))
        } else {
            Ok(())
        }
    }

    /// The state that pictures show, the latest picture first; `None` where it is unknown. If enough pictures agree on
    /// several labels, the most frequent label counts, and of equally frequent ones the one that was seen last. A label
    /// that is not in `classes` is ignored: a generation with other classes gave it.
    pub fn state<'a>(&self, latest: &'a [Seen], classes: &[String]) -> Option<&'a str> {
        let window = &latest[..latest.len().min(self.window as usize)];
        let (mut looked_at, mut found) = (HashSet::new(), None::<(usize, &str)>);
        for Seen { label, .. } in
            window.iter().filter(|seen| seen.probability.is_none() || classes.contains(&seen.label))
        {
            if !looked_at.insert(label) {
                continue;
            }
            let alike = window.iter().filter(|seen| seen.label == *label);
            let (count, sum) =
                alike.fold((0, 0.0), |(count, sum), seen| (count + 1, sum + seen.probability.unwrap_or(1.0)));
            let is_state = count >= self.agree as usize && sum / count as f64 >= self.minimum_probability;
            if is_state && found.is_none_or(|(most, _)| count > most) {
                found = Some((count, label));
            }
        }
        found.map(|(_, label)| label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pictures, the latest first, all with the same probability: `f` full, `e` empty, `-` none of the classes, `x` a
    /// label of other classes.
    fn seen(pictures: &str, probability: f64) -> Vec<Seen> {
        let seen = |letter| match letter {
            'f' => Seen { label: "full".into(), probability: Some(probability) },
            'e' => Seen { label: "empty".into(), probability: Some(probability) },
            'x' => Seen { label: "nut".into(), probability: Some(probability) },
            _ => Seen { label: NONE_OF_THESE.into(), probability: None },
        };
        pictures.chars().map(seen).collect()
    }

    fn classes() -> Vec<String> {
        ["full", "empty"].map(str::to_owned).into()
    }

    #[test]
    fn what_the_latest_pictures_show_together() {
        let rule = StateRule::default();
        let check = |pictures: &str, probability: f64, state: Option<&str>| {
            let seen = seen(pictures, probability);
            assert_eq!(rule.state(&seen, &classes()), state, "{pictures} at {probability}");
        };
        check("", 0.9, None);
        check("ff", 0.9, None);
        check("fff", 0.9, Some("full"));
        check("fefef", 0.9, Some("full"));
        check("efefe", 0.9, Some("empty"));
        // One wrong picture changes nothing, and three change the state.
        check("effff", 0.9, Some("full"));
        check("eefff", 0.9, Some("full"));
        check("eeeff", 0.9, Some("empty"));
        // Pictures that are older than the window do not count.
        check("feffeeeeeeeee", 0.9, Some("full"));
        check("fe-fefff", 0.9, None);
        // Pictures with a low probability make no state.
        check("fffff", 0.59, None);
        check("fffff", 0.6, Some("full"));
        // "None of the classes" is a state too, and has no probability.
        check("---", 0.1, Some(NONE_OF_THESE));
        check("f-f--", 0.9, Some(NONE_OF_THESE));
        // Labels that a generation with other classes gave.
        check("xxxxx", 0.9, None);
        check("fxxxf", 0.9, None);
        check("fffxx", 0.9, Some("full"));
        check("fffff", f64::NAN, None);
    }

    #[test]
    fn the_mean_is_of_the_pictures_that_agree() {
        let mut pictures = seen("fffee", 0.9);
        pictures[0].probability = Some(0.2);
        assert_eq!(StateRule::default().state(&pictures, &classes()), Some("full"), "(0.2 + 0.9 + 0.9) / 3 is 0.67");
        pictures[1].probability = Some(0.6);
        assert_eq!(StateRule::default().state(&pictures, &classes()), None, "(0.2 + 0.6 + 0.9) / 3 is 0.57");
    }

    #[test]
    fn of_two_labels_that_enough_pictures_have_most_count_and_then_the_latest() {
        let rule = StateRule { window: 5, agree: 2, minimum_probability: 0.0 };
        assert_eq!(rule.state(&seen("eefff", 0.9), &classes()), Some("full"));
        assert_eq!(rule.state(&seen("eeff", 0.9), &classes()), Some("empty"));
        assert_eq!(rule.state(&seen("ffee", 0.9), &classes()), Some("full"));
    }

    #[test]
    fn a_rule_that_cannot_be_is_named() {
        let rule = StateRule::default();
        assert_eq!(rule.validate(), Ok(()));
        assert_eq!(StateRule { window: 0, ..rule.clone() }.validate().unwrap_err().0, "window");
        assert_eq!(StateRule { window: 2, ..rule.clone() }.validate().unwrap_err().0, "agree");
        assert_eq!(StateRule { agree: 0, ..rule.clone() }.validate().unwrap_err().0, "agree");
        for minimum_probability in [-0.1, 1.1, f64::NAN] {
            assert_eq!(
                StateRule { minimum_probability, ..rule.clone() }.validate().unwrap_err().0,
                "minimum-probability"
            );
        }
    }

    #[test]
    fn an_answer_is_doubtful_below_three_fifths() {
        for (probability, doubtful) in [(0.0, true), (0.599, true), (0.6, false), (1.0, false), (f64::NAN, true)] {
            assert_eq!(is_doubtful(probability), doubtful, "{probability}");
        }
    }

    #[test]
    fn the_margin_is_between_the_two_likeliest() {
        assert_eq!(margin([0.75, 0.25]), 0.5);
        assert_eq!(margin([1.0]), 1.0);
        assert_eq!(margin([]), 0.0);
    }
}
