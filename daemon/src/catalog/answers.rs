//! Answers about the pictures of a source: the pictures that wait for an answer, the answers, and the state that the
//! latest answers give together.
//!
//! A picture waits for an answer from the transaction that records its file until the transaction that records the
//! answer. So no answer is lost or given twice, whenever the service dies.

use super::{Catalog, CatalogError, DelayCounts, unix_time};
use crate::observed_file::{Arrival, ObservedFile};
use coft_core::answer::{Seen, StateRule};
use coft_core::ids::{GenerationId, ImageId};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Maximum number of a source's answers that one transaction deletes: other queries wait meanwhile. 1000 [choice].
const MOST_FORGOTTEN: i64 = 1000;

/// Joins the later answers of the generation that serves: what it says of pictures that another generation answered
/// first.
pub const WITH_LATER: &str = "LEFT JOIN later_answers AS later ON later.generation = (SELECT generation FROM serving)
     AND later.source = answers.source AND later.arrival = answers.arrival";

/// A picture that waits for its answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unanswered {
    pub source: PathBuf,
    /// Position of the picture in the order of arrival in its source.
    pub arrival: u64,
    pub image: ImageId,
}

/// Which of the waiting pictures to return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Pictures that nobody has tried to answer yet.
    First,
    /// Pictures whose pixels are not kept.
    FromFile,
    /// Pictures whose file could not be read, those with the fewest attempts first.
    Again,
}

/// The answer about a picture, to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub source: PathBuf,
    pub arrival: u64,
    /// The label that counts. `probability` is none if that label is "none of the classes".
    pub label: String,
    pub probability: Option<f64>,
    /// The likeliest labels, best first.
    pub labels: Vec<(String, f64)>,
    pub classifier: String,
    pub generation: GenerationId,
    pub margin: f64,
    pub doubtful: bool,
    pub none_of_these: Option<bool>,
    pub decision: Option<String>,
    /// All classes of the generation.
    pub classes: Arc<[String]>,
}

/// How many answers of a source are kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    pub most: u64,
    pub keep: Duration,
}

/// State of the answers of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// What the latest pictures show together; none if that is unknown. `since`: when this began, Unix time, s.
    pub state: Option<String>,
    pub since: i64,
    /// The latest picture that was answered; none before the first.
    pub last: Option<Last>,
    /// Sequence number of the latest answer; 0 before the first.
    pub sequence: u64,
    /// Pictures that wait for their answer.
    pub waiting: u64,
}

/// The latest picture that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Last {
    pub label: String,
    pub image: ImageId,
    /// When the picture arrived, Unix time, s.
    pub time: i64,
}

impl Catalog {
    /// The same catalogue, but pictures that arrive in these sources need an answer.
    pub fn answering(self, sources: Vec<PathBuf>) -> Self {
        Self { answering: sources.into(), ..self }
    }

    /// Changes when more pictures wait for an answer.
    pub fn arrivals(&self) -> watch::Receiver<u64> {
        self.arrivals.subscribe()
    }

    /// The pictures of a source that wait for an answer, the latest first.
    pub async fn unanswered(&self, source: &Path, turn: Turn, limit: usize) -> Result<Vec<Unanswered>, CatalogError> {
        let source = source.to_owned();
        self.ask(move |db| {
            let (turn, order) = match turn {
                Turn::First => ("turn = 0", "arrival DESC"),
                Turn::FromFile => ("turn = 1", "arrival DESC"),
                Turn::Again => ("turn > 1", "turn, arrival DESC"),
            };
            let mut statement = db.prepare_cached(&format!(
                "SELECT arrival, image FROM unanswered
                 WHERE source = (SELECT id FROM observed WHERE source = ?1) AND {turn} ORDER BY {order} LIMIT ?2"
            ))?;
            let found = statement.query_map(params![source.as_os_str().as_bytes(), limit as i64], |row| {
                Ok(Unanswered { source: source.clone(), arrival: row.get(0)?, image: ImageId(row.get(1)?) })
            })?;
            found.collect()
        })
        .await
    }

    /// The files that hold an image, as far as is known.
    pub async fn files_of(&self, image: &ImageId) -> Result<Vec<ObservedFile>, CatalogError> {
        Ok(self.files(vec![image.clone()]).await?.pop().unwrap_or_default())
    }

    /// Moves pictures to a later turn, after those that were put off less often.
    pub async fn put_off(&self, pictures: Vec<Unanswered>) -> Result<(), CatalogError> {
        self.change_unanswered(pictures, "UPDATE unanswered SET turn = turn + 1").await
    }

    /// Stops waiting for answers about these pictures: there is nothing left to look at.
    pub async fn give_up(&self, pictures: Vec<Unanswered>) -> Result<(), CatalogError> {
        self.delays.given_up(pictures.iter().map(|picture| picture.arrival));
        self.change_unanswered(pictures, "DELETE FROM unanswered").await
    }

