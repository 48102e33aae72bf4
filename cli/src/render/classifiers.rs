//! The classifiers of the service.

use super::{BAD, lines, paint, table};
use crate::view::ClassifierLine;
use coft_core::shown::shown;

pub fn classifiers(classifiers: &[ClassifierLine]) -> String {
    let mut table = table(&["CLASSIFIER", "CLASSES", "GENERATION", "IMAGES", "ROUND", "SOURCES"], &[1, 2, 3, 4]);
    let number = |number: Option<u64>| number.map_or_else(|| "-".into(), |number| number.to_string());
    for line in classifiers {
        let sources: Vec<_> = line.sources.iter().map(|source| shown(source.as_bytes())).collect();
        table.add_row([
            line.classifier.clone(),
            line.classes.len().to_string(),
            number(line.active_generation),
            line.images.to_string(),
            number(line.round),
            if sources.is_empty() { "-".into() } else { sources.join(", ") },
        ]);
    }
    let problem = |line: &ClassifierLine| Some(paint(BAD, &format!("{}: {}", line.classifier, line.problem.as_ref()?)));
    let problems: String = classifiers.iter().filter_map(problem).map(|problem| problem + "\n").collect();
    lines(&table) + &problems
}
