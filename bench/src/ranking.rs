//! `cargo xtask bench ranking`: how well the label-free metrics predict accuracy, over rounds whose answers `bench
//! adapt --answers` has kept.

use super::answers::{distinct, integers, rows};
use anyhow::{Context, ensure};
use coft_core::candidate::CandidateName;
use coft_core::report::CandidateMetrics;
use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Args {
    /// Directories that `bench adapt --answers` left, one a round.
    #[arg(required = true)]
    rounds: Vec<PathBuf>,
}

/// The value of a metric for a candidate; larger is better.
type Metric = fn(&CandidateMetrics) -> f64;

const METRICS: [(&str, Metric); 6] = [
    ("sum", |metrics| metrics.balance + metrics.coherence),
    ("balance", |metrics| metrics.balance),
    ("coherence", |metrics| metrics.coherence),
    ("stability", |metrics| metrics.stability),
    ("margin", |metrics| metrics.margin),
    ("kept", |metrics| metrics.agreement_with_zero_shot),
];

/// Upper bounds of all bins of the histogram of s⁺ − s⁻ except the last.
const EDGES: [f32; 7] = [-0.1, -0.05, -0.02, 0.0, 0.02, 0.05, 0.1];

struct Round {
    set: String,
    candidates: Vec<CandidateMetrics>,
    /// Accuracy on the test images, in percent, by candidate.
    accuracy: BTreeMap<String, f64>,
    agreement: f64,
    /// s⁺ − s⁻ of the right and of the wrong labels of both models.
    margins: [Vec<f32>; 2],
}

/// `labels.json` of a round.
#[derive(Deserialize)]
struct Labels {
    pool: Vec<usize>,
    result: Answers,
}

#[derive(Deserialize)]
struct Answers {
    set: String,
    shift: String,
    accuracy: BTreeMap<String, f64>,
    #[serde(default, rename = "signs")]
    metrics: Vec<CandidateMetrics>,
    #[serde(default)]
    agreement: f64,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let rounds = args.rounds.iter().map(|dir| read(dir)).collect::<anyhow::Result<Vec<_>>>()?;
    let of_metrics =
        |value: &dyn Fn(Metric) -> Value| METRICS.iter().map(|(name, metric)| (*name, value(*metric))).collect();
    // Mean gain over zero-shot, in points, if the candidate with the largest value of a metric is deployed.
    let gain = |name: &dyn Fn(&Round) -> CandidateName| {
        let gains: Vec<f64> = rounds.iter().map(|round| round.gain(&name(round))).collect();
        json!({ "mean": mean(&gains), "least": gains.iter().copied().fold(f64::INFINITY, f64::min) })
    };
    let gains: BTreeMap<&str, Value> = of_metrics(&|metric| gain(&|round| round.largest(metric).name.clone()));
    // Rank correlation of a metric with the accuracy of the candidates, within a round.
    let within = |metric: Metric| {
        let of = |round: &Round| {
            let metrics: Vec<f64> = round.candidates.iter().map(metric).collect();
            let accuracy: Vec<f64> = round.candidates.iter().map(|c| round.accuracy(&c.name)).collect();
            spearman(&metrics, &accuracy)
        };
        json!(mean(&rounds.iter().map(of).collect::<Vec<_>>()))
    };
    let within: BTreeMap<&str, Value> = of_metrics(&within);
    // Rank correlation over rounds, between the gain of the candidate with the largest sum and its increase of a
    // metric over zero-shot. The trainer deploys it only where its z-score is large enough.
    let gained: Vec<f64> = rounds.iter().map(|round| round.gain(&round.largest(METRICS[0].1).name)).collect();
    let over = |metric: Metric| {
        let risen = |round: &Round| metric(round.largest(METRICS[0].1)) - metric(&round.candidates[0]);
        json!(spearman(&rounds.iter().map(risen).collect::<Vec<_>>(), &gained))
    };
    let over: BTreeMap<&str, Value> = of_metrics(&over);
    let agreement: Vec<f64> = rounds.iter().map(|round| round.agreement).collect();
    let best = |round: &Round| round.candidates.iter().map(|c| round.gain(&c.name)).fold(f64::NEG_INFINITY, f64::max);
    let found = json!({
        "rounds": rounds.len(),
        "gain": gains,
        "gain_of_always_the_average": gain(&|_| CandidateName::Average),
        "gain_of_the_best": mean(&rounds.iter().map(best).collect::<Vec<_>>()),
        "rank_correlation_within_rounds": within,
        "rank_correlation_of_rise_and_gain": over,
        "rank_correlation_of_agreement_and_gain": spearman(&agreement, &gained),
        "margin_histogram_percent": histograms(&rounds),
    });
    println!("{found:#}");
    Ok(())
}