    async fn change_unanswered(&self, pictures: Vec<Unanswered>, change: &'static str) -> Result<(), CatalogError> {
        self.ask(move |db| {
            let transaction = db.transaction()?;
            for Unanswered { source, arrival, .. } in &pictures {
                let change =
                    format!("{change} WHERE source = (SELECT id FROM observed WHERE source = ?1) AND arrival = ?2");
                transaction.prepare_cached(&change)?.execute(params![source.as_os_str().as_bytes(), arrival])?;
            }
            transaction.commit()
        })
        .await
    }

    /// Stops waiting for answers about any picture of these sources.
    pub async fn owe_nothing(&self, sources: Vec<PathBuf>) -> Result<(), CatalogError> {
        self.ask(move |db| {
            let transaction = db.transaction()?;
            for source in &sources {
                transaction.execute(
                    "DELETE FROM unanswered WHERE source = (SELECT id FROM observed WHERE source = ?1)",
                    [source.as_os_str().as_bytes()],
                )?;
            }
            transaction.commit()
        })
        .await
    }

    /// Stores answers, all of them or none, each with the next sequence number of its source, and the state that the
    /// latest pictures give by the source's rule. Skips answers that no picture waits for any more. Deletes the oldest
    /// answers beyond the budget.
    pub async fn answer(
        &self,
        answers: Vec<Answer>,
        rules: Arc<HashMap<PathBuf, StateRule>>,
        budget: Budget,
    ) -> Result<(), CatalogError> {
        let (now, delays) = (unix_time(), Arc::clone(&self.delays));
        self.ask(move |db| {
            let transaction = db.transaction()?;
            let (mut latest, mut written) = (BTreeMap::new(), Vec::new());
            for answer in &answers {
                if let Some(source) = write(&transaction, answer)? {
                    latest.insert(source, answer);
                    written.push(answer.arrival);
                }
            }
            for (source, answer) in latest {
                let rule = rules.get(&answer.source).cloned().unwrap_or_default();
                restate(&transaction, source, &rule, &answer.classes)?;
                forget(&transaction, source, budget, now)?;
            }
            transaction.commit()?;
            delays.answered(&written);
            Ok(())
        })
        .await
    }

    /// How long pictures have waited for their answers since the service started.
    pub fn delays(&self) -> DelayCounts {
        self.delays.counts()
    }

    /// Deletes answers beyond the budget. Returns whether there may be more to delete, which is left to the next call.
    pub async fn forget_answers(&self, budget: Budget) -> Result<bool, CatalogError> {
        let now = unix_time();
        self.ask(move |db| {
            let transaction = db.transaction()?;
            let sources = transaction
                .prepare_cached("SELECT id FROM observed")?
                .query_map([], |row| row.get(0))?
                .collect::<Result<Vec<i64>, _>>()?;
            let mut more = false;
            for source in sources {
                more |= forget(&transaction, source, budget, now)? >= MOST_FORGOTTEN as usize;
            }
            transaction.commit()?;
            Ok(more)
        })
        .await
    }

    /// The state of the answers of each source.
    pub async fn standings(&self, sources: Vec<PathBuf>) -> Result<Vec<Standing>, CatalogError> {
        self.ask(move |db| sources.iter().map(|source| standing(db, source)).collect()).await
    }
}

/// Records that a picture has arrived in a source and waits for an answer.
pub fn arrived(db: &Transaction<'_>, source: &[u8], image: &str, path: &[u8], came: &Arrival) -> rusqlite::Result<()> {
    let source: i64 = db
        .prepare_cached(
            "INSERT INTO observed (source, arrival, sequence, waiting, since) VALUES (?1, ?2, 0, 0, 0)
             ON CONFLICT (source) DO UPDATE SET arrival = max(arrival, excluded.arrival) RETURNING id",
        )?
        .query_row(params![source, came.order], |row| row.get(0))?;
    db.prepare_cached("INSERT INTO unanswered VALUES (?1, ?2, ?3, ?4, ?5, 0)")?
        .execute(params![source, came.order, image, path, came.time])
        .map(drop)
}

/// Whether a file of the source with this content and date is known: then the file was renamed or is recorded anew.
pub fn has_come(db: &Transaction<'_>, source: &[u8], image: &str, modified_ns: i64) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM paths WHERE image = ?1 AND source = ?2 AND modified_ns = ?3")?.exists(params![
        image,
        source,
        modified_ns
    ])
}

