//! Labels of images.

use super::{FAINT, paint};
use crate::view::Labels;
use coft_core::shown::shown;

/// One image: `bolt.jpg: bolt 0.974`, further labels after commas. The file's name stands first, as in grep and file. Where
/// the image is none of the classes, that stands before them: `cat.jpg: none of these (bolt 0.341)`.
pub fn labels(file: &str, labels: &Labels) -> String {
    let file = shown(file.as_bytes());
    if labels.labels.is_empty() {
        let nothing = if labels.none_of_these { "none of these" } else { "no label" };
        return format!("{file}: {}\n", paint(FAINT, nothing));
    }
    let listed: Vec<String> =
        labels.labels.iter().map(|l| format!("{} {:.3}", shown(l.label.as_bytes()), l.score)).collect();
    let listed = listed.join(", ");
    match labels.none_of_these {
        true => format!("{file}: none of these {}\n", paint(FAINT, &format!("({listed})"))),
        false => format!("{file}: {listed}\n"),
    }
}
