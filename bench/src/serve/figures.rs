//! Turns measurements into figures.

use super::arm::Arm;
use super::generation::Model;
use super::load::Seen;
use super::pictures::Input;
use serde::Serialize;

/// The figures of all rounds of a cell.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Figures {
    /// The median of the rounds.
    pub images_per_second: f64,
    /// Over all requests of all rounds. With fewer than a hundred requests, p99 is the largest.
    pub p50_seconds: f64,
    pub p99_seconds: f64,
    pub requests: usize,
    /// Median latency without the decoding time that the answer states.
    pub tensor_to_label_seconds: Option<f64>,
}

impl Figures {
    pub fn of(rounds: &[Seen]) -> Self {
        let all = |values: fn(&Seen) -> &Vec<f64>| rounds.iter().flat_map(values).copied().collect::<Vec<_>>();
        let (latencies, beyond) = (all(|seen| &seen.latencies), all(|seen| &seen.beyond_decoding));
        Self {
            images_per_second: quantile(rounds.iter().map(|seen| seen.images_per_second).collect(), 0.5),
            p50_seconds: quantile(latencies.clone(), 0.5),
            p99_seconds: quantile(latencies.clone(), 0.99),
            requests: latencies.len(),
            tensor_to_label_seconds: Some(beyond)
                .filter(|beyond| !beyond.is_empty())
                .map(|beyond| quantile(beyond, 0.5)),
        }
    }
}

/// The smallest value that at least the share `q` does not exceed (nearest rank).
fn quantile(mut values: Vec<f64>, q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() as f64 * q).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Key {
    pub model: Model,
    /// For the bare loop, which reads tensors, the input of the cells with which it took turns.
    pub input: Input,
    /// For the bare loop, the number of images in a batch.
    pub clients: usize,
    pub arm: Arm,
}

/// The measurements of one arm, one model, one input and one number of clients.
#[derive(Debug)]
pub struct Cell {
    pub key: Key,
    pub rounds: Vec<Seen>,
    /// Largest memory of the server's processes after a round.
    pub anonymous_bytes: u64,
}

#[derive(Debug, Default)]
pub struct Cells(pub Vec<Cell>);

impl Cells {
    pub fn add(&mut self, key: Key, seen: Seen, anonymous_bytes: u64) {
        match self.0.iter_mut().find(|cell| cell.key == key) {
            Some(cell) => {
                cell.rounds.push(seen);
                cell.anonymous_bytes = cell.anonymous_bytes.max(anonymous_bytes);
            }
            None => self.0.push(Cell { key, rounds: vec![seen], anonymous_bytes }),
        }
    }

    /// The rows, sorted for reading.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = self.0.iter().map(|cell| Row::of(cell, self)).collect();
        rows.sort_by_key(|row| {
            let Key { model, input, clients, arm } = row.key;
            (model as usize, input as usize, clients, arm as usize)
        });
        rows
    }

    fn figures(&self, key: Key) -> Option<Figures> {
        self.0.iter().find(|cell| cell.key == key).map(|cell| Figures::of(&cell.rounds))
    }
}

#[derive(Debug, Serialize)]
pub struct Row {
    #[serde(flatten)]
    pub key: Key,
    #[serde(flatten)]
    pub figures: Figures,
    pub anonymous_bytes: u64,
    /// coftd's figures divided by these.
    pub ours_over: Option<Ratios>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ratios {
    pub images_per_second: f64,
    pub p50: f64,
    pub p99: f64,
}

impl Row {
    fn of(cell: &Cell, cells: &Cells) -> Self {
        let figures = Figures::of(&cell.rounds);
        let ours = cells.figures(Key { arm: Arm::Coftd, ..cell.key }).filter(|_| cell.key.arm.is_peer());
        let ours_over = ours.map(|ours| Ratios {
            images_per_second: ours.images_per_second / figures.images_per_second,
            p50: ours.p50_seconds / figures.p50_seconds,
            p99: ours.p99_seconds / figures.p99_seconds,
        });
        Self { key: cell.key, figures, anonymous_bytes: cell.anonymous_bytes, ours_over }
    }
}

/// Figures of requests before and during a round.
#[derive(Debug, Serialize)]
pub struct RoundRow {
    pub clients: usize,
    pub idle: Figures,
    pub training: Figures,
    pub p99_ratio: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_value_that_was_seen() {
        let values = |n: u32| (1..=n).rev().map(f64::from).collect::<Vec<_>>();
        assert_eq!(quantile(values(1), 0.99), 1.0);
        assert_eq!(quantile(values(4), 0.5), 2.0);
        assert_eq!(quantile(values(99), 0.99), 99.0);
        assert_eq!(quantile(values(100), 0.99), 99.0);
        assert_eq!(quantile(values(1000), 0.99), 990.0);
    }

    #[test]
    fn a_peer_is_compared_with_the_same_cell_of_coftd() {
        let mut cells = Cells::default();
        let seen = |rate: f64| Seen {
            images_per_second: rate,
            latencies: vec![1.0 / rate],
            beyond_decoding: vec![0.5 / rate],
        };
        let key = |arm, clients| Key { model: Model::VitB32, input: Input::Vga, clients, arm };
        for rate in [90.0, 500.0, 100.0] {
            cells.add(key(Arm::Coftd, 16), seen(rate), rate as u64);
        }
        cells.add(key(Arm::FastapiPillow, 16), seen(50.0), 7);
        cells.add(key(Arm::FastapiPillow, 4), seen(50.0), 7);
        let rows = cells.rows();
        let order: Vec<_> = rows.iter().map(|row| (row.key.clients, row.key.arm)).collect();
        assert_eq!(order, [(4, Arm::FastapiPillow), (16, Arm::Coftd), (16, Arm::FastapiPillow)]);
        assert!(rows[0].ours_over.is_none() && rows[1].ours_over.is_none());
        assert_eq!((rows[1].figures.requests, rows[1].anonymous_bytes), (3, 500));
        assert_eq!(rows[2].ours_over.unwrap().images_per_second, 2.0, "medians of the rounds");
    }
}
