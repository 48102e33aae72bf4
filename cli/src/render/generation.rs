//! Generations: the models that jobs have made.

use super::review::asks;
use super::{FAIR, GOOD, Style, fields, lines, paint, table};
use crate::view::{Generation, GenerationDetails, LabelCount, Review};
use coft_core::report::{Adaptation, ClassReport, OwnLabels, Report};
use coft_core::shown::shown;
use serde::Deserialize;
use std::collections::BTreeMap;

pub fn generations(generations: &[Generation], style: &Style) -> String {
    if generations.is_empty() {
        return "no generations yet; the first job, which starts by itself, makes one; see: coftctl status\n".into();
    }
    let mut table = table(&["GENERATION", "JOB", "METHOD", "CREATED", "IMAGES", "PARITY", "STATE"], &[0, 1, 4]);
    for generation in generations {
        table.add_row([
            generation.generation.to_string(),
            generation.round.to_string(),
            generation.method.clone(),
            style.time(generation.created),
            generation.images.to_string(),
            format!("{:.1e}", generation.parity_max_abs_diff),
            match &generation.refused {
                _ if generation.active => paint(GOOD, "active"),
                Some(_) => paint(FAIR, "refused"),
                None => String::new(),
            },
        ]);
    }
    lines(&table)
}

/// A generation with its report and its answers. `review` is the current review, which may be about it.
pub fn generation(details: &GenerationDetails, review: Option<&Review>, style: &Style) -> String {
    let GenerationDetails { generation, answers } = details;
    let answers = answers.as_deref().unwrap_or_default();
    let (saw, classes) = match Report::deserialize(&generation.report) {
        Ok(report) => (saw(&report), report.classes.into_iter().map(|class| class.name).collect()),
        Err(_) => ("its report is of another version of coft; --json prints it\n".into(), Vec::new()),
    };
    facts(generation, review, style) + &saw + &expected(&classes, &generation.shares, answers)
}

fn facts(generation: &Generation, review: Option<&Review>, style: &Style) -> String {
    let mut pairs = vec![
        ("generation", generation.generation.to_string()),
        ("active", if generation.active { paint(GOOD, "yes") } else { "no".into() }),
        ("job", generation.round.to_string()),
        ("method", generation.method.clone()),
        ("created", style.time(generation.created)),
        ("images", generation.images.to_string()),
        ("parity", format!("{:.1e}", generation.parity_max_abs_diff)),
    ];
    pairs.extend(generation.replaces.map(|number| ("replaces", format!("generation {number}"))));
    if let Some(reason) = &generation.refused {
        pairs.push(("refused", paint(FAIR, reason)));
        let review = review.filter(|review| review.is_asking() && review.candidate == generation.generation);
        pairs.extend(review.map(|review| ("", asks(review))));
        pairs.push(("", all_the_same(generation.generation)));
    }
    fields(&pairs)
}

/// What the round saw.
fn saw(report: &Report) -> String {
    let mut text = String::new();
    if let Some(adaptation) = &report.adaptation {
        text += &adapted(adaptation);
    }
    // The first generation may have been made before there were images.
    if report.images > 0 {
        text += &classes(&report.classes);
    }
    let warnings: Vec<_> = report.warnings.iter().map(|warning| ("warning", paint(FAIR, warning))).collect();
    if !warnings.is_empty() {
        text.push('\n');
    }
    text + &fields(&warnings)
}

/// How to activate a generation that the rules have refused.
pub(super) fn all_the_same(generation: u64) -> String {
    format!("coftctl generation activate {generation} lets it serve all the same")
}

fn adapted(adaptation: &Adaptation) -> String {
    let of_models = |fractions: [f64; 2]| {
        let [one, two] = fractions.map(percent);
        format!("{one} for model 1, {two} for model 2")
    };
    let mut metrics = Vec::new();
    if adaptation.near_duplicates > 0 {
        metrics.push(("near-duplicates", format!("{} of the images; not trained on", adaptation.near_duplicates)));
    }
    metrics.extend([
        ("confirmed labels", of_models(adaptation.confirmed_fraction)),
        ("teaching labels", of_models(adaptation.clean_fraction)),
        ("agreement", format!("the two models agree on {} of the images", percent(adaptation.agreement))),
    ]);
    let metrics = fields(&metrics);
    let header = ["CANDIDATE", "COHERENCE", "BALANCE", "Z-SCORE", "STABILITY", "MARGIN", "AS ZERO-SHOT", "SHIFT", ""];
    let mut table = table(&header, &[1, 2, 3, 4, 5, 6, 7]);
    for candidate in &adaptation.candidates {
        let deployed = candidate.name == adaptation.deployed;
        table.add_row([
            shown(candidate.name.to_string().as_bytes()).into_owned(),
            format!("{:.3}", candidate.coherence),
            format!("{:.3}", candidate.balance),
            format!("{:.1}", candidate.z_score),
            percent(candidate.stability),
            format!("{:.3}", candidate.margin),
            percent(candidate.agreement_with_zero_shot),
            percent(candidate.tv_distance),
            if deployed { paint(GOOD, "deployed") } else { String::new() },
        ]);
    }
    format!("{metrics}\n{}{LEGEND}", lines(&table))
}

