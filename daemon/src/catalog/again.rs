//! Later answers: what a generation that starts to serve says of the latest pictures, which earlier generations have
//! answered. This covers the pictures that it has to answer again, its answers, and how two generations differ.

use super::answers::{Answer, Unanswered, restate};
use super::observations::signed;
use super::{Catalog, CatalogError, path_of};
use crate::observation::{Difference, GenerationDiff, Said};
use coft_core::answer::StateRule;
use coft_core::ids::{GenerationId, ImageId};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

/// Maximum number of generations whose later answers are kept: the one that serves and the latest others. 8 [choice]:
/// about as many as the store keeps.
const GENERATIONS: i64 = 8;

/// Pictures that both generations have answered, with the labels that counted. A picture has only one first answer, so
/// at least one of the two answers is a later one, and later answers are few. Arguments: the two generations.
const BOTH: &str = "
    WITH pairs (source, arrival, old_label, old_probability, new_label, new_probability, new_margin) AS (
        SELECT old.source, old.arrival, old.label, old.probability, new.label, new.probability, new.margin
        FROM later_answers AS new CROSS JOIN answers AS old USING (source, arrival)
        WHERE new.generation = ?2 AND old.generation = ?1
        UNION ALL
        SELECT old.source, old.arrival, old.label, old.probability, new.label, new.probability, new.margin
        FROM later_answers AS old CROSS JOIN answers AS new USING (source, arrival)
        WHERE old.generation = ?1 AND new.generation = ?2
        UNION ALL
        SELECT old.source, old.arrival, old.label, old.probability, new.label, new.probability, new.margin
        FROM later_answers AS old CROSS JOIN later_answers AS new USING (source, arrival)
        WHERE old.generation = ?1 AND new.generation = ?2
    )";

impl Catalog {
    /// Records that a generation with these classes serves. Of the latest `most` pictures of the sources, those that
    /// other generations have answered then wait for its answer. Pictures that wait for another generation wait no
    /// more. The state of each source is computed from this generation's answers, as far as it has given some. If the
    /// generation serves already, nothing changes.
    pub async fn serves(
        &self,
        generation: GenerationId,
        classes: Arc<[String]>,
        sources: Vec<PathBuf>,
        most: u64,
        rules: Arc<HashMap<PathBuf, StateRule>>,
    ) -> Result<(), CatalogError> {
        let generation = signed(generation.0);
        self.ask(move |db| {
            let transaction = db.transaction()?;
            let is_known = "UPDATE serving SET generation = ?1 WHERE generation <> ?1";
            if transaction.execute(is_known, [generation])? == 0 {
                return Ok(());
            }
            transaction.execute("DELETE FROM unanswered_again", [])?;
            forget_generations(&transaction, generation)?;
            let mut ids = Vec::new();
            for source in &sources {
                let id: Option<i64> = transaction
                    .prepare_cached("SELECT id FROM observed WHERE source = ?1")?
                    .query_row([source.as_os_str().as_bytes()], |row| row.get(0))
                    .optional()?;
                let Some(id) = id else { continue };
                restate(&transaction, id, &rules.get(source).cloned().unwrap_or_default(), &classes)?;
                ids.push(id.to_string());
            }
            transaction.execute(
                &format!(
                    "INSERT INTO unanswered_again
                     SELECT source, arrival, image, time FROM
                         (SELECT * FROM answers WHERE source IN ({}) ORDER BY time DESC, arrival DESC
                          LIMIT ?2) AS latest
                     WHERE generation <> ?1 AND NOT EXISTS
                         (SELECT 1 FROM later_answers AS later WHERE later.generation = ?1
                          AND later.source = latest.source AND later.arrival = latest.arrival)",
                    ids.join(", ")
                ),
                params![generation, signed(most)],
            )?;
            transaction.commit()
        })
        .await
    }

    /// Number of pictures that the generation which serves has not answered again yet.
    pub async fn waiting_again(&self) -> Result<u64, CatalogError> {
        self.ask(|db| db.query_row("SELECT waiting FROM serving", [], |row| row.get(0))).await
    }

    /// Pictures that the generation which serves has not answered again yet, the latest first.
    pub async fn unanswered_again(&self, limit: usize) -> Result<Vec<Unanswered>, CatalogError> {
        self.ask(move |db| {
            let mut statement = db.prepare_cached(
                "SELECT observed.source, unanswered_again.arrival, image
                 FROM unanswered_again JOIN observed ON observed.id = unanswered_again.source
                 ORDER BY time DESC, unanswered_again.arrival DESC LIMIT ?1",
            )?;
            let found = statement.query_map([limit as i64], |row| {
                Ok(Unanswered { source: path_of(row.get(0)?), arrival: row.get(1)?, image: ImageId(row.get(2)?) })
            })?;
            found.collect()
        })
        .await
    }

