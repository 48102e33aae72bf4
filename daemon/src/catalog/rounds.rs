//! The history of rounds, so that a restarted daemon still reports them.

use super::{Catalog, CatalogError};
use crate::control::{RoundState, RoundStatus};
use coft_core::event::FailureKind;
use coft_core::ids::{GenerationId, RoundId};
use rusqlite::types::Type;
use rusqlite::{Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

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

    /// Every round, oldest first.
    pub async fn rounds(&self) -> Result<Vec<RoundStatus>, CatalogError> {
        self.ask(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM rounds ORDER BY round")?;
            let rounds = statement.query_map([], round)?;
            rounds.collect()
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
        "promoted" => RoundState::Promoted(GenerationId(row.get("generation")?)),
        "kept" => RoundState::Kept(text("message")?),
        "failed" => RoundState::Failed {
            kind: parsed(row.get("failure_kind")?)?.unwrap_or(FailureKind::Internal),
            message: text("message")?,
            hint: text("hint")?,
        },
        "cancelled" => RoundState::Cancelled,
        // The schema admits no other.
        _ => RoundState::Interrupted,
    };
    Ok(RoundStatus {
        round: RoundId(row.get("round")?),
        trigger: row.get("trigger")?,
        started: row.get("started")?,
        ended: row.get("ended")?,
        images: row.get("images")?,
        state,
        progress: parsed(row.get("progress")?)?,
        warnings: parsed(row.get("warnings")?)?.unwrap_or_default(),
    })
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("no map with keys that are not text")
}

fn parsed<T: DeserializeOwned>(text: Option<String>) -> rusqlite::Result<Option<T>> {
    text.map(|text| serde_json::from_str(&text))
        .transpose()
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error)))
}
