//! What the pictures show, told and asked for.

use super::*;
use crate::catalog::{Answer, Budget, Catalog, Entry, Last, Standing, Turn, Unanswered};
use crate::observed_file::{Arrival, FileFingerprint, ImageRecord, ObservedFile};
use coft_core::ids::ImageId;
use coft_dbus::{Error, ObservationFilter};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const SOURCE: &str = "/srv/in";

/// A catalogue whose one source is answered.
struct Kept {
    catalog: Catalog,
    _dir: TempDir,
}

impl Kept {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&dir.path().join("catalog.sqlite")).unwrap();
        Self { catalog: catalog.answering(vec![SOURCE.into()]), _dir: dir }
    }

    /// A picture comes and shows this.
    async fn shows(&self, number: i64, label: &str, probability: f64) {
        let fingerprint = FileFingerprint { bytes: 1, modified_ns: number, changed_ns: number };
        let observed =
            ObservedFile { source: SOURCE.into(), path: format!("{SOURCE}/{number}\n.jpg").into(), fingerprint };
        let id = ImageId(format!("{number:064x}"));
        let record = ImageRecord { id, width_px: 1, height_px: 1, bytes: 1, canonical_px: 8 };
        self.catalog.record(vec![Entry::Image { observed, record, came: Arrival::now() }]).await.unwrap();
        let waiting = self.catalog.unanswered(SOURCE.as_ref(), Turn::First, 9).await.unwrap();
        let answers = waiting.into_iter().map(|picture| self.answer(picture, label, probability));
        let budget = Budget { most: 1000, keep: Duration::from_secs(1000) };
        self.catalog.answer(answers.collect(), Arc::default(), budget).await.unwrap();
    }

    fn answer(&self, picture: Unanswered, label: &str, probability: f64) -> Answer {
        Answer {
            source: picture.source,
            arrival: picture.arrival,
            label: label.into(),
            probability: Some(probability),
            labels: vec![(label.into(), probability), ("other".into(), 1.0 - probability)],
            classifier: "parts".into(),
            generation: GenerationId(1),
            margin: 2.0 * probability - 1.0,
            doubtful: probability < 0.6,
            none_of_these: None,
            decision: Some(label.into()),
            classes: [label.to_owned()].into(),
        }
    }

    fn open(&self, stage: &Stage, latest: u64) {
        stage.teller.open(self.catalog.clone(), vec![SOURCE.into()], &[latest]);
    }
}

#[tokio::test]
async fn every_answer_is_told_to_everybody_once_and_without_the_path() {
    let (stage, kept) = (Stage::set(grown()).await, Kept::new());
    let mut signals = stage.signals().await;
    kept.shows(1, "nut", 0.75).await;
    kept.open(&stage, 1);
    for (number, label) in [(2, "bolt"), (3, "nut")] {
        kept.shows(number, label, 0.75).await;
    }
    stage.teller.reach(&[3]);
    for (number, label) in [(2, "bolt"), (3, "nut")] {
        let told = signals.next().await;
        let header = told.header();
        assert_eq!(
            (header.member().unwrap().as_str(), header.path().unwrap().as_str()),
            ("Observed", "/org/coft/Coft1/sources/0")
        );
        assert_eq!(told.body().signature().to_string(), "(tsa(sd)a{sv})");
        let (sequence, image, labels, details): coft_dbus::Observation = told.body().deserialize().unwrap();
        assert_eq!((sequence, image), (number, format!("{number:064x}")), "what was answered before is old");
        assert_eq!(labels, [(label.to_owned(), 0.75), ("other".to_owned(), 0.25)]);
        assert_eq!((details.generation, details.classifier.as_str(), details.margin), (1, "parts", 0.5));
        assert_eq!((details.doubtful, details.none_of_these, details.decision.as_deref()), (false, None, Some(label)));
        assert_eq!(details.path, None);
    }
    stage.teller.reach(&[3]);
    kept.shows(4, "nut", 0.5).await;
    stage.teller.reach(&[4]);
    let (sequence, ..): coft_dbus::Observation = signals.next().await.body().deserialize().unwrap();
    assert_eq!(sequence, 4);
}