/// Stores an answer. Returns the source's id; none if no picture waits for the answer.
fn write(db: &Transaction<'_>, answer: &Answer) -> rusqlite::Result<Option<i64>> {
    let source: Option<i64> = db
        .prepare_cached("SELECT id FROM observed WHERE source = ?1")?
        .query_row([answer.source.as_os_str().as_bytes()], |row| row.get(0))
        .optional()?;
    let Some(source) = source else { return Ok(None) };
    let waits: Option<(String, Vec<u8>, i64)> = db
        .prepare_cached("DELETE FROM unanswered WHERE source = ?1 AND arrival = ?2 RETURNING image, path, time")?
        .query_row(params![source, answer.arrival], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((image, path, time)) = waits else { return Ok(None) };
    let sequence: i64 = db
        .prepare_cached("UPDATE observed SET sequence = sequence + 1 WHERE id = ?1 RETURNING sequence")?
        .query_row([source], |row| row.get(0))?;
    db.prepare_cached(
        "INSERT INTO answers (source, sequence, arrival, image, path, time, classifier, generation, label, probability,
             labels, margin, doubtful, none_of_these, decision)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
    )?
    .execute(params![
        source,
        sequence,
        answer.arrival,
        image,
        path,
        time,
        answer.classifier,
        answer.generation.0,
        answer.label,
        answer.probability,
        serde_json::to_string(&answer.labels).expect("names and numbers are JSON"),
        answer.margin,
        answer.doubtful,
        answer.none_of_these,
        answer.decision,
    ])?;
    Ok(Some(source))
}

/// Computes the state of a source from its latest pictures. If the generation that serves has answered a picture again,
/// that answer counts. A new state is stored with the time since when it holds.
pub fn restate(db: &Transaction<'_>, source: i64, rule: &StateRule, classes: &[String]) -> rusqlite::Result<()> {
    let mut statement = db.prepare_cached(&format!(
        "SELECT iif(later.label IS NULL, answers.label, later.label) AS label,
             iif(later.label IS NULL, answers.probability, later.probability) AS probability, time
         FROM answers {WITH_LATER} WHERE answers.source = ?1 ORDER BY answers.arrival DESC LIMIT ?2",
    ))?;
    let latest = statement.query_map(params![source, rule.window], |row| {
        Ok((Seen { label: row.get(0)?, probability: row.get(1)? }, row.get::<_, i64>(2)?))
    })?;
    let (seen, times): (Vec<Seen>, Vec<i64>) = latest.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    db.prepare_cached("UPDATE observed SET state = ?2, since = ?3 WHERE id = ?1 AND state IS NOT ?2")?
        .execute(params![source, rule.state(&seen, classes), times.first()])
        .map(drop)
}

/// Deletes the oldest answers of a source that are too many or too old; returns how many.
fn forget(db: &Transaction<'_>, source: i64, budget: Budget, now: i64) -> rusqlite::Result<usize> {
    let first = "SELECT min(sequence) FROM answers WHERE source = ?1";
    let first: Option<i64> = db.prepare_cached(first)?.query_row([source], |row| row.get(0))?;
    let Some(first) = first else { return Ok(0) };
    let step = first.saturating_add(MOST_FORGOTTEN);
    let last: i64 =
        db.prepare_cached("SELECT sequence FROM observed WHERE id = ?1")?.query_row([source], |row| row.get(0))?;
    // Answers after one that is young enough stay, so that there are no gaps.
    let young = now.saturating_sub_unsigned(budget.keep.as_secs());
    let first_young: Option<i64> = db
        .prepare_cached("SELECT min(sequence) FROM answers WHERE source = ?1 AND sequence < ?2 AND time >= ?3")?
        .query_row(params![source, step, young], |row| row.get(0))?;
    let too_many = last.saturating_sub_unsigned(budget.most).saturating_add(1);
    let end = first_young.unwrap_or(step).max(too_many).min(step);
    db.prepare_cached("DELETE FROM answers WHERE source = ?1 AND sequence < ?2")?.execute(params![source, end])
}

fn standing(db: &Connection, source: &Path) -> rusqlite::Result<Standing> {
    let row: Option<(i64, Standing)> = db
        .prepare_cached("SELECT id, state, since, sequence, waiting FROM observed WHERE source = ?1")?
        .query_row([source.as_os_str().as_bytes()], |row| {
            let (state, since) = (row.get(1)?, row.get(2)?);
            Ok((row.get(0)?, Standing { state, since, last: None, sequence: row.get(3)?, waiting: row.get(4)? }))
        })
        .optional()?;
    let Some((source, standing)) = row else { return Ok(Standing::default()) };
    let last = db
        .prepare_cached("SELECT label, image, time FROM answers WHERE source = ?1 ORDER BY arrival DESC LIMIT 1")?
        .query_row([source], |row| Ok(Last { label: row.get(0)?, image: ImageId(row.get(1)?), time: row.get(2)? }))
        .optional()?;
    Ok(Standing { last, ..standing })
}