fn read(dir: &Path) -> anyhow::Result<Round> {
    let text = fs::read(dir.join("labels.json")).with_context(|| format!("reading {}", dir.display()))?;
    let Labels { pool, result } =
        serde_json::from_slice(&text).with_context(|| format!("reading {}", dir.display()))?;
    ensure!(
        result.metrics.first().is_some_and(|c| c.name == CandidateName::ZeroShot),
        "{}: a round of neither coft nor coft-plus",
        dir.display()
    );
    let bytes = fs::read(dir.join("pool.safetensors"))?;
    let answers = SafeTensors::deserialize(&bytes)?;
    let pool = distinct(&answers, &pool);
    let mut margins = [Vec::new(), Vec::new()];
    for model in ["1", "2"] {
        let labels = integers(&answers.tensor(&format!("label{model}"))?);
        let of_images = rows(&answers.tensor(&format!("margin{model}"))?).concat();
        for ((label, truth), margin) in labels.iter().zip(&pool).zip(of_images) {
            margins[usize::from(label != truth)].push(margin);
        }
    }
    let Answers { set, shift, accuracy, metrics, agreement } = result;
    Ok(Round { set: format!("{set} {shift}"), candidates: metrics, accuracy, agreement, margins })
}

impl Round {
    /// The candidate with the largest value of a metric; the earlier one on a tie.
    fn largest(&self, metric: Metric) -> &CandidateMetrics {
        let best = self.candidates.iter().reduce(|best, next| if metric(next) > metric(best) { next } else { best });
        best.expect("zero-shot is always a candidate")
    }

    fn accuracy(&self, candidate: &CandidateName) -> f64 {
        self.accuracy[&candidate.to_string()]
    }

    fn gain(&self, candidate: &CandidateName) -> f64 {
        self.accuracy(candidate) - self.accuracy(&CandidateName::ZeroShot)
    }
}

/// Share of the right and of the wrong labels in each bin of s⁺ − s⁻, percent, by set and shift.
fn histograms(rounds: &[Round]) -> BTreeMap<&str, Value> {
    let mut by_set: BTreeMap<&str, [Vec<f32>; 2]> = BTreeMap::new();
    for round in rounds {
        let all = by_set.entry(&round.set).or_default();
        all.iter_mut().zip(&round.margins).for_each(|(all, margins)| all.extend(margins));
    }
    let shares = |margins: &[f32]| {
        let mut counts = [0u32; EDGES.len() + 1];
        margins.iter().for_each(|margin| counts[EDGES.partition_point(|edge| edge < margin)] += 1);
        counts.map(|count| (1000.0 * f64::from(count) / margins.len().max(1) as f64).round() / 10.0)
    };
    let told = |[right, wrong]: [Vec<f32>; 2]| json!({ "right": shares(&right), "wrong": shares(&wrong) });
    by_set.into_iter().map(|(set, margins)| (set, told(margins))).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Rank correlation, −1 to 1. Ties share their mean rank. 0 where all values of one side are equal.
fn spearman(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (ranks(a), ranks(b));
    let (mean_a, mean_b) = (mean(&a), mean(&b));
    let product =
        |x: &[f64], of_x: f64, y: &[f64], of_y: f64| x.iter().zip(y).map(|(x, y)| (x - of_x) * (y - of_y)).sum::<f64>();
    let scale = (product(&a, mean_a, &a, mean_a) * product(&b, mean_b, &b, mean_b)).sqrt();
    if scale > 0.0 { product(&a, mean_a, &b, mean_b) / scale } else { 0.0 }
}

/// For each value, the number of smaller values; a tie counts as a half.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = |value: &f64| {
        let (below, up_to) = (sorted.partition_point(|v| v < value), sorted.partition_point(|v| v <= value));
        (below + up_to) as f64 / 2.0
    };
    values.iter().map(rank).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rank_correlation_is_of_the_order_alone() {
        assert_eq!(spearman(&[1.0, 2.0, 30.0], &[0.1, 0.2, 0.3]), 1.0);
        assert_eq!(spearman(&[1.0, 2.0, 3.0], &[3.0, 2.0, -5.0]), -1.0);
        assert_eq!(spearman(&[1.0, 1.0], &[3.0, 2.0]), 0.0);
        // Computed by hand: ranks 1.5, 1.5, 3 and 1, 2, 3.
        assert!((spearman(&[1.0, 1.0, 2.0], &[1.0, 2.0, 3.0]) - 0.75f64.sqrt()).abs() < 1e-12);
    }
}
