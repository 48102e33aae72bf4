//! Which pictures wait for an answer, the answers, and the state that they give together.

use super::*;
use crate::observation::{Observation, ObservationFilter};
use coft_core::answer::{NONE_OF_THESE, StateRule};
use coft_core::ids::GenerationId;
use std::sync::Arc;
use std::time::Duration;

pub const CAMERA: &str = "/camera";
const BUDGET: Budget = Budget { most: 100_000, keep: Duration::from_secs(24 * 60 * 60) };

pub fn answering() -> (TempDir, Catalog) {
    let (dir, catalog) = catalog();
    (dir, catalog.answering(vec![CAMERA.into()]))
}

async fn waiting(catalog: &Catalog, turn: Turn) -> Vec<Unanswered> {
    catalog.unanswered(Path::new(CAMERA), turn, 100).await.unwrap()
}

/// The images that wait for their first turn, the latest first.
async fn owed(catalog: &Catalog) -> Vec<String> {
    waiting(catalog, Turn::First).await.into_iter().map(|picture| picture.image.0).collect()
}

pub fn answer(picture: &Unanswered, label: &str, probability: f64) -> Answer {
    let none = label == NONE_OF_THESE;
    Answer {
        source: picture.source.clone(),
        arrival: picture.arrival,
        label: label.into(),
        probability: (!none).then_some(probability),
        labels: vec![(if none { "full" } else { label }.into(), probability), ("other".into(), 1.0 - probability)],
        classifier: "shelf".into(),
        generation: GenerationId(1),
        margin: 2.0 * probability - 1.0,
        doubtful: probability < 0.6,
        none_of_these: Some(none),
        decision: None,
        classes: ["full", "empty", "other"].map(str::to_owned).into(),
    }
}

pub async fn write(catalog: &Catalog, answers: Vec<Answer>, budget: Budget) {
    let rules = [(CAMERA.into(), StateRule::default())].into();
    catalog.answer(answers, Arc::new(rules), budget).await.unwrap();
}

/// Lets a picture arrive, and answers every picture that waits with this label.
pub async fn shows(catalog: &Catalog, number: i64, label: &str, probability: f64) {
    catalog.record(vec![image(&format!("{number}.jpg"), number, &format!("a{number}"))]).await.unwrap();
    let answers =
        waiting(catalog, Turn::First).await.iter().map(|picture| answer(picture, label, probability)).collect();
    write(catalog, answers, BUDGET).await;
}

pub async fn standing(catalog: &Catalog) -> Standing {
    catalog.standings(vec![CAMERA.into()]).await.unwrap().remove(0)
}

pub async fn all(catalog: &Catalog) -> Vec<Observation> {
    catalog.observations(Path::new(CAMERA), 0, 1000).await.unwrap()
}

fn sequences(observations: &[Observation]) -> Vec<u64> {
    observations.iter().map(|observation| observation.sequence).collect()
}

fn seen(path: &str, version: i64, id: &str) -> Entry {
    Entry::Seen { observed: observed(path, version), image: ImageId(id.into()), came: Arrival::now() }
}

#[tokio::test]
async fn a_picture_is_owed_an_answer_by_its_content_and_its_date() {
    let (_dir, catalog) = answering();
    catalog.record(vec![image("a.jpg", 1, "aa"), image("b.jpg", 2, "bb")]).await.unwrap();
    assert_eq!(owed(&catalog).await, ["bb", "aa"], "the latest first");
    // A new name or a new record of a known picture does not make another picture.
    catalog.record(vec![seen("renamed.jpg", 1, "aa"), image("b.jpg", 2, "bb")]).await.unwrap();
    let (source, from, to) = ("/camera".into(), "/camera/b.jpg".into(), "/camera/c.jpg".into());
    catalog.record(vec![Entry::Moved { source, from, to }]).await.unwrap();
    catalog.record(vec![gone("/camera/c.jpg"), seen("d.jpg", 2, "bb")]).await.unwrap();
    assert_eq!(owed(&catalog).await, ["bb", "aa"]);
    // The camera has written the same picture once more: under another name, or over the last one.
    catalog.record(vec![seen("no-signal-2.jpg", 3, "aa")]).await.unwrap();
    catalog.record(vec![seen("no-signal-2.jpg", 4, "aa"), seen("stranger.jpg", 5, "unknown")]).await.unwrap();
    assert_eq!(owed(&catalog).await, ["aa", "aa", "bb", "aa"]);
    assert_eq!(standing(&catalog).await.waiting, 4);
}

