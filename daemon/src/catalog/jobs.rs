//! The history of jobs, so that a restarted daemon still reports them.

use super::{Catalog, CatalogError};
use crate::job_status::{DetailedState, JobStatus};
use coft_core::event::{Failure, FailureKind, Progress};
use coft_core::ids::{GenerationId, JobId};
use coft_core::job::JobState;
use coft_core::moment::{BootId, Moment};
use rusqlite::{Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tracing::warn;

/// Maximum number of jobs that are kept: the latest ones. The last completed round is kept as well, since the
/// schedule counts images from it. 1000 [choice].
const MOST_JOBS: u64 = 1000;

impl Catalog {
    /// Writes a job in place of its earlier record, and deletes the oldest jobs.
    pub async fn save_job(&self, job: &JobStatus) -> Result<(), CatalogError> {
        let job = job.clone();
        self.ask(move |db| {
            let db = db.transaction()?;
            let (generation, failure_kind, message, hint) = match &job.state {
                DetailedState::Promoted(generation) => (Some(generation.0), None, None, None),
                DetailedState::Kept { reason, candidate } => (candidate.map(|kept| kept.0), None, Some(reason), None),
                DetailedState::Failed(Failure { kind, message, hint }) => {
                    (None, Some(json(kind)), Some(message), Some(hint))
                }
                DetailedState::Running | DetailedState::Cancelled | DetailedState::Interrupted => {
                    (None, None, None, None)
                }
            };
            let (started, ended) = (job.started, job.ended);
            db.prepare_cached(
                "INSERT OR REPLACE INTO rounds (round, trigger, started, ended, images, state, generation, failure_kind,
                     message, hint, progress, warnings, started_boot, started_ms, ended_boot, ended_ms, seed, continues)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
            )?
            .execute(params![
                job.id.0,
                job.trigger.to_string(),
                started.wall,
                ended.map(|ended| ended.wall),
                job.images,
                job.state.name().to_string(),
                generation,
                failure_kind,
                message,
                hint,
                job.progress.as_ref().map(json),
                json(&job.warnings),
                started.boot.map(|boot| boot.to_string()),
                milliseconds(started),
                ended.and_then(|ended| ended.boot).map(|boot| boot.to_string()),
                ended.map(milliseconds),
                // A seed uses all 64 bits, also the sign.
                job.seed.map(u64::cast_signed),
                job.continues.map(|job| job.0),
            ])?;
            db.execute(
                // The schedule counts images from the last completed round, and time from the last one that ended.
                "DELETE FROM rounds WHERE round <= ?1
                 AND round <> coalesce((SELECT max(round) FROM rounds WHERE state IN ('promoted', 'kept')
                     AND trigger NOT IN ('zero-shot', 'import', 'activation')), 0)
                 AND round <> coalesce((SELECT max(round) FROM rounds WHERE ended IS NOT NULL
                     AND trigger NOT IN ('zero-shot', 'import', 'activation')), 0)",
                [job.id.0.saturating_sub(MOST_JOBS)],
            )?;
            db.commit()
        })
        .await
    }

    /// Stores the progress of a job, in case the service dies before its end; a job that has ended is left alone.
    pub async fn save_progress(&self, job: JobId, progress: &Progress) -> Result<(), CatalogError> {
        let progress = json(progress);
        self.ask(move |db| {
            let mut update =
                db.prepare_cached("UPDATE rounds SET progress = ?2 WHERE round = ?1 AND state = 'running'")?;
            update.execute(params![job.0, progress]).map(drop)
        })
        .await
    }

    /// The stored jobs, oldest first. A row that cannot be read is left out and logged: another version may have
    /// written it.
    pub async fn jobs(&self) -> Result<Vec<JobStatus>, CatalogError> {
        self.ask(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM rounds ORDER BY round")?;
            let (mut rows, mut jobs) = (statement.query([])?, Vec::new());
            while let Some(row) = rows.next()? {
                match job(row) {
                    Ok(job) => jobs.push(job),
                    Err(error) => {
                        warn!(problem = %error, "a job of the catalogue cannot be read and is left out: {error}")
                    }
                }
            }
            Ok(jobs)
        })
        .await
    }
}

fn job(row: &Row<'_>) -> rusqlite::Result<JobStatus> {
    let text = |column| row.get::<_, Option<String>>(column).map(Option::unwrap_or_default);
    // A state that only another version knows counts as interrupted: how that job ended is unknown here.
    let state = match row.get::<_, String>("state")?.parse().unwrap_or(JobState::Interrupted) {
        JobState::Running => DetailedState::Running,
        JobState::Promoted => match row.get("generation")? {
            Some(generation) => DetailedState::Promoted(GenerationId(generation)),
            None => DetailedState::Interrupted,
        },
        JobState::Kept => DetailedState::Kept {
            reason: text("message")?,
            candidate: row.get::<_, Option<u64>>("generation")?.map(GenerationId),
        },
        JobState::Failed => DetailedState::Failed(Failure {
            kind: parsed(row.get("failure_kind")?).unwrap_or(FailureKind::Internal),
            message: text("message")?,
            hint: text("hint")?,
        }),
        JobState::Cancelled => DetailedState::Cancelled,
        JobState::Interrupted => DetailedState::Interrupted,
    };
    let trigger: String = row.get("trigger")?;
    let unknown = |error| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error));
    Ok(JobStatus {
        id: JobId(row.get("round")?),
        trigger: trigger.parse().map_err(unknown)?,
        started: moment(row.get("started")?, row.get("started_boot")?, row.get("started_ms")?),
        ended: match row.get("ended")? {
            Some(ended) => Some(moment(ended, row.get("ended_boot")?, row.get("ended_ms")?)),
            None => None,
        },
        images: row.get("images")?,
        seed: row.get::<_, Option<i64>>("seed")?.map(i64::cast_unsigned),
        continues: row.get::<_, Option<u64>>("continues")?.map(JobId),
        state,
        progress: parsed(row.get("progress")?),
        warnings: parsed(row.get("warnings")?).unwrap_or_default(),
    })
}

fn milliseconds(moment: Moment) -> i64 {
    i64::try_from(moment.since_boot.as_millis()).unwrap_or(i64::MAX)
}

fn moment(wall: i64, boot: Option<String>, ms: Option<i64>) -> Moment {
    let since_boot = Duration::from_millis(ms.map_or(0, |ms| u64::try_from(ms).unwrap_or(0)));
    Moment { boot: boot.as_deref().and_then(BootId::parse), since_boot, wall }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("no map with keys that are not text")
}

/// None for text that this version does not understand: another version may have written it.
fn parsed<T: DeserializeOwned>(text: Option<String>) -> Option<T> {
    serde_json::from_str(&text?).ok()
}
