//! Finds class names that can be read but that a model may understand in another way than the user meant.
//!
//! The findings are advice: no list is refused because of them. [`crate::labels`] decides which lists are refused.

use crate::report::Report;

/// From this cosine of their text features on, a model cannot distinguish two names. 0.98 [measured]: for 68 classes of
/// five sets and a small CLIP, pairs above it were distinguished no better than by chance. Synonyms such as "car" and
/// "automobile" lie above it. The nearest pair that the model distinguishes has 0.81.
pub const SAME: f64 = 0.98;
/// Number of images from which on a class that no image resembles is reported. [choice]
const ENOUGH_IMAGES: u64 = 100;

/// What other programs may misread in a file of class names, and what to do.
pub fn of_file(bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let mut tell = |is_so: bool, what: &str| found.extend(is_so.then(|| what.to_owned()));
    let is_utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    tell(is_utf16, "the file is in UTF-16; it is read, and most programs expect UTF-8: save it so");
    tell(
        bytes.starts_with(&[0xef, 0xbb, 0xbf]),
        "the file begins with a byte order mark; it is read, and other programs may take it for a part of the first \
         name: save it as UTF-8 without one",
    );
    let lines_end_otherwise = !is_utf16 && bytes.windows(2).any(|pair| pair == b"\r\n");
    tell(
        lines_end_otherwise,
        "lines end as on Windows; they are read, and other programs may take the carriage return for a part of each \
         name",
    );
    found
}

/// What a model may misunderstand in a class name, and what to do; `None` where the name is plain words.
pub fn of_name(name: &str) -> Option<String> {
    let is_one_word = !name.contains(char::is_whitespace);
    let is_code = is_one_word && (name.contains(char::is_numeric) || name.chars().count() == 1 && name.is_ascii());
    let has_hump = name.chars().zip(name.chars().skip(1)).any(|(a, b)| a.is_lowercase() && b.is_uppercase());
    if is_code {
        return Some("it looks like a code; the model knows words: write what can be seen in the picture".into());
    }
    if name.contains('_') {
        return Some(format!(
            "it has underscores; the model has learnt from sentences: write \"{}\"",
            name.replace('_', " ")
        ));
    }
    has_hump.then(|| "words are written together; the model has learnt from sentences: put spaces between them".into())
}

/// What a round has found about the names of its classes: pairs that the model cannot distinguish, and names that no
/// image resembles. Each finding comes with its class.
pub fn of_report(report: &Report) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for class in &report.classes {
        let Some(nearest) = class.nearest.as_ref().filter(|nearest| nearest.cosine >= SAME) else { continue };
        // Each pair is reported once.
        if !found.iter().any(|(told, _)| *told == nearest.name) {
            let (other, cosine) = (&nearest.name, nearest.cosine);
            let told = format!(
                "the model takes it for \"{other}\" (cosine {cosine:.3}); describe how the two differ in a picture, or \
                 make them one class"
            );
            found.push((class.name.clone(), told));
        }
    }
    let seen: u64 = report.classes.iter().map(|class| class.zero_shot.max(class.deployed)).sum();
    if seen >= ENOUGH_IMAGES {
        let none = report.classes.iter().filter(|class| class.zero_shot == 0 && class.deployed == 0);
        found.extend(none.map(|class| {
            let images = report.images;
            let told = format!(
                "none of {images} images resembles it; leave it out if it never comes, or describe it in other words"
            );
            (class.name.clone(), told)
        }));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{ClassReport, Nearest};

    #[test]
    fn names_that_are_no_words_are_told() {
        for (name, told) in [
            ("n01440764", "code"),
            ("cls-07", "code"),
            ("12", "code"),
            ("class 3", ""),
            ("speed limit 50", ""),
            ("M8 bolt", ""),
            ("x", "code"),
            ("hex_bolt", "write \"hex bolt\""),
            ("HexBolt", "spaces between"),
            ("hex bolt", ""),
            ("écrou à ailettes", ""),
            ("螺栓", ""),
            ("part no 4711b", ""),
            ("A320", "code"),
        ] {
            let found = of_name(name).unwrap_or_default();
            assert!(if told.is_empty() { found.is_empty() } else { found.contains(told) }, "{name}: {found:?}");
        }
    }

    #[test]
    fn files_that_other_programs_read_otherwise_are_told() {
        let told = |bytes: &[u8], what: &str| {
            let found = of_file(bytes);
            assert!(found.len() == usize::from(!what.is_empty()) && found.join("").contains(what), "{found:?}");
        };
        told(b"nut\nbolt\n", "");
        told(b"\xef\xbb\xbfnut\nbolt\n", "byte order mark");
        told(b"nut\r\nbolt\r\n", "Windows");
        told(&[0xff, 0xfe, b'n', 0, b'\r', 0, b'\n', 0], "UTF-16");
    }

    #[test]
    fn what_a_round_has_found_is_told_once() {
        let class = |name: &str, images: u64, nearest: &str, cosine: f64| ClassReport {
            name: name.into(),
            zero_shot: images,
            seeds: [0; 2],
            clean: [0; 2],
            deployed: images,
            expected_share: None,
            own_labels: None,
            nearest: Some(Nearest { name: nearest.into(), cosine }),
        };
        let mut report = Report {
            images: 150,
            classes: vec![
                class("car", 90, "automobile", 0.999),
                class("automobile", 60, "car", 0.999),
                class("dog", 0, "car", 0.4),
            ],
            adaptation: None,
            warnings: vec![],
            seconds: Default::default(),
            peak_memory_bytes: 0,
        };
        let found = of_report(&report);
        assert_eq!(found.iter().map(|(class, _)| class.as_str()).collect::<Vec<_>>(), ["car", "dog"]);
        assert!(found[0].1.contains("\"automobile\" (cosine 0.999)") && found[1].1.contains("none of 150 images"));
        report.classes[0].zero_shot = 5;
        (report.classes[0].deployed, report.images) = (5, 65);
        assert_eq!(of_report(&report).len(), 1, "too few images to say so");
    }
}