#[tokio::test]
async fn a_source_that_is_not_answered_owes_nothing() {
    let (_dir, catalog) = catalog();
    let other = catalog.clone().answering(vec!["/yard".into()]);
    let mut arrivals = other.arrivals();
    other.record(vec![image("a.jpg", 1, "aa"), seen("b.jpg", 2, "aa")]).await.unwrap();
    assert!(owed(&catalog).await.is_empty());
    assert!(!arrivals.has_changed().unwrap());
    catalog.answering(vec![CAMERA.into()]).record(vec![image("b.jpg", 3, "bb")]).await.unwrap();
    assert!(arrivals.has_changed().unwrap());
    arrivals.borrow_and_update();
    assert_eq!(owed(&other).await, ["bb"]);
    other.owe_nothing(vec![CAMERA.into()]).await.unwrap();
    assert_eq!((owed(&other).await.len(), standing(&other).await.waiting), (0, 0));
}

#[tokio::test]
async fn an_answer_is_there_once_and_its_number_has_no_gap() {
    let (_dir, catalog) = answering();
    catalog.record((1..=3).map(|n| image(&format!("{n}.jpg"), n, &format!("a{n}"))).collect()).await.unwrap();
    let pictures = waiting(&catalog, Turn::First).await;
    let answers: Vec<Answer> = pictures.iter().map(|picture| answer(picture, "full", 0.75)).collect();
    write(&catalog, vec![answers[0].clone(), answers[0].clone()], BUDGET).await;
    // As after a crash, when nobody knows whether the answers had been stored.
    write(&catalog, answers, BUDGET).await;
    let stranger = Unanswered { source: "/stranger".into(), arrival: 1, image: ImageId("aa".into()) };
    write(&catalog, vec![answer(&stranger, "full", 0.75)], BUDGET).await;
    let found = all(&catalog).await;
    assert_eq!(sequences(&found), [1, 2, 3]);
    let first = &found[0];
    assert_eq!((first.image.0.as_str(), first.path.as_path()), ("a3", Path::new("/camera/3.jpg")));
    assert_eq!(first.labels, [("full".to_owned(), 0.75), ("other".to_owned(), 0.25)]);
    assert_eq!((first.classifier.as_str(), first.generation, first.margin), ("shelf", GenerationId(1), 0.5));
    assert_eq!((first.doubtful, first.none_of_these, &first.decision), (false, Some(false), &None));
    assert!((first.time - unix_time()).abs() < 3600);
    assert_eq!((standing(&catalog).await.waiting, standing(&catalog).await.sequence), (0, 3));
    assert_eq!(sequences(&catalog.observations(Path::new(CAMERA), 1, 1).await.unwrap()), [2]);
    assert_eq!(sequences(&catalog.observations(Path::new(CAMERA), u64::MAX, 9).await.unwrap()), [0u64; 0]);
}

#[tokio::test]
async fn what_cannot_be_looked_at_waits_behind_the_others_and_what_is_gone_not_at_all() {
    let (_dir, catalog) = answering();
    catalog.record((1..=3).map(|n| image(&format!("{n}.jpg"), n, &format!("a{n}"))).collect()).await.unwrap();
    let pictures = waiting(&catalog, Turn::First).await;
    catalog.put_off(vec![pictures[0].clone(), pictures[1].clone()]).await.unwrap();
    assert_eq!(waiting(&catalog, Turn::First).await, pictures[2..]);
    assert_eq!(waiting(&catalog, Turn::FromFile).await, pictures[..2]);
    catalog.put_off(vec![pictures[0].clone(), pictures[0].clone(), pictures[1].clone()]).await.unwrap();
    assert_eq!(waiting(&catalog, Turn::Again).await, [pictures[1].clone(), pictures[0].clone()]);
    catalog.give_up(vec![pictures[0].clone()]).await.unwrap();
    assert_eq!((waiting(&catalog, Turn::Again).await.len(), standing(&catalog).await.waiting), (1, 2));
    let files = catalog.files_of(&pictures[1].image).await.unwrap();
    assert_eq!(files, [observed("2.jpg", 2)]);
    // An image whose records are all deleted.
    catalog.record(vec![gone("/camera/2.jpg")]).await.unwrap();
    assert!(catalog.files_of(&pictures[1].image).await.unwrap().is_empty());
    let forget = "UPDATE images SET canonical_px = 0; DELETE FROM paths; DELETE FROM images WHERE id = 'a2'";
    catalog.ask(move |db| db.execute_batch(forget)).await.unwrap();
    assert!(waiting(&catalog, Turn::Again).await.is_empty());
    assert_eq!(standing(&catalog).await.waiting, 1);
}

