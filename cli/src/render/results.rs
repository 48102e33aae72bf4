//! The answers for pictures: line by line, and counted.

use super::{FAINT, FAIR, Style, counted, lines, paint, table};
use crate::view::{Difference, GenerationDiff, HourCount, Move, Observed};
use coft_core::shown::shown;
use std::collections::BTreeMap;

pub fn results(found: &[Observed], style: &Style) -> String {
    if found.is_empty() {
        return "no picture fits; what the service has: coftctl results, coftctl status\n".into();
    }
    found.iter().map(|one| observed(one, style)).collect()
}

/// `2025-06-15 15:06:40  empty shelf 0.93  /srv/coft/in/a.jpg`; without a path, the source and the image's id.
pub fn observed(observed: &Observed, style: &Style) -> String {
    let probability = observed.labels.iter().find(|label| label.label == observed.label);
    let label = said(&observed.label, probability.map(|label| label.score));
    let label = if observed.doubtful { paint(FAIR, &format!("{label} ?")) } else { label };
    let file = file(observed.path.as_deref(), &observed.source, &observed.image);
    let later = observed.later.as_ref().filter(|later| later.label != observed.label);
    let later = later.map_or_else(String::new, |later| {
        format!(" -> {} (generation {})", said(&later.label, later.score), later.generation)
    });
    format!("{}  {label}{later}  {}\n", style.second(observed.time), paint(FAINT, &file))
}

/// `empty shelf 0.93`.
fn said(label: &str, score: Option<f64>) -> String {
    let score = score.map_or_else(String::new, |score| format!(" {score:.2}"));
    format!("{}{score}", shown(label.as_bytes()))
}

pub fn diff(diff: &GenerationDiff, style: &Style) -> String {
    let GenerationDiff { old, new, compared, changed, waiting, .. } = diff;
    let waits = match waiting {
        0 => String::new(),
        waiting => format!("generation {new} is yet to answer {} again\n", counted(*waiting, "picture")),
    };
    if *compared == 0 {
        return format!(
            "no picture was answered by both generation {old} and generation {new}; a generation answers the latest \
             pictures again when it comes to serve\n{waits}"
        );
    }
    let share = 100.0 * *changed as f64 / *compared as f64;
    let mut text = format!(
        "generation {new} gives {changed} of {} another label than generation {old}, {share:.1} %\n{waits}",
        counted(*compared, "picture")
    );
    if !diff.moves.is_empty() {
        let mut table = table(&["PICTURES", "FROM", "TO"], &[0]);
        for Move { from, to, count } in diff.moves.iter().take(MOVES) {
            let [from, to] = [from, to].map(|label| shown(label.as_bytes()).into_owned());
            table.add_row([count.to_string(), from, to]);
        }
        text += &format!("\n{}", lines(&table));
        let rest: u64 = diff.moves.iter().skip(MOVES).map(|rest| rest.count).sum();
        if rest > 0 {
            text += &format!("and {} between other labels (--json: all)\n", counted(rest, "picture"));
        }
    }
    if !diff.changes.is_empty() {
        text += "\nother labels, those first of which both are surest\n";
        text += &diff.changes.iter().map(|one| difference(one, style)).collect::<String>();
    }
    text += &format!("\nwhat generation {new} is least sure of\n");
    text + &diff.unsure.iter().map(|one| difference(one, style)).collect::<String>()
}

fn difference(difference: &Difference, style: &Style) -> String {
    let Difference { old_label, old_score, new_label, new_score, .. } = difference;
    let (old, new) = (said(old_label, *old_score), said(new_label, *new_score));
    let file = file(difference.path.as_deref(), &difference.source, &difference.image);
    format!("{}  {old} -> {new}  {}\n", style.second(difference.time), paint(FAINT, &file))
}

/// A file's name, or for users who may not see it, the source and the image's id.
fn file(path: Option<&str>, source: &str, image: &str) -> String {
    match path {
        Some(path) => shown(path.as_bytes()).into_owned(),
        None => format!("{}: {image:.12}", shown(source.as_bytes())),
    }
}

/// Most changes from one label to another that are shown, the most frequent first.
const MOVES: usize = 10;

/// Bars in steps of an eighth of a line's height.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Number of hours that are drawn, the latest; more would not fit on a terminal.
const HOURS: i64 = 48;
const HOUR: i64 = 3600;

/// A line for each label, the most frequent first: a bar for each hour, and the total.
pub fn summary(counts: &[HourCount], style: &Style) -> String {
    let (Some(first), Some(last)) =
        (counts.iter().map(|count| count.hour).min(), counts.iter().map(|count| count.hour).max())
    else {
        return "no picture has come in that time; what the service has: coftctl results, coftctl status\n".into();
    };
    let first = first.max(last - (HOURS - 1) * HOUR);
    let mut labels: BTreeMap<&str, BTreeMap<i64, u64>> = BTreeMap::new();
    for HourCount { hour, label, count } in counts.iter().filter(|count| count.hour >= first) {
        *labels.entry(label).or_default().entry(*hour).or_default() += count;
    }
    let sum = |hours: &BTreeMap<i64, u64>| hours.values().sum::<u64>();
    let mut labels: Vec<_> = labels.into_iter().collect();
    labels.sort_by_key(|(label, hours)| (std::cmp::Reverse(sum(hours)), *label));
    let most = labels.iter().flat_map(|(_, hours)| hours.values()).copied().max().unwrap_or(1).max(1);
    let bar = |count: u64| match count {
        0 => ' ',
        count => BARS[((count * BARS.len() as u64).div_ceil(most) - 1) as usize],
    };
    let names: Vec<_> = labels.iter().map(|(label, _)| shown(label.as_bytes())).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for ((_, hours), name) in labels.iter().zip(&names) {
        let bars: String =
            (first..=last).step_by(HOUR as usize).map(|hour| bar(hours.get(&hour).copied().unwrap_or(0))).collect();
        text += &format!("{name:width$}  {bars}  {}\n", sum(hours));
    }
    text + &format!(
        "{:width$}  {} to {}, a bar an hour; the highest is {most}\n",
        "",
        style.time(first),
        style.time(last + HOUR - 1)
    )
}
