//! What pictures show: line by line, and counted.

use super::{FAINT, FAIR, Style, paint};
use crate::view::{HourCount, Observed};
use coft_core::shown::shown;
use std::collections::BTreeMap;

pub fn results(found: &[Observed], style: &Style) -> String {
    if found.is_empty() {
        return "no picture fits; what the service has: coftctl results, coftctl status\n".into();
    }
    found.iter().map(|one| observed(one, style)).collect()
}

/// `2025-06-15 15:06:40  empty shelf 0.93  /srv/coft/in/a.jpg`; without a path the source and the image.
pub fn observed(observed: &Observed, style: &Style) -> String {
    let probability = observed.labels.iter().find(|label| label.label == observed.label);
    let probability = probability.map_or_else(String::new, |label| format!(" {:.2}", label.score));
    let label = format!("{}{probability}", shown(observed.label.as_bytes()));
    let label = if observed.doubtful { paint(FAIR, &format!("{label} ?")) } else { label };
    let file = match &observed.path {
        Some(path) => shown(path.as_bytes()).into_owned(),
        None => format!("{}: {:.12}", shown(observed.source.as_bytes()), observed.image),
    };
    format!("{}  {label}  {}\n", style.second(observed.time), paint(FAINT, &file))
}

/// Eighths of a line's height.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Hours that are drawn, the latest; more would not fit onto a terminal.
const HOURS: i64 = 48;
const HOUR: i64 = 3600;

/// A line a label, the commonest first: a bar for each hour, and the number.
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
