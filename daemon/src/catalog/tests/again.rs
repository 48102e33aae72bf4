//! Later answers: what a generation that starts to serve says of pictures that others have answered.

use super::answers::{CAMERA, all, answer, answering, shows, standing};
use super::*;
use crate::observation::{GenerationDiff, ObservationFilter};
use coft_core::answer::{NONE_OF_THESE, StateRule};
use coft_core::ids::GenerationId;
use std::sync::Arc;
use std::time::Duration;

async fn serves(catalog: &Catalog, generation: u64, most: u64) {
    let classes = ["full", "empty", "other"].map(str::to_owned).into();
    catalog.serves(GenerationId(generation), classes, vec![CAMERA.into()], most, rules()).await.unwrap();
}

fn rules() -> Arc<HashMap<PathBuf, StateRule>> {
    Arc::new([(CAMERA.into(), StateRule::default())].into())
}

async fn waiting(catalog: &Catalog) -> Vec<Unanswered> {
    let waiting = catalog.unanswered_again(100).await.unwrap();
    assert_eq!(catalog.waiting_again().await.unwrap(), waiting.len() as u64);
    waiting
}

/// A generation's answer to a picture that waits: the label and its probability.
fn says(generation: u64, picture: &Unanswered, label: &str, probability: f64) -> Answer {
    Answer { generation: GenerationId(generation), ..answer(picture, label, probability) }
}

async fn compare(catalog: &Catalog, old: u64, new: u64) -> GenerationDiff {
    catalog.compare(GenerationId(old), GenerationId(new), 100).await.unwrap()
}

fn images(pictures: &[Unanswered]) -> Vec<&str> {
    pictures.iter().map(|picture| picture.image.0.as_str()).collect()
}

#[tokio::test]
async fn another_generation_answers_the_latest_pictures_again_and_what_it_says_otherwise_is_told() {
    let (dir, catalog) = answering();
    serves(&catalog, 1, 4).await;
    for (number, label, probability) in
        [(1, "full", 0.9), (2, "full", 0.9), (3, "full", 0.8), (4, "full", 0.95), (5, "empty", 0.7), (6, "full", 0.7)]
    {
        shows(&catalog, number, label, probability).await;
    }
    assert!(waiting(&catalog).await.is_empty(), "they are answers of the generation that serves");
    assert_eq!(standing(&catalog).await.state.as_deref(), Some("full"));

    serves(&catalog, 2, 4).await;
    let pictures = waiting(&catalog).await;
    assert_eq!(images(&pictures), ["a6", "a5", "a4", "a3"], "the latest four, the latest first");
    let (six, five, four, three) = (&pictures[0], &pictures[1], &pictures[2], &pictures[3]);
    let answers = vec![says(2, six, "empty", 0.9), says(2, five, "empty", 0.8), says(2, four, "empty", 0.99)];
    catalog.answer_again(answers.clone(), Vec::new(), rules()).await.unwrap();
    // The same answers again, as after a crash, when nobody knows whether they had been stored.
    catalog.answer_again(answers, vec![three.clone()], rules()).await.unwrap();
    assert!(waiting(&catalog).await.is_empty());
    assert_eq!(standing(&catalog).await.state.as_deref(), Some("empty"), "what serves says what is seen");
    let by = async |generation, most| {
        let labels = catalog.labels_by(GenerationId(generation), vec![CAMERA.into()], most).await.unwrap();
        labels.into_iter().map(|(image, label)| format!("{} {label}", image.0)).collect::<Vec<_>>()
    };
    assert_eq!(by(1, 3).await, ["a6 full", "a5 empty", "a4 full"], "what it has said at first stays");
    assert_eq!(by(2, 9).await, ["a6 empty", "a5 empty", "a4 empty"]);
    assert_eq!(by(3, 9).await, [""; 0]);
    let elsewhere = catalog.labels_by(GenerationId(1), vec!["/other".into()], 9).await.unwrap();
    assert_eq!(elsewhere, [], "of a source that is configured no more nothing is counted");
    assert_eq!(standing(&catalog).await.sequence, 6, "no picture has come");

    let diff = compare(&catalog, 1, 2).await;
    assert_eq!((diff.compared, diff.changed, diff.waiting), (3, 2, 0));
    assert_eq!(diff.moves, [("full".into(), "empty".into(), 2)]);
    let shown = |pictures: &[crate::observation::Difference]| -> Vec<String> {
        let of = |one: &crate::observation::Difference| format!("{} {} {}", one.image, one.old.label, one.new.label);
        pictures.iter().map(of).collect()
    };
    // Both generations were sure of the fourth picture; the first generation was less sure of the sixth.
    assert_eq!(shown(&diff.changes), ["a4 full empty", "a6 full empty"]);
    assert_eq!(shown(&diff.unsure), ["a5 empty empty", "a6 full empty", "a4 full empty"]);
    let first = &diff.changes[0];
    assert_eq!((first.source.as_path(), first.path.as_path()), (Path::new(CAMERA), Path::new("/camera/4.jpg")));
    assert_eq!(
        (first.old.probability, first.new.probability, first.margin),
        (Some(0.95), Some(0.99), 2.0 * 0.99 - 1.0)
    );
    assert_eq!(compare(&catalog, 2, 1).await.moves, [("empty".into(), "full".into(), 2)]);
    assert_eq!(compare(&catalog, 1, 3).await, GenerationDiff::default());

    let later: Vec<Option<String>> =
        all(&catalog).await.into_iter().map(|one| one.later.map(|(_, said)| said.label)).collect();
    assert_eq!(later.iter().map(Option::as_deref).collect::<Vec<_>>()[3..], [Some("empty"); 3]);
    assert_eq!(later[..3], [None, None, None]);
    let find = async |changed| {
        let filter = ObservationFilter { changed, ..ObservationFilter::default() };
        let found = catalog.find_observations(Path::new(CAMERA), filter, 9).await.unwrap();
        found.iter().map(|one| one.sequence).collect::<Vec<_>>()
    };
    assert_eq!((find(Some(true)).await, find(Some(false)).await), (vec![6, 4], vec![5, 3, 2, 1]));
    let filter = |name: &str| ObservationFilter { classifier: Some(name.into()), ..ObservationFilter::default() };
    let of = async |name: &str| catalog.find_observations(Path::new(CAMERA), filter(name), 9).await.unwrap().len();
    assert_eq!((of("shelf").await, of("parts").await), (6, 0));

    // A restart changes nothing.
    drop(catalog);
    let catalog = Catalog::open(&dir.path().join("catalog.sqlite")).unwrap();
    serves(&catalog, 2, 4).await;
    assert!(waiting(&catalog).await.is_empty());
    assert_eq!(compare(&catalog, 1, 2).await.changed, 2);
}

