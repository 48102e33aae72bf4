//! Reads the answers about a source's pictures: by their order, by a filter, or as counts.

use super::answers::WITH_LATER;
use super::{Catalog, CatalogError, path_of};
use crate::observation::{Observation, ObservationFilter, Said};
use coft_core::ids::{GenerationId, ImageId};
use rusqlite::types::Value;
use rusqlite::{Row, params_from_iter};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const HOUR_SECONDS: i64 = 60 * 60;

const CHANGED: &str = "later.label IS NOT NULL AND later.label <> answers.label";

const UNCHANGED: &str = "(later.label IS NULL OR later.label = answers.label)";

impl Catalog {
    /// The answers of a source that follow a sequence number, in their order.
    pub async fn observations(
        &self,
        source: &Path,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Observation>, CatalogError> {
        let conditions = vec![("sequence > ?", Some(Value::from(signed(after))))];
        self.select(source, "", conditions, "ASC", limit).await
    }

    /// The answers of a source that match a filter, the latest first.
    pub async fn find_observations(
        &self,
        source: &Path,
        filter: ObservationFilter,
        limit: usize,
    ) -> Result<Vec<Observation>, CatalogError> {
        let ObservationFilter { label, doubtful, since, before, generation, classifier, changed } = filter;
        // Without the hint, SQLite reads all answers in their order.
        let index = match (&label, doubtful) {
            (Some(_), _) => "INDEXED BY answers_by_label",
            (None, Some(_)) => "INDEXED BY answers_by_doubt",
            (None, None) => "",
        };
        let conditions = [
            label.map(|label| ("answers.label = ?", Some(Value::from(label)))),
            doubtful.map(|doubtful| ("doubtful = ?", Some(Value::from(doubtful)))),
            since.map(|since| ("time >= ?", Some(Value::from(since)))),
            before.map(|before| ("sequence < ?", Some(Value::from(signed(before))))),
            generation.map(|generation| ("answers.generation = ?", Some(Value::from(signed(generation))))),
            classifier.map(|classifier| ("classifier = ?", Some(Value::from(classifier)))),
            changed.map(|changed| (if changed { CHANGED } else { UNCHANGED }, None)),
        ];
        let conditions = conditions.into_iter().flatten().collect();
        self.select(source, index, conditions, "DESC", limit).await
    }

    async fn select(
        &self,
        source: &Path,
        index: &'static str,
        conditions: Vec<(&'static str, Option<Value>)>,
        order: &'static str,
        limit: usize,
    ) -> Result<Vec<Observation>, CatalogError> {
        let source = Value::Blob(source.as_os_str().as_bytes().to_vec());
        self.ask(move |db| {
            let named: String = conditions.iter().map(|(condition, _)| format!(" AND {condition}")).collect();
            let mut statement = db.prepare_cached(&format!(
                "SELECT answers.*, later.generation AS later_generation, later.label AS later_label,
                     later.probability AS later_probability
                 FROM answers {index} {WITH_LATER}
                 WHERE answers.source = (SELECT id FROM observed WHERE source = ?){named}
                 ORDER BY sequence {order} LIMIT ?"
            ))?;
            let values = conditions.into_iter().filter_map(|(_, value)| value);
            let values = [source].into_iter().chain(values).chain([Value::from(limit as i64)]);
            statement.query_map(params_from_iter(values), observation)?.collect()
        })
        .await
    }

    /// The labels that a generation has given to the latest `most` pictures of these sources, each with its image.
    /// Pictures that it has not answered are left out.
    pub async fn labels_by(
        &self,
        generation: GenerationId,
        sources: Vec<PathBuf>,
        most: u64,
    ) -> Result<Vec<(ImageId, String)>, CatalogError> {
        let mut values = vec![Value::from(signed(generation.0)), Value::from(signed(most))];
        values.extend(sources.iter().map(|source| Value::Blob(source.as_os_str().as_bytes().to_vec())));
        self.ask(move |db| {
            let named: Vec<String> = (3..=values.len()).map(|number| format!("?{number}")).collect();
            let mut statement = db.prepare_cached(&format!(
                "SELECT image, iif(latest.generation = ?1, latest.label, later.label) AS answer
                 FROM (SELECT * FROM answers WHERE source IN (SELECT id FROM observed WHERE source IN ({}))
                     ORDER BY time DESC, arrival DESC LIMIT ?2) AS latest
                 LEFT JOIN later_answers AS later ON later.generation = ?1
                     AND later.source = latest.source AND later.arrival = latest.arrival
                 WHERE answer IS NOT NULL",
                named.join(", ")
            ))?;
            let labels =
                statement.query_map(params_from_iter(values), |row| Ok((ImageId(row.get(0)?), row.get(1)?)))?;
            labels.collect()
        })
        .await
    }

    /// Number of answers of each label in each hour, the hours in their order and the most frequent label first. An
    /// hour is given by its beginning, Unix time, s. Only whole hours are counted, so that the query reads nothing but
    /// counts.
    pub async fn count_observations(
        &self,
        source: &Path,
        filter: ObservationFilter,
    ) -> Result<Vec<(i64, String, u64)>, CatalogError> {
        let source = Value::Blob(source.as_os_str().as_bytes().to_vec());
        let ObservationFilter { label, doubtful, since, generation, before: _, classifier: _, changed: _ } = filter;
        let label = label.map(|label| ("label = ?", Value::from(label)));
        let doubtful = doubtful.map(|doubtful| ("doubtful = ?", Value::from(doubtful)));
        let since = since.map(|since| ("hour >= ?", Value::from(since - since.rem_euclid(HOUR_SECONDS))));
        let generation = generation.map(|generation| ("generation = ?", Value::from(signed(generation))));
        let conditions: Vec<_> = [label, doubtful, since, generation].into_iter().flatten().collect();
        self.ask(move |db| {
            let named: String = conditions.iter().map(|(condition, _)| format!(" AND {condition}")).collect();
            let mut statement = db.prepare_cached(&format!(
                "SELECT hour, label, sum(answers) FROM answered
                 WHERE source = (SELECT id FROM observed WHERE source = ?){named}
                 GROUP BY hour, label ORDER BY hour, sum(answers) DESC, label"
            ))?;
            let values = [source].into_iter().chain(conditions.into_iter().map(|(_, value)| value));
            let counts =
                statement.query_map(params_from_iter(values), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            counts.collect()
        })
        .await
    }
}

fn observation(row: &Row<'_>) -> rusqlite::Result<Observation> {
    let labels: String = row.get("labels")?;
    Ok(Observation {
        sequence: row.get("sequence")?,
        image: ImageId(row.get("image")?),
        path: path_of(row.get("path")?),
        // Text that another version wrote and that cannot be parsed counts as no labels.
        labels: serde_json::from_str(&labels).unwrap_or_default(),
        time: row.get("time")?,
        classifier: row.get("classifier")?,
        generation: GenerationId(row.get("generation")?),
        margin: row.get("margin")?,
        doubtful: row.get("doubtful")?,
        none_of_these: row.get("none_of_these")?,
        decision: row.get("decision")?,
        later: later(row)?,
    })
}

fn later(row: &Row<'_>) -> rusqlite::Result<Option<(GenerationId, Said)>> {
    let Some(generation) = row.get::<_, Option<u64>>("later_generation")? else { return Ok(None) };
    let said = Said { label: row.get("later_label")?, probability: row.get("later_probability")? };
    Ok(Some((GenerationId(generation), said)))
}

/// Converts a number from a client; the catalogue holds no larger number.
pub fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
