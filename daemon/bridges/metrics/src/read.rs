//! Reads all metrics from the service.
//!
//! A value that an older or a starting service does not have is left out: users notice a missing metric, but not a
//! wrong one.

use crate::family::Family;
use coft_core::job::JobState;
use coft_dbus::interface::{CLASSIFIER, GENERATION, JOB, MANAGER, SOURCE};
use coft_dbus::{Figures, ObservationFilter, ROOT, observer};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use strum::IntoEnumIterator;
use tokio::time::timeout;
use zbus::{Connection, OwnedVariant};

/// Longest time for all answers of the service. 8 s [choice]: Prometheus gives up after 10 by default.
const PATIENCE: Duration = Duration::from_secs(8);
/// Answers of the last 24 hours are counted by label; s.
const DAY: i64 = 24 * 60 * 60;

/// The properties of the service's objects of one kind, by path, sorted.
type Objects = BTreeMap<String, HashMap<String, OwnedVariant>>;

pub async fn all(connection: &Connection) -> Result<Vec<Family>, String> {
    let late = |_| format!("coftd has not answered within {} s", PATIENCE.as_secs());
    timeout(PATIENCE, ask(connection)).await.map_err(late)?.map_err(|error| error.to_string())
}

async fn ask(connection: &Connection) -> Result<Vec<Family>, coft_dbus::Error> {
    let mut managed = observer::objects(connection).await?;
    let mut of = |interface: &str| -> Objects {
        let found = managed.iter_mut().filter_map(|(path, there)| {
            let name = there.keys().find(|name| name.as_str() == interface)?.clone();
            Some((path.to_string(), there.remove(&name)?))
        });
        found.collect()
    };
    let (classifiers, sources) = (of(CLASSIFIER), of(SOURCE));
    let (generations, jobs) = (of(GENERATION), of(JOB));
    let mut families = vec![Family::up(true)];
    families.extend(of_manager(connection).await);
    families.extend(of_classifiers(&classifiers, &generations));
    families.extend(of_rounds(&jobs));
    families.extend(of_sources(&sources));
    families.push(labels(connection, &sources).await);
    Ok(families)
}

fn number(properties: &HashMap<String, OwnedVariant>, name: &str) -> Option<f64> {
    let value = properties.get(name)?;
    let whole = u64::try_from(value.clone()).map(|number| number as f64);
    let signed = |_| i64::try_from(value.clone()).map(|number| number as f64);
    let truth = |_| bool::try_from(value.clone()).map(f64::from);
    whole.or_else(signed).or_else(truth).or_else(|_| f64::try_from(value.clone())).ok()
}

fn text(properties: &HashMap<String, OwnedVariant>, name: &str) -> Option<String> {
    String::try_from(properties.get(name)?.clone()).ok()
}