    /// Stores later answers, all of them or none, and the new states of the sources. Skips answers that no picture
    /// waits for any more. `lost` are pictures that cannot be answered again.
    pub async fn answer_again(
        &self,
        answers: Vec<Answer>,
        lost: Vec<Unanswered>,
        rules: Arc<HashMap<PathBuf, StateRule>>,
    ) -> Result<(), CatalogError> {
        self.ask(move |db| {
            let transaction = db.transaction()?;
            let mut changed: BTreeMap<i64, &Answer> = BTreeMap::new();
            for answer in &answers {
                let serves = "SELECT generation = ?1 FROM serving";
                if !transaction.prepare_cached(serves)?.query_row([answer.generation.0], |row| row.get(0))? {
                    continue;
                }
                let Some(source) = remove(&transaction, &answer.source, answer.arrival)? else { continue };
                let Answer { generation, arrival, label, probability, margin, .. } = answer;
                transaction
                    .prepare_cached("INSERT INTO later_answers VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
                    .execute(params![generation.0, source, arrival, label, probability, margin])?;
                changed.insert(source, answer);
            }
            for picture in &lost {
                remove(&transaction, &picture.source, picture.arrival)?;
            }
            for (source, answer) in changed {
                let rule = rules.get(&answer.source).cloned().unwrap_or_default();
                restate(&transaction, source, &rule, &answer.classes)?;
            }
            transaction.commit()
        })
        .await
    }

    /// Where two generations differ on the pictures that both have answered; each list has at most `limit` pictures.
    pub async fn compare(
        &self,
        old: GenerationId,
        new: GenerationId,
        limit: usize,
    ) -> Result<GenerationDiff, CatalogError> {
        self.ask(move |db| {
            let of = (signed(old.0), signed(new.0));
            let count = format!("{BOTH} SELECT count(*), coalesce(sum(old_label <> new_label), 0) FROM pairs");
            let (compared, changed) = db.prepare_cached(&count)?.query_row(of, |row| Ok((row.get(0)?, row.get(1)?)))?;
            let moves = format!(
                "{BOTH} SELECT old_label, new_label, count(*) FROM pairs WHERE old_label <> new_label
                 GROUP BY old_label, new_label ORDER BY count(*) DESC, old_label, new_label"
            );
            let mut moves = db.prepare_cached(&moves)?;
            let moves = moves.query_map(of, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            // "None of the classes" has no probability: it counts as neither sure nor unsure.
            let sure = "min(coalesce(old_probability, 0.5), coalesce(new_probability, 0.5)) DESC";
            let changes = pictures(db, "WHERE old_label <> new_label", sure, of, limit)?;
            let unsure = pictures(db, "", "new_margin", of, limit)?;
            let waiting = "SELECT waiting FROM serving WHERE generation = ?1";
            let waiting = db.query_row(waiting, [of.1], |row| row.get(0)).optional()?.unwrap_or(0);
            let moves = moves.collect::<Result<_, _>>()?;
            Ok(GenerationDiff { compared, changed, waiting, moves, changes, unsure })
        })
        .await
    }
}

/// Stops waiting for a later answer about a picture. Returns the source's id; none if the picture did not wait.
fn remove(db: &Connection, source: &std::path::Path, arrival: u64) -> rusqlite::Result<Option<i64>> {
    db.prepare_cached(
        "DELETE FROM unanswered_again WHERE source = (SELECT id FROM observed WHERE source = ?1) AND arrival = ?2
         RETURNING source",
    )?
    .query_row(params![source.as_os_str().as_bytes(), arrival], |row| row.get(0))
    .optional()
}

fn forget_generations(db: &Connection, serving: i64) -> rusqlite::Result<usize> {
    db.execute(
        "DELETE FROM later_answers WHERE generation <> ?1 AND generation NOT IN
         (SELECT DISTINCT generation FROM later_answers WHERE generation <> ?1 ORDER BY generation DESC LIMIT ?2)",
        [serving, GENERATIONS - 1],
    )
}

fn pictures(
    db: &Connection,
    condition: &str,
    order: &str,
    of: (i64, i64),
    limit: usize,
) -> rusqlite::Result<Vec<Difference>> {
    let mut statement = db.prepare_cached(&format!(
        "{BOTH} SELECT observed.source, image, path, time, old_label, old_probability, new_label, new_probability,
             new_margin
         FROM pairs JOIN answers USING (source, arrival)
         JOIN observed ON observed.id = pairs.source
         {condition} ORDER BY {order}, time DESC LIMIT ?3"
    ))?;
    let found = statement.query_map(params![of.0, of.1, limit as i64], difference)?;
    found.collect()
}

fn difference(row: &Row<'_>) -> rusqlite::Result<Difference> {
    Ok(Difference {
        source: path_of(row.get("source")?),
        image: ImageId(row.get("image")?),
        path: path_of(row.get("path")?),
        time: row.get("time")?,
        old: Said { label: row.get("old_label")?, probability: row.get("old_probability")? },
        new: Said { label: row.get("new_label")?, probability: row.get("new_probability")? },
        margin: row.get("new_margin")?,
    })
}
