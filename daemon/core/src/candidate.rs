//! The models that a round makes: the two that it trains, and the candidates that come of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use strum::{Display, EnumIter};

/// Name of a candidate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Display, EnumIter)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum CandidateName {
    /// The pretrained model, which was not trained.
    ZeroShot,
    /// Phase I of the first model.
    Phase1Model1,
    /// Phase I of the second model.
    Phase1Model2,
    /// Phase II of the first model.
    Model1,
    /// Phase II of the second model.
    Model2,
    /// The mean of the weights of both models.
    Average,
    /// That mean, half way back to the pretrained weights.
    AverageHalf,
    /// A candidate in the report of another version of coft, with its name.
    #[serde(untagged)]
    #[strum(default)]
    Other(String),
}

/// One of the two models that a round trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelIndex {
    /// Model 1.
    First,
    /// Model 2.
    Second,
}

impl ModelIndex {
    /// Both models, in order.
    pub const BOTH: [Self; 2] = [Self::First, Self::Second];

    /// Its place in a list of what belongs to each model.
    pub fn index(self) -> usize {
        self as usize
    }
}

/// Its number, from 1.
impl fmt::Display for ModelIndex {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        (self.index() + 1).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use strum::IntoEnumIterator;

    /// Reports, settings and scripts use these words.
    #[test]
    fn words_stay_as_they_are() {
        let known = CandidateName::iter().filter(|name| !matches!(name, CandidateName::Other(_)));
        let words: Vec<String> = known.clone().map(|name| name.to_string()).collect();
        let expected = "zero-shot phase1-model1 phase1-model2 model1 model2 average average-half";
        assert_eq!(words.join(" "), expected);
        for name in known {
            let json = serde_json::to_value(&name).unwrap();
            assert_eq!(json, name.to_string());
            assert_eq!(serde_json::from_value::<CandidateName>(json).unwrap(), name);
        }
    }

    #[test]
    fn a_name_of_another_version_is_read_and_written_as_it_is() {
        let json = "\"average-of-three\"";
        let name: CandidateName = serde_json::from_str(json).unwrap();
        assert_eq!(name, CandidateName::Other("average-of-three".into()));
        assert_eq!(
            (serde_json::to_string(&name).unwrap().as_str(), name.to_string().as_str()),
            (json, "average-of-three")
        );
    }

    #[test]
    fn models_are_numbered_from_1_and_placed_from_0() {
        assert_eq!(
            ModelIndex::BOTH.map(|model| (model.to_string(), model.index())),
            [("1".into(), 0), ("2".into(), 1)]
        );
    }
}