#[tokio::test]
async fn the_oldest_answers_are_forgotten_beyond_the_budget_and_the_counts_follow() {
    let (_dir, catalog) = answering();
    for number in 0..6 {
        shows(&catalog, number, "full", 0.9).await;
    }
    let count = async || {
        let counts = catalog.count_observations(Path::new(CAMERA), ObservationFilter::default()).await.unwrap();
        counts.iter().map(|(.., count)| count).sum::<u64>()
    };
    assert_eq!(count().await, 6);
    catalog.forget_answers(Budget { most: 4, ..BUDGET }).await.unwrap();
    assert_eq!((sequences(&all(&catalog).await), count().await), (vec![3, 4, 5, 6], 4));
    // Of the answers that are too old, only those before the first young one are deleted.
    let age = "UPDATE answers SET time = 0 WHERE sequence IN (3, 4, 6)";
    catalog.ask(move |db| db.execute(age, [])).await.unwrap();
    catalog.forget_answers(BUDGET).await.unwrap();
    assert_eq!(sequences(&all(&catalog).await), [5, 6]);
    shows(&catalog, 6, "empty", 0.9).await;
    catalog.forget_answers(Budget { most: 1, ..BUDGET }).await.unwrap();
    assert_eq!(sequences(&all(&catalog).await), [7], "the number goes on");
    let old = Budget { keep: Duration::ZERO, ..BUDGET };
    let later = "UPDATE answers SET time = 0";
    catalog.ask(move |db| db.execute(later, [])).await.unwrap();
    catalog.forget_answers(old).await.unwrap();
    assert!(all(&catalog).await.is_empty());
    shows(&catalog, 7, "full", 0.9).await;
    assert_eq!(sequences(&all(&catalog).await), [8]);
}

#[tokio::test]
async fn answers_are_forgotten_in_steps() {
    let (_dir, catalog) = answering();
    let entries = (0..2500).map(|n| image(&format!("{n}.jpg"), n, &format!("a{n}"))).collect();
    catalog.record(entries).await.unwrap();
    let pictures = catalog.unanswered(Path::new(CAMERA), Turn::First, 2500).await.unwrap();
    write(&catalog, pictures.iter().map(|picture| answer(picture, "full", 0.9)).collect(), BUDGET).await;
    let few = Budget { most: 10, ..BUDGET };
    let mut left = Vec::new();
    for _ in 0..3 {
        let more = catalog.forget_answers(few).await.unwrap();
        let kept = catalog.observations(Path::new(CAMERA), 0, 3000).await.unwrap();
        left.push((kept.len(), more));
    }
    assert_eq!(left, [(1500, true), (500, true), (10, false)]);
}