#[tokio::test]
async fn who_was_away_is_told_what_it_missed() {
    let (stage, kept) = (Stage::set(grown()).await, Kept::new());
    let source = stage.source(0).await;
    let early = source.observations(0, 10).await.unwrap_err();
    assert!(matches!(&early, Error::NotReady(text) if text.contains("not open yet")), "{early}");
    kept.open(&stage, 0);
    assert!(source.observations(0, 10).await.unwrap().is_empty());
    for number in 1..=5 {
        kept.shows(number, if number == 4 { "bolt" } else { "nut" }, 0.5 + 0.1 * number as f64).await;
    }
    let numbers = |found: &[coft_dbus::Observation]| found.iter().map(|(sequence, ..)| *sequence).collect::<Vec<_>>();
    let missed = source.observations(2, 2).await.unwrap();
    assert_eq!(numbers(&missed), [3, 4]);
    // The tests run as the service's user.
    assert_eq!(missed[0].3.path.as_deref(), Some("/srv/in/3\\n.jpg"));
    assert_eq!(numbers(&source.observations(5, 100).await.unwrap()), [0u64; 0]);
    assert_eq!(numbers(&source.observations(0, u32::MAX).await.unwrap()), [1, 2, 3, 4, 5]);

    let find = async |filter: ObservationFilter| numbers(&source.find_observations(filter, 100).await.unwrap());
    assert_eq!(find(ObservationFilter::default()).await, [5, 4, 3, 2, 1]);
    assert_eq!(
        find(ObservationFilter { label: Some("nut".into()), before: Some(5), ..Default::default() }).await,
        [3, 2, 1]
    );
    assert_eq!(find(ObservationFilter { doubtful: Some(true), ..Default::default() }).await, [0u64; 0]);
    assert_eq!(find(ObservationFilter { since: Some(i64::MAX), ..Default::default() }).await, [0u64; 0]);
    assert_eq!(find(ObservationFilter { generation: Some(1), ..Default::default() }).await.len(), 5);
    let counts = source.count_observations(ObservationFilter::default()).await.unwrap();
    let of = |wanted: &str| counts.iter().filter(|(_, label, _)| label == wanted).map(|(.., count)| count).sum::<u64>();
    assert_eq!((of("nut"), of("bolt")), (4, 1));
    assert!(counts.iter().all(|(hour, ..)| hour % 3600 == 0));
}

#[tokio::test]
async fn where_two_generations_differ_is_told() {
    let (stage, kept) = (Stage::set(grown()).await, Kept::new());
    let classifier = ClassifierProxy::builder(&stage.client).path(classifier_path("parts")).build().await.unwrap();
    let early = classifier.compare_generations(1, 2, 10).await.unwrap_err();
    assert!(matches!(&early, Error::NotReady(_)), "{early}");
    kept.open(&stage, 0);
    for number in 1..=3 {
        kept.shows(number, "nut", 0.75).await;
    }
    let classes = ["nut".to_owned(), "bolt".to_owned()].into();
    kept.catalog.serves(GenerationId(2), classes, vec![SOURCE.into()], 2, Arc::default()).await.unwrap();
    let waiting = kept.catalog.unanswered_again(9).await.unwrap();
    let again = Answer { generation: GenerationId(2), ..kept.answer(waiting[0].clone(), "bolt", 0.5) };
    kept.catalog.answer_again(vec![again], Vec::new(), Arc::default()).await.unwrap();

    let (summary, moves, changes, unsure) = classifier.compare_generations(1, 2, 10).await.unwrap();
    assert_eq!(summary, coft_dbus::Comparison { compared: 1, changed: 1, waiting: 1 });
    assert_eq!(moves, [("nut".into(), "bolt".into(), 1)]);
    assert_eq!(changes, unsure);
    let (image, details) = &changes[0];
    assert_eq!((image, details.source.as_str()), (&format!("{:064x}", 3), SOURCE));
    assert_eq!(details.path.as_deref(), Some("/srv/in/3\\n.jpg"), "the tests run as the service's user");
    assert_eq!((details.old_label.as_str(), details.old_probability), ("nut", Some(0.75)));
    assert_eq!((details.new_label.as_str(), details.new_probability), ("bolt", Some(0.5)));
    let source = stage.source(0).await;
    let changed = ObservationFilter { changed: Some(true), classifier: Some("parts".into()), ..Default::default() };
    let found = source.find_observations(changed, 9).await.unwrap();
    let details = &found[0].3;
    assert_eq!((found.len(), details.later_generation, details.later_label.as_deref()), (1, Some(2), Some("bolt")));
    assert_eq!(details.later_probability, Some(0.5));
    stage.publish(|snapshot| snapshot.unanswered_again = 1);
    assert_eq!(classifier.unanswered_again().await.unwrap(), 1);
}

