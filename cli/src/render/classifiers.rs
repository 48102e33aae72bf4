//! The classifiers of the service, and their sources.

use super::{BAD, lines, paint, table};
use crate::view::{Advice, ClassifierLine, Source};
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

/// Possible problems of class names, found from the names alone or also by a round.
pub fn advice(found: &[Advice], by_a_round: bool) -> String {
    match (found.is_empty(), by_a_round) {
        (true, true) => return "the names are plain words, and no two of them are one to the model\n".into(),
        (true, false) => {
            return "the names are plain words; once a generation of them is there, coftctl lint knows what its model \
                    makes of them\n"
                .into();
        }
        (false, _) => {}
    }
    let line = |Advice { line, class, advice }: &Advice| {
        let line = line.map_or_else(String::new, |line| format!("line {line}: "));
        let class = class.as_ref().map_or_else(String::new, |class| format!("{}: ", shown(class.as_bytes())));
        format!("{line}{class}{advice}\n")
    };
    found.iter().map(line).collect()
}

pub fn sources(sources: &[Source]) -> String {
    if sources.is_empty() {
        return "no directory is watched; to have one watched: coftctl source add DIR\n".into();
    }
    let mut table = table(&["SOURCE", "CLASSIFIER", "IMAGES", "REFUSED", "STATE", "DIRECTORY"], &[2, 3]);
    for source in sources {
        table.add_row([
            shown(source.name.as_bytes()).into_owned(),
            source.classifier.clone(),
            source.images.to_string(),
            source.quarantined.to_string(),
            source.state.as_ref().map_or_else(|| "-".into(), |state| shown(state.as_bytes()).into_owned()),
            shown(source.path.as_bytes()).into_owned(),
        ]);
    }
    let problem =
        |source: &Source| Some((shown(source.name.as_bytes()).into_owned(), source.problem.as_ref()?.clone()));
    let problems = sources.iter().filter_map(problem).map(|(name, told)| paint(BAD, &format!("{name}: {told}")) + "\n");
    lines(&table) + &problems.collect::<String>()
}