/// A sample for each object that has the property; another property is the label that distinguishes them.
fn of_each(mut family: Family, objects: &Objects, (label, naming): (&'static str, &str), property: &str) -> Family {
    for properties in objects.values() {
        if let (Some(name), Some(value)) = (text(properties, naming), number(properties, property)) {
            family.push(vec![(label, name)], value);
        }
    }
    family
}

/// Whether each of these text properties states a problem.
fn problems(
    mut family: Family,
    objects: &Objects,
    (label, naming): (&'static str, &str),
    kinds: &[(&str, &str)],
) -> Family {
    for properties in objects.values() {
        let Some(name) = text(properties, naming) else { continue };
        for (kind, property) in kinds {
            if let Some(problem) = text(properties, property) {
                let labels = vec![(label, name.clone()), ("kind", (*kind).to_owned())];
                family.push(labels, (!problem.is_empty()).into());
            }
        }
    }
    family
}

async fn of_manager(connection: &Connection) -> Vec<Family> {
    let manager = observer::properties(connection, ROOT, MANAGER).await.unwrap_or_default();
    let mut build = Family::gauge("coft_build_info", "The version of coftd.");
    if let Some(version) = text(&manager, "Version") {
        build.push(vec![("version", version)], 1.0);
    }
    let figures: Figures = observer::call(connection, ROOT, MANAGER, "Measure", &()).await.unwrap_or_default();
    let count = |number: Option<u64>| number.map(|number| number as f64);
    let waiting = [("interactive", figures.waiting_interactive), ("bulk", figures.waiting_bulk)];
    let waiting = waiting.into_iter().filter_map(|(priority, waiting)| Some((priority, count(waiting)?)));
    let mut delays = Vec::new();
    if let (Some(sum), Some(buckets)) = (figures.answer_delay_seconds, &figures.answer_delays) {
        let help = "How long pictures have waited for their answers, from when each file was seen to be complete.";
        delays.push(Family::histogram("coft_answer_delay", help, sum, buckets).in_seconds());
    }
    let mut families = vec![
        build,
        Family::counter("coft_classified_images", "Images that were classified since coftd started.")
            .maybe(count(figures.classified_images)),
        Family::counter("coft_failed_images", "Images that were taken in to be classified, and could not be.")
            .maybe(count(figures.failed_images)),
        Family::counter("coft_busy_images", "Images that were not classified because too many waited.")
            .maybe(count(figures.refused_images)),
        Family::gauge("coft_waiting_images", "Images that wait to be classified, or are under way.")
            .with("priority", waiting),
        Family::counter("coft_queue", "Time that classified images have waited for their turn.")
            .in_seconds()
            .maybe(figures.queue_seconds),
        Family::counter("coft_decode", "Time that reading and decoding classified images took.")
            .in_seconds()
            .maybe(figures.decode_seconds),
        Family::counter("coft_inference", "Time of the batches that classified images were part of.")
            .in_seconds()
            .maybe(figures.inference_seconds),
        Family::gauge("coft_resident_memory", "Memory of coftd that is resident.")
            .in_bytes()
            .maybe(count(figures.memory_bytes)),
        Family::gauge("coft_state_disk_free", "What coftd may still write on the disk of its state directory.")
            .in_bytes()
            .maybe(count(figures.disk_free_bytes)),
        Family::gauge("coft_state_disk_size", "Size of the disk of the state directory.")
            .in_bytes()
            .maybe(count(figures.disk_size_bytes)),
    ];
    families.extend(delays);
    families
}

fn of_classifiers(classifiers: &Objects, generations: &Objects) -> Vec<Family> {
    let by = ("classifier", "Name");
    let each = |family, property| of_each(family, classifiers, by, property);
    let kinds = [
        ("setup", "SetupProblem"),
        ("intake", "IntakeProblem"),
        ("serving", "ServingProblem"),
        ("provider", "ProviderProblem"),
        ("round", "RoundProblem"),
    ];
    let mut counted: BTreeMap<(String, String), f64> = BTreeMap::new();
    for (path, properties) in generations {
        let classifier = path.split('/').rev().nth(2).unwrap_or_default().to_owned();
        let method = text(properties, "Method").unwrap_or_default();
        *counted.entry((classifier, method)).or_default() += 1.0;
    }
    let mut kept = Family::gauge("coft_generations", "Generations that are kept.");
    for ((classifier, method), count) in counted {
        kept.push(vec![("classifier", classifier), ("method", method)], count);
    }
    vec![
        each(Family::counter("coft_images", "Images that were ever taken in."), "Images"),
        each(Family::gauge("coft_refused_files", "Files that hold no usable image."), "Quarantined"),
        each(
            Family::gauge("coft_active_generation", "Number of the generation that answers; 0 where none does."),
            "ActiveGeneration",
        ),
        kept,
        problems(
            Family::gauge("coft_problem", "Whether something is in the way; coftctl status says what."),
            classifiers,
            by,
            &kinds,
        ),
        reviews(classifiers),
    ]
}

/// Whether a person is asked which of two generations is better, by classifier.
fn reviews(classifiers: &Objects) -> Family {
    let mut asking =
        Family::gauge("coft_review_asking", "Whether labels are asked for to decide about a round: coftctl review.");
    for properties in classifiers.values() {
        let review = properties.get("Review").cloned().map(HashMap::<String, OwnedVariant>::try_from);
        if let (Some(name), Some(Ok(review))) = (text(properties, "Name"), review) {
            let is_asking = text(&review, "state").is_some_and(|state| state == "asking");
            asking.push(vec![("classifier", name)], is_asking.into());
        }
    }
    asking
}

fn of_rounds(jobs: &Objects) -> Vec<Family> {
    let count = |state: &str| jobs.values().filter(|job| text(job, "State").as_deref() == Some(state)).count() as f64;
    let by_state = JobState::iter().map(<&str>::from).map(|state| (state, count(state)));
    let ended = jobs.values().filter(|job| number(job, "Ended").is_some_and(|ended| ended > 0.0));
    // Compared by their end, because each classifier numbers its own jobs.
    let last =
        ended.max_by(|a, b| f64::total_cmp(&number(a, "Ended").unwrap_or(0.0), &number(b, "Ended").unwrap_or(0.0)));
    let of_last = |property| last.and_then(|job| number(job, property));
    let running = jobs.values().find(|job| text(job, "State").as_deref() == Some(JobState::Running.into()));
    let progress = running.and_then(|job| number(job, "Fraction"));
    vec![
        Family::gauge("coft_rounds", "The latest jobs, at most 100, by what became of them.").with("state", by_state),
        Family::gauge("coft_last_round_end_timestamp", "When the last job ended, as Unix time.")
            .in_seconds()
            .maybe(of_last("Ended")),
        Family::gauge("coft_last_round_duration", "How long the last job took.")
            .in_seconds()
            .maybe(of_last("TookSeconds")),
        Family::gauge("coft_round_progress_ratio", "Share of the running job that is done.").maybe(progress),
    ]
}

fn of_sources(sources: &Objects) -> Vec<Family> {
    let by = ("source", "Name");
    let each = |family, property| of_each(family, sources, by, property);
    let mut states = Family::gauge("coft_source_state", "1 for what the latest pictures show together.");
    for properties in sources.values() {
        if let (Some(source), Some(state)) = (text(properties, "Name"), text(properties, "State")) {
            states.push(vec![("source", source), ("state", state)], 1.0);
        }
    }
    vec![
        each(Family::gauge("coft_source_images", "Images of the source that are catalogued."), "Images"),
        each(
            Family::gauge("coft_source_refused_files", "Files of the source that hold no usable image."),
            "Quarantined",
        ),
        each(
            Family::gauge("coft_source_waiting_files", "Files of the source that wait to be looked at."),
            "WaitingFiles",
        ),
        each(Family::counter("coft_source_answers", "Pictures of the source that were answered."), "LastSequence"),
        each(
            Family::gauge("coft_source_waiting_images", "Pictures of the source that wait for their answer."),
            "Unanswered",
        ),
        states,
        each(
            Family::gauge(
                "coft_source_state_since_timestamp",
                "When the picture came that made the state so, as Unix time.",
            )
            .in_seconds(),
            "StateSince",
        ),
        each(
            Family::gauge("coft_source_last_picture_timestamp", "When the latest answered picture came, as Unix time.")
                .in_seconds(),
            "LastTime",
        ),
        problems(
            Family::gauge(
                "coft_source_problem",
                "Whether the source cannot be watched, or its pictures not be answered.",
            ),
            sources,
            by,
            &[("watch", "Problem"), ("answers", "AnswersProblem")],
        ),
    ]
}

/// The number of answers of the last day for each label.
async fn labels(connection: &Connection, sources: &Objects) -> Family {
    let mut family =
        Family::gauge("coft_source_recent_answers", "Answers of the last 24 hours, by their label, in whole hours.");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs() as i64);
    for (path, properties) in sources {
        let Some(source) = text(properties, "Name") else { continue };
        let filter = ObservationFilter { since: Some(now - DAY), ..ObservationFilter::default() };
        let counts = observer::call(connection, path, SOURCE, "CountObservations", &filter).await;
        let counts: Vec<(i64, String, u64)> = counts.unwrap_or_default();
        let mut sums: BTreeMap<String, u64> = BTreeMap::new();
        for (_, label, count) in counts {
            *sums.entry(label).or_default() += count;
        }
        for (label, count) in sums {
            family.push(vec![("source", source.clone()), ("label", label)], count as f64);
        }
    }
    family
}