#[tokio::test]
async fn answers_are_found_by_what_they_say() {
    let (_dir, catalog) = answering();
    for (number, (label, probability)) in
        [("full", 0.9), ("empty", 0.5), (NONE_OF_THESE, 0.9), ("full", 0.55), ("empty", 0.9)].into_iter().enumerate()
    {
        shows(&catalog, number as i64, label, probability).await;
    }
    let change = "UPDATE answers SET time = sequence * 3600; UPDATE answers SET generation = 2 WHERE sequence > 3";
    let recount =
        "DELETE FROM answered; INSERT INTO answered SELECT source, time, label, generation, doubtful, 1 FROM answers";
    catalog.ask(move |db| db.execute_batch(&format!("{change}; {recount}"))).await.unwrap();
    let check = async |filter: ObservationFilter, found: &[u64]| {
        let told = catalog.find_observations(Path::new(CAMERA), filter.clone(), 100).await.unwrap();
        assert_eq!(sequences(&told), found, "{filter:?}");
    };
    let filter = ObservationFilter::default;
    check(filter(), &[5, 4, 3, 2, 1]).await;
    check(ObservationFilter { label: Some("full".into()), ..filter() }, &[4, 1]).await;
    check(ObservationFilter { label: Some(NONE_OF_THESE.into()), ..filter() }, &[3]).await;
    check(ObservationFilter { label: Some("nut".into()), ..filter() }, &[]).await;
    check(ObservationFilter { doubtful: Some(true), ..filter() }, &[4, 2]).await;
    check(ObservationFilter { doubtful: Some(false), before: Some(5), ..filter() }, &[3, 1]).await;
    check(ObservationFilter { since: Some(3 * 3600), ..filter() }, &[5, 4, 3]).await;
    check(ObservationFilter { generation: Some(1), since: Some(7200), ..filter() }, &[3, 2]).await;
    check(ObservationFilter { label: Some("full".into()), doubtful: Some(true), ..filter() }, &[4]).await;
    let two = catalog.find_observations(Path::new(CAMERA), filter(), 2).await.unwrap();
    assert_eq!(sequences(&two), [5, 4]);

    let count = async |filter: ObservationFilter| catalog.count_observations(Path::new(CAMERA), filter).await.unwrap();
    let hour = |hour: i64, label: &str| (3600 * hour, label.to_owned(), 1);
    let found = count(ObservationFilter { since: Some(3 * 3600 + 1800), ..filter() }).await;
    assert_eq!(found, [hour(3, NONE_OF_THESE), hour(4, "full"), hour(5, "empty")], "whole hours");
    assert_eq!(
        count(ObservationFilter { doubtful: Some(true), ..filter() }).await,
        [hour(2, "empty"), hour(4, "full")]
    );
    let second = ObservationFilter { generation: Some(2), label: Some("full".into()), ..filter() };
    assert_eq!(count(second).await, [hour(4, "full")]);
    let other = catalog.find_observations(Path::new("/yard"), filter(), 9).await.unwrap();
    assert!(other.is_empty());
}

#[tokio::test]
async fn the_state_is_what_the_latest_pictures_show_whatever_is_answered_last() {
    let (_dir, catalog) = answering();
    shows(&catalog, 1, "full", 0.9).await;
    shows(&catalog, 2, "full", 0.9).await;
    let so_far = standing(&catalog).await;
    assert_eq!((so_far.state, so_far.since), (None, 0));
    assert_eq!(so_far.last.map(|last| (last.label, last.image.0)), Some(("full".into(), "a2".into())));
    shows(&catalog, 3, "full", 0.9).await;
    let full = standing(&catalog).await;
    assert_eq!(full.state.as_deref(), Some("full"));
    assert_eq!(Some(full.since), full.last.map(|last| last.time));
    shows(&catalog, 4, "empty", 0.9).await;
    assert_eq!(standing(&catalog).await.state.as_deref(), Some("full"));

    // Five pictures arrived while nothing served. The latest are answered first, and the oldest do not change the
    // state.
    let came = (5..10).map(|n| image(&format!("{n}.jpg"), n, &format!("a{n}"))).collect();
    catalog.record(came).await.unwrap();
    let pictures = waiting(&catalog, Turn::First).await;
    let (latest, older) = pictures.split_at(3);
    write(&catalog, latest.iter().map(|picture| answer(picture, "empty", 0.9)).collect(), BUDGET).await;
    assert_eq!(standing(&catalog).await.state.as_deref(), Some("empty"));
    write(&catalog, older.iter().map(|picture| answer(picture, "full", 0.9)).collect(), BUDGET).await;
    let standing = standing(&catalog).await;
    assert_eq!((standing.state.as_deref(), standing.last.unwrap().image.0.as_str()), (Some("empty"), "a9"));
    assert_eq!((standing.sequence, standing.waiting), (9, 0));
}

/// A client that knew the answers up to 3 would never have seen those of the new catalogue.
#[tokio::test]
async fn the_numbers_go_on_where_a_damaged_catalogue_is_replaced() {
    let (dir, catalog) = answering();
    for number in 0..3 {
        shows(&catalog, number, "full", 0.9).await;
    }
    drop(catalog);
    let path = dir.path().join("catalog.sqlite");
    Connection::open(&path).unwrap().execute_batch("DROP TABLE quarantine").unwrap();
    let catalog = Catalog::open(&path).unwrap().answering(vec![CAMERA.into()]);
    assert!(catalog.note().unwrap().contains("was damaged"));
    assert_eq!((standing(&catalog).await.sequence, all(&catalog).await.len()), (3, 0));
    shows(&catalog, 1, "full", 0.9).await;
    assert_eq!(sequences(&all(&catalog).await), [4]);
}
