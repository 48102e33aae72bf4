//! The history of rounds, so that a restarted daemon still reports them.

use super::{Catalog, CatalogError};
use crate::control::{RoundState, RoundStatus};
use coft_core::event::FailureKind;
use coft_core::ids::{GenerationId, RoundId};
use rusqlite::{Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::warn;

impl Catalog {
    /// Writes a round down, over what was written of it before.
    pub async fn save_round(&self, round: &RoundStatus) -> Result<(), CatalogError> {
        let round = round.clone();
        self.ask(move |db| {
            let (generation, failure_kind, message, hint) = match &round.state {
                RoundState::Promoted(generation) => (Some(generation.0), None, None, None),
                RoundState::Kept(reason) => (None, None, Some(reason), None),
                RoundState::Failed { kind, message, hint } => (None, Some(json(kind)), Some(message), Some(hint)),
                RoundState::Running | RoundState::Cancelled | RoundState::Interrupted => (None, None, None, None),
            };
            db.prepare_cached(
                "INSERT OR REPLACE INTO rounds VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            )?
            .execute(params![
                round.round.0,
                round.trigger,
                round.started,
                round.ended,
                round.images,
                state_name(&round.state),
                generation,
                failure_kind,
                message,
                hint,
                round.progress.as_ref().map(json),
                json(&round.warnings),
            ])
            .map(drop)
        })
        .await
    }

    /// Every round, oldest first. A row that cannot be read is left out, and the log says so: another version may have
    /// written it.
    pub async fn rounds(&self) -> Result<Vec<RoundStatus>, CatalogError> {
        self.ask(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM rounds ORDER BY round")?;
            let (mut rows, mut rounds) = (statement.query([])?, Vec::new());
            while let Some(row) = rows.next()? {
                match round(row) {
                    Ok(round) => rounds.push(round),
                    Err(error) => {
                        warn!(problem = %error, "a round of the catalogue cannot be read and is left out: {error}")
                    }
                }
            }
            Ok(rounds)
        })
        .await
    }
}

fn state_name(state: &RoundState) -> &'static str {
    match state {
        RoundState::Running => "running",
        RoundState::Promoted(_) => "promoted",
        RoundState::Kept(_) => "kept",
        RoundState::Failed { .. } => "failed",
        RoundState::Cancelled => "cancelled",
        RoundState::Interrupted => "interrupted",
    }
}

fn round(row: &Row<'_>) -> rusqlite::Result<RoundStatus> {
    let text = |column| row.get::<_, Option<String>>(column).map(Option::unwrap_or_default);
    let state: String = row.get("state")?;
    let state = match state.as_str() {
        "running" => RoundState::Running,
        "promoted" => match row.get("generation")? {
            Some(generation) => RoundState::Promoted(GenerationId(generation)),
            None => RoundState::Interrupted,
        },
        "kept" => RoundState::Kept(text("message")?),
        "failed" => RoundState::Failed {
            kind: parsed(row.get("failure_kind")?).unwrap_or(FailureKind::Internal),
            message: text("message")?,
            hint: text("hint")?,
        },
        "cancelled" => RoundState::Cancelled,
        // A word of another version counts as well: how the round ended is not known here.
        _ => RoundState::Interrupted,
    };
    Ok(RoundStatus {
        round: RoundId(row.get("round")?),
        trigger: row.get("trigger")?,
        started: row.get("started")?,
        ended: row.get("ended")?,
        images: row.get("images")?,
        state,
        progress: parsed(row.get("progress")?),
        warnings: parsed(row.get("warnings")?).unwrap_or_default(),
    })
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("no map with keys that are not text")
}

/// None for what this version does not understand: another one may have written it.
fn parsed<T: DeserializeOwned>(text: Option<String>) -> Option<T> {
    serde_json::from_str(&text?).ok()
}
