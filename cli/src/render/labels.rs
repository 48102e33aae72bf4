//! Labels of images.

use super::{FAINT, paint};
use crate::view::Labels;
use coft_core::shown::shown;

/// One image: `bolt.jpg: bolt 0.974`, further labels after commas. The file's name comes first, as with grep and file.
/// If the image is none of the classes, that comes before the labels: `cat.jpg: none of these (bolt 0.341)`. The same
/// holds for the class that is decided for, where thresholds are configured: `aisle.jpg: blocked (free 0.712)`.
pub fn labels(file: &str, labels: &Labels) -> String {
    let file = shown(file.as_bytes());
    let said = match &labels.decision {
        _ if labels.none_of_these => Some("none of these".into()),
        decision => decision.as_ref().map(|class| shown(class.as_bytes())),
    };
    if labels.labels.is_empty() {
        return format!("{file}: {}\n", said.map_or_else(|| paint(FAINT, "no label"), |said| paint(FAINT, &said)));
    }
    let listed: Vec<String> =
        labels.labels.iter().map(|l| format!("{} {:.3}", shown(l.label.as_bytes()), l.score)).collect();
    let listed = listed.join(", ");
    match said {
        Some(said) => format!("{file}: {said} {}\n", paint(FAINT, &format!("({listed})"))),
        None => format!("{file}: {listed}\n"),
    }
}
