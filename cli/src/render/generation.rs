//! Generations: the models that rounds have made.

use super::{GOOD, Style, lines, paint, table};
use crate::view::Generation;

pub fn generations(generations: &[Generation], style: &Style) -> String {
    if generations.is_empty() {
        return "no generations yet; the first round makes one (coftctl round start --wait)\n".into();
    }
    let mut table = table(&["GENERATION", "ROUND", "METHOD", "CREATED", "IMAGES", "PARITY", "ACTIVE"], &[0, 1, 4]);
    for generation in generations {
        table.add_row([
            generation.generation.to_string(),
            generation.round.to_string(),
            generation.method.clone(),
            style.time(generation.created),
            generation.images.to_string(),
            format!("{:.1e}", generation.parity_max_abs_diff),
            if generation.active { paint(GOOD, "active") } else { String::new() },
        ]);
    }
    lines(&table)
}