const LEGEND: &str = "
COHERENCE is high if images that look alike get the same class, BALANCE if the classes come as often as expected.
Z-SCORE says how many standard errors the sum of both is above zero-shot's. Of the candidates from 2 on, the one with
the largest sum is chosen, otherwise zero-shot, unless the setting deploy names one. STABILITY is the share of images
that keep their class in a shifted crop, MARGIN the probability of the likeliest class less the next one. AS ZERO-SHOT
is the share of images with the same class as by the pretrained model, SHIFT how far the shares of the classes have
moved.
";

/// The number of images of each class, now and at every step; its share, and the accuracy on the user's own labels, if
/// these are known.
fn classes(classes: &[ClassReport]) -> String {
    let expects = classes.iter().any(|class| class.expected_share.is_some());
    let knows = classes.iter().any(|class| class.own_labels.is_some());
    let mut header = vec!["CLASS", "ZERO-SHOT", "SEEDS", "KEPT LABELS", "DEPLOYED"];
    header.extend(expects.then_some("EXPECTED"));
    header.extend(knows.then_some("OWN LABELS"));
    let mut table = table(&header, &[1, 2, 3, 4, 5, 6][..header.len() - 1]);
    for class in classes {
        let both = |[one, two]: [u64; 2]| format!("{one}, {two}");
        let mut row = vec![
            shown(class.name.as_bytes()).into_owned(),
            class.zero_shot.to_string(),
            both(class.seeds),
            both(class.clean),
            class.deployed.to_string(),
        ];
        row.extend(expects.then(|| class.expected_share.map_or_else(String::new, percent)));
        row.extend(knows.then(|| match class.own_labels {
            Some(OwnLabels { right, answered }) if answered > 0 => format!("{right} of {answered} right"),
            _ => "-".into(),
        }));
        table.add_row(row);
    }
    let mut text = format!("\n{}", lines(&table));
    if expects || knows {
        text.push('\n');
    }
    if expects {
        text += "EXPECTED is the share of images of the class, by the model's own probabilities.\n";
    }
    if knows {
        text += "OWN LABELS counts the images that you have labelled and the model takes for the class, and how many of them are of it. These\n\
                 images taught the model: of other images, fewer are right.\n";
    }
    text
}

/// Number of the latest pictures that the service looks at when it counts answers.
const LATEST: u64 = 10_000;

/// How often each class is expected: as the user has set it, and by the answers about the latest pictures. `classes`
/// are in label order; labels that are none of them come last.
fn expected(classes: &[String], shares: &BTreeMap<String, f64>, answers: &[LabelCount]) -> String {
    if shares.is_empty() && answers.is_empty() {
        return String::new();
    }
    let all: u64 = answers.iter().map(|count| count.pictures).sum();
    let knows = answers.iter().any(|count| count.labelled > 0);
    let mut header = vec!["CLASS"];
    header.extend((!shares.is_empty()).then_some("SHARE SET"));
    header.extend((all > 0).then_some(["ANSWERED", "SHARE"]).into_iter().flatten());
    header.extend(knows.then_some("LABELLED"));
    let mut table = table(&header, &[1, 2, 3, 4][..header.len() - 1]);
    // Where the report names no classes, the shares do.
    let classes: Vec<&String> = if classes.is_empty() { shares.keys().collect() } else { classes.iter().collect() };
    let others = answers.iter().map(|count| &count.label).filter(|label| !classes.contains(label));
    for class in classes.iter().copied().chain(others) {
        let count = answers.iter().find(|count| count.label == *class);
        let pictures = count.map_or(0, |count| count.pictures);
        let mut row = vec![shown(class.as_bytes()).into_owned()];
        row.extend((!shares.is_empty()).then(|| shares.get(class).map_or_else(|| "-".into(), |&set| percent(set))));
        row.extend(
            (all > 0).then(|| [pictures.to_string(), percent(pictures as f64 / all as f64)]).into_iter().flatten(),
        );
        row.extend(knows.then(|| match count {
            Some(LabelCount { labelled, right, .. }) if *labelled > 0 => format!("{right} of {labelled} right"),
            _ => "-".into(),
        }));
        table.add_row(row);
    }
    let mut text = format!("\n{}\n", lines(&table));
    if !shares.is_empty() {
        text += "SHARE SET is the share that the setting shares expected when the generation was made.\n";
    }
    if all > 0 {
        text += &format!(
            "ANSWERED counts those of the latest {LATEST} pictures of the sources that the generation has answered, \
             {all} in all; SHARE is their share.\n"
        );
    }
    if knows {
        text +=
            "LABELLED counts those of them that you have labelled, and how many of these the generation has right.\n";
    }
    text
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}
