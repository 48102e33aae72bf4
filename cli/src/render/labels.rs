//! Labels of images.

use super::{FAINT, paint};
use crate::view::Labels;

/// One image: `bolt.jpg: bolt 0.974`, further labels after commas. The file's name stands first, as in grep and file.
pub fn labels(file: &str, labels: &Labels) -> String {
    if labels.labels.is_empty() {
        return format!("{file}: {}\n", paint(FAINT, "no label"));
    }
    let listed: Vec<String> = labels.labels.iter().map(|l| format!("{} {:.3}", l.label, l.score)).collect();
    format!("{file}: {}\n", listed.join(", "))
}