#[tokio::test]
async fn whoever_goes_back_to_a_generation_has_its_answers_and_those_that_wait_for_another_do_so_no_more() {
    let (_dir, catalog) = answering();
    serves(&catalog, 1, 100).await;
    for number in 1..=5 {
        shows(&catalog, number, "full", 0.9).await;
    }
    serves(&catalog, 2, 100).await;
    let pictures = waiting(&catalog).await;
    let (first, others) = pictures.split_at(4);
    let answers = first.iter().map(|picture| says(2, picture, "empty", 0.9)).collect();
    catalog.answer_again(answers, Vec::new(), rules()).await.unwrap();
    assert_eq!(standing(&catalog).await.state.as_deref(), Some("empty"));
    assert_eq!(compare(&catalog, 1, 2).await.waiting, 1);

    serves(&catalog, 1, 100).await;
    assert!(waiting(&catalog).await.is_empty());
    assert_eq!(standing(&catalog).await.state.as_deref(), Some("full"));
    // An answer of the generation before arrives late.
    catalog.answer_again(vec![says(2, &others[0], "empty", 0.9)], Vec::new(), rules()).await.unwrap();
    assert_eq!(compare(&catalog, 1, 2).await.compared, 4);

    serves(&catalog, 2, 100).await;
    assert_eq!(waiting(&catalog).await, others);
    assert_eq!(standing(&catalog).await.state.as_deref(), Some("empty"));
    let none = says(2, &others[0], NONE_OF_THESE, 0.9);
    catalog.answer_again(vec![none], Vec::new(), rules()).await.unwrap();
    let diff = compare(&catalog, 1, 2).await;
    assert_eq!((diff.compared, diff.changed), (5, 5));
    assert_eq!(diff.moves, [("full".into(), "empty".into(), 4), ("full".into(), NONE_OF_THESE.into(), 1)]);
    let none = diff.changes.iter().find(|one| one.new.label == NONE_OF_THESE).unwrap();
    assert_eq!(none.new.probability, None);
}

#[tokio::test]
async fn later_answers_go_with_the_picture_and_with_the_generation() {
    let (_dir, catalog) = answering();
    serves(&catalog, 1, 100).await;
    for number in 1..=3 {
        shows(&catalog, number, "full", 0.9).await;
    }
    for generation in 2..=12 {
        serves(&catalog, generation, 100).await;
        let answers = waiting(&catalog).await.iter().map(|picture| says(generation, picture, "empty", 0.9)).collect();
        catalog.answer_again(answers, Vec::new(), rules()).await.unwrap();
    }
    let compared = async |generation| compare(&catalog, 1, generation).await.compared;
    assert_eq!((compared(4).await, compared(5).await, compared(12).await), (0, 3, 3), "the latest eight are kept");

    serves(&catalog, 13, 100).await;
    shows(&catalog, 4, "full", 0.9).await;
    let tight = Budget { most: 1, keep: Duration::from_secs(1000) };
    catalog.forget_answers(tight).await.unwrap();
    assert_eq!(all(&catalog).await.len(), 1);
    assert!(waiting(&catalog).await.is_empty());
    assert_eq!(compared(12).await, 0);
}