#[tokio::test]
async fn a_filter_that_cannot_be_is_refused() {
    let (stage, kept) = (Stage::set(grown()).await, Kept::new());
    kept.open(&stage, 0);
    let call = async |method: &str, name: &str, value: Variant<'_>| {
        let filter: HashMap<&str, Variant<'_>> = [(name, value)].into();
        let source = zbus::Proxy::new(&stage.client, BUS_NAME, source_path(0), "org.coft.Coft1.Source").await.unwrap();
        let error = match method {
            "FindObservations" => source.call::<_, _, ()>(method, &(filter, 1u32)).await.unwrap_err(),
            _ => source.call::<_, _, ()>(method, &(filter,)).await.unwrap_err(),
        };
        error.to_string()
    };
    let unknown = call("FindObservations", "colour", "red".into()).await;
    assert!(unknown.contains("there is no option \"colour\"") && unknown.contains("label, doubtful"), "{unknown}");
    let other = call("FindObservations", "doubtful", "yes".into()).await;
    assert!(other.contains("the option doubtful has the D-Bus type s; it has to be b"), "{other}");
    let page = call("CountObservations", "before", 5u64.into()).await;
    assert!(page.contains("there is no option \"before\""), "{page}");
}

#[tokio::test]
async fn the_state_of_a_source_is_told() {
    let stage = Stage::set(grown()).await;
    let source = stage.source(0).await;
    assert_eq!((source.state().await.unwrap(), source.state_since().await.unwrap()), ("unknown".into(), 0));
    assert_eq!((source.last_label().await.unwrap(), source.last_time().await.unwrap()), (String::new(), 0));
    let mut signals = stage.signals().await;
    let last = Some(Last { label: "nut".into(), image: ImageId("0a".into()), time: 60 });
    let standing = Standing { state: Some("nut".into()), since: 50, last, sequence: 7, waiting: 2 };
    stage.publish(|snapshot| snapshot.sources[0].answers.standing = standing);
    let changed = ["LastImage", "LastLabel", "LastSequence", "LastTime", "State", "StateSince", "Unanswered"];
    assert_eq!(signals.changed().await, (source_path(0), set(changed)));
    assert_eq!((source.state().await.unwrap(), source.state_since().await.unwrap()), ("nut".into(), 50));
    assert_eq!((source.last_sequence().await.unwrap(), source.unanswered().await.unwrap()), (7, 2));
    assert_eq!((source.last_image().await.unwrap(), source.last_time().await.unwrap()), ("0a".into(), 60));
    assert!(!source.classifies().await.unwrap());
    stage.publish(|snapshot| snapshot.sources[0].answers.problem = "no generation serves yet".into());
    assert_eq!(signals.changed().await.1, set(["AnswersProblem"]));
    assert_eq!(source.answers_problem().await.unwrap(), "no generation serves yet");
}

#[tokio::test]
async fn a_generation_that_comes_to_answer_is_told_of() {
    let running = Snapshot { jobs: vec![round(2, DetailedState::Running)], ..grown() };
    let stage = Stage::set(running).await;
    let mut signals = stage.signals().await;
    stage.publish(|snapshot| {
        let promoted = GenerationStatus { replaces: Some(GenerationId(1)), ..generation(2, true) };
        (snapshot.active, snapshot.generations) = (Some(GenerationId(2)), vec![generation(1, false), promoted]);
        snapshot.jobs = vec![round(2, DetailedState::Promoted(GenerationId(2)))];
    });
    loop {
        let told = signals.next().await;
        if told.header().member().unwrap().as_str() == "GenerationActivated" {
            assert_eq!(told.header().path().unwrap().as_str(), classifier_path("parts"));
            assert_eq!(told.body().deserialize::<(u64, u64)>().unwrap(), (2, 1));
            break;
        }
    }
}
