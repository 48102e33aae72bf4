//! The figures and targets, as text for people and as JSON.

use super::arm::Arm;
use super::bars::Bar;
use super::figures::{Ratios, RoundRow, Row};
use super::generation::Model;
use super::swaps::Swaps;
use serde::Serialize;

/// Largest difference of a probability between a peer's answers and coftd's.
#[derive(Debug, Serialize)]
pub struct Agreement {
    pub model: Model,
    pub arm: Arm,
    pub max_abs_diff: f64,
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub threads: usize,
    pub seconds: f64,
    pub rounds: u32,
    pub cells: Vec<Row>,
    pub while_a_round_trains: Vec<RoundRow>,
    pub swaps: Option<Swaps>,
    pub agreement: Vec<Agreement>,
    pub bars: Vec<Bar>,
}

impl Report {
    /// The tables in Markdown.
    pub fn table(&self) -> String {
        let mut text = String::from(
            "| model | input | clients | arm | images/s | ours/its | p50 ms | ours/its | p99 ms | ours/its | requests | anonymous MB |\n\
             |---|---|---|---|---|---|---|---|---|---|---|---|\n",
        );
        for Row { key, figures, anonymous_bytes, ours_over } in &self.cells {
            let ratio =
                |of: fn(&Ratios) -> f64| ours_over.as_ref().map_or_else(String::new, |r| format!("{:.2}", of(r)));
            text += &format!(
                "| {} | {} | {} | {} | {:.1} | {} | {:.2} | {} | {:.2} | {} | {} | {:.0} |\n",
                key.model.name(),
                key.input.name(),
                key.clients,
                key.arm.name(),
                figures.images_per_second,
                ratio(|r| r.images_per_second),
                figures.p50_seconds * 1e3,
                ratio(|r| r.p50),
                figures.p99_seconds * 1e3,
                ratio(|r| r.p99),
                figures.requests,
                *anonymous_bytes as f64 / 1e6,
            );
        }
        if !self.while_a_round_trains.is_empty() {
            text += "\n| clients | images/s idle | while a round trains | p99 ms idle | while a round trains | ratio |\n\
                     |---|---|---|---|---|---|\n";
        }
        for RoundRow { clients, idle, training, p99_ratio } in &self.while_a_round_trains {
            text += &format!(
                "| {clients} | {:.1} | {:.1} | {:.2} | {:.2} | {p99_ratio:.2} |\n",
                idle.images_per_second,
                training.images_per_second,
                idle.p99_seconds * 1e3,
                training.p99_seconds * 1e3,
            );
        }
        if let Some(Swaps {
            swaps,
            clients,
            requests,
            failed,
            anonymous_bytes_before,
            anonymous_bytes_after,
            bytes_per_swap,
        }) = &self.swaps
        {
            text += &format!(
                "\n{swaps} swaps under {clients} clients: {requests} requests, {failed} failed; anonymous memory {:.1} MB after the \
                 warm-up, {:.1} MB after the last, {:+.1} kB a swap.\n",
                *anonymous_bytes_before as f64 / 1e6,
                *anonymous_bytes_after as f64 / 1e6,
                bytes_per_swap / 1e3,
            );
        }
        text += "\n| what is aimed at | where | measured | bar | holds |\n|---|---|---|---|---|\n";
        for bar in &self.bars {
            text += &bar.line();
        }
        if !self.agreement.is_empty() {
            text += "\nLargest difference of a probability from coftd's:";
            for Agreement { model, arm, max_abs_diff } in &self.agreement {
                text += &format!(" {} {} {max_abs_diff:.1e};", model.name(), arm.name());
            }
            text.pop();
            text += "\n";
        }
        text
    }
}
