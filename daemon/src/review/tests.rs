//! Reviews and labels on a disk.

use super::*;
use std::collections::BTreeSet;
use tempfile::TempDir;

const GENERATIONS: [GenerationId; 2] = [GenerationId(1), GenerationId(2)];

fn id(number: u32) -> ImageId {
    ImageId(format!("{number:064x}"))
}

/// A review of `pictures` pictures: the present model calls each a nut, the candidate a bolt. Both call 100 other
/// pictures nuts.
fn review(pictures: u32) -> Review {
    let classes = ["nut", "bolt", "washer"].map(str::to_owned).to_vec();
    let difference = |present, candidate| Difference { present: ClassId(present), candidate: ClassId(candidate) };
    let compared = (0..pictures).map(|i| (id(i), difference(0, 1)));
    let agreed = (0..100).map(|i| (id(1000 + i), difference(0, 0)));
    Review::new(JobId(3), GENERATIONS, classes, compared.chain(agreed), &NearDuplicates::default())
}

fn asked(dir: &TempDir, pictures: u32) -> Reviews {
    let reviews = Reviews::open(dir.path());
    reviews.begin(review(pictures)).unwrap();
    reviews
}

fn answer(reviews: &Reviews, picture: u32, class: &str) -> Result<ReviewStatus, AnswerError> {
    reviews.answer(&[(id(picture).0, class.to_owned())])
}

fn left(reviews: &Reviews) -> Vec<ImageId> {
    reviews.questions().into_iter().map(|question| question.image).collect()
}

#[test]
fn labels_decide_and_are_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let reviews = asked(&dir, 30);
    let status = reviews.status().unwrap();
    assert_eq!((status.compared, status.differing, status.answered), (130, 30, 0));
    assert_eq!((status.state, status.shares.len()), (State::Asking, 0));
    for picture in 0..4 {
        assert_eq!(answer(&reviews, picture, "bolt").unwrap().state, State::Asking);
    }
    assert_eq!(answer(&reviews, 4, "").unwrap().answered, 4, "who cannot tell says nothing");
    assert_eq!(answer(&reviews, 5, " washer ").unwrap().answered, 5, "neither is right");

    let again = Reviews::open(dir.path());
    assert_eq!(again.status(), reviews.status());
    assert_eq!(left(&again), (6..30).map(id).collect::<Vec<_>>(), "nothing is asked twice");
    let status = answer(&again, 20, "bolt").unwrap();
    assert_eq!((status.state, status.answered), (State::Candidate, 6), "in whichever order they come");
    assert!(again.questions().is_empty());
    let (class, share) = &status.shares[0];
    assert_eq!((class.as_str(), share.share), ("nut", 100.0 / 130.0));
    assert!(matches!(answer(&again, 7, "nut"), Err(AnswerError::Decided(GenerationId(2)))));
    assert!(matches!(again.undo(), Err(AnswerError::Decided(_))), "what follows from it is under way");

    let list = std::fs::read_to_string(dir.path().join("labels.csv")).unwrap();
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines[0], "image,class");
    assert_eq!(lines[5], format!("{},", id(4)));
    assert_eq!(lines[7], format!("{},bolt", id(20)));
}

#[test]
fn the_last_answer_is_taken_back_and_its_picture_asked_about_again() {
    let dir = tempfile::tempdir().unwrap();
    let reviews = asked(&dir, 30);
    assert!(matches!(reviews.undo(), Err(AnswerError::Invalid(_))), "there is none");
    (0..5).for_each(|picture| drop(answer(&reviews, picture, "nut").unwrap()));
    assert_eq!(reviews.status().unwrap().state, State::Present);
    assert!(matches!(answer(&reviews, 6, "nut"), Err(AnswerError::Closed(GenerationId(1)))));
    assert_eq!(reviews.undo().unwrap().state, State::Asking);
    assert_eq!(left(&reviews)[0], id(4));
    answer(&reviews, 4, "").unwrap();
    assert_eq!(reviews.undo().unwrap().answered, 4, "that it could not be told is an answer, too");
    assert_eq!(left(&Reviews::open(dir.path()))[0], id(4));
}

#[test]
fn pictures_run_out() {
    let dir = tempfile::tempdir().unwrap();
    let reviews = asked(&dir, 6);
    for picture in 0..2 {
        assert_eq!(
            answer(&reviews, picture, "washer").unwrap().state,
            if picture == 0 { State::Asking } else { State::NoDifference }
        );
    }
    assert_eq!(reviews.status().unwrap().state, State::NoDifference);
}

#[test]
fn an_answer_that_fits_no_question_is_refused_and_nothing_of_its_call_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let reviews = asked(&dir, 30);
    answer(&reviews, 0, "bolt").unwrap();
    let refused = |image: u32, class: &str, why: &str| {
        let both = [(id(9).0, "bolt".to_owned()), (id(image).0, class.to_owned())];
        match reviews.answer(&both) {
            Err(AnswerError::Invalid(text)) => assert!(text.contains(why), "{text}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(reviews.status().unwrap().answered, 1);
    };
    refused(1, "gear", "there is no class \"gear\"; write it as in the label file");
    refused(1, "Bolt", "did you mean \"bolt\"?");
    refused(500, "bolt", "is not asked about");
    refused(1000, "nut", "is not asked about");
    refused(0, "nut", "has its label already");
    refused(9, "nut", "has its label already");
}

#[test]
fn nothing_is_asked_without_a_review_and_labels_outlive_it() {
    let dir = tempfile::tempdir().unwrap();
    let reviews = Reviews::open(dir.path());
    assert_eq!(reviews.status(), None);
    assert!(matches!(answer(&reviews, 0, "nut"), Err(AnswerError::NoReview)));
    assert!(matches!(reviews.undo(), Err(AnswerError::NoReview)));
    reviews.begin(review(6)).unwrap();
    answer(&reviews, 0, "nut").unwrap();
    answer(&reviews, 1, "").unwrap();
    reviews.end().unwrap();
    reviews.end().unwrap();
    let reviews = Reviews::open(dir.path());
    assert_eq!((reviews.status(), reviews.questions().len()), (None, 0));
    assert_eq!(reviews.labels(), [(id(0), Some("nut".to_owned())), (id(1), None)]);
    // The next review does not ask about them.
    reviews.begin(review(7)).unwrap();
    assert_eq!(left(&reviews), (2..7).map(id).collect::<Vec<_>>());
}

/// Of 20 pictures on which the models differ, numbers 5 to 19 show the scene of number 4, whose own image is not among
/// those that were compared.
#[test]
fn one_of_near_duplicates_is_asked_about_and_its_label_holds_for_all_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let near = NearDuplicates((5..20).map(|i| (id(i), id(99))).chain([(id(4), id(99))]).collect());
    let classes = ["nut", "bolt"].map(str::to_owned).to_vec();
    let difference = Difference { present: ClassId(0), candidate: ClassId(1) };
    let agreed = Difference { present: ClassId(0), candidate: ClassId(0) };
    let compared = (0..20).map(|i| (id(i), difference)).chain((20..100).map(|i| (id(i), agreed)));
    let reviews = Reviews::open(dir.path());
    reviews.begin(Review::new(JobId(3), GENERATIONS, classes, compared, &near)).unwrap();
    assert_eq!(left(&reviews), (0..5).map(id).collect::<Vec<_>>());
    assert_eq!(reviews.status().unwrap().differing, 20);
    for picture in 0..4 {
        answer(&reviews, picture, "nut").unwrap();
    }
    let reviews = Reviews::open(dir.path());
    let status = answer(&reviews, 4, "bolt").unwrap();
    assert_eq!((status.state, status.answered), (State::NoDifference, 5), "a scene counts once");
    let shares: Vec<f64> = status.shares.iter().map(|(_, share)| share.share).collect();
    assert_eq!(shares, [0.84, 0.16], "but is seen in 16 of 100 pictures");
}

/// Reviews of earlier versions asked about each picture.
#[test]
fn a_review_without_numbers_of_pictures_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let reviews = asked(&dir, 6);
    let file = dir.path().join("review.json");
    let whole = std::fs::read_to_string(&file).unwrap();
    let before = whole.replace(",\"pictures\":1", "");
    assert_ne!(before, whole);
    std::fs::write(&file, before).unwrap();
    assert_eq!(Reviews::open(dir.path()).status(), reviews.status());
}

#[test]
fn a_damaged_review_is_dropped_and_costs_no_label() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("review.json");
    let reviews = asked(&dir, 6);
    answer(&reviews, 0, "nut").unwrap();
    let whole = std::fs::read_to_string(&file).unwrap();
    for damaged in [
        whole[..whole.len() / 2].to_owned(),
        String::new(),
        whole.replace("\"format\":1", "\"format\":2"),
        whole.replace("\"candidate\":1", "\"candidate\":7"),
        whole.replace("\"candidate\":1", "\"candidate\":0"),
        whole.replace("[100,0,0]", "[100,0]"),
        whole.replace(&id(1).0, &id(2).0),
        whole.replace("\"round\"", "\"turn\""),
    ] {
        assert_ne!(damaged, whole);
        std::fs::write(&file, damaged).unwrap();
        let reviews = Reviews::open(dir.path());
        assert_eq!((reviews.status(), reviews.labels().len()), (None, 1));
        assert!(!file.exists());
    }
    std::fs::write(&file, whole).unwrap();
    assert!(Reviews::open(dir.path()).status().is_some());
}

#[test]
fn a_damaged_list_of_labels_is_copied_and_what_can_be_read_of_it_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let reviews = asked(&dir, 6);
    (0..2).for_each(|picture| drop(answer(&reviews, picture, "nut").unwrap()));
    let file = dir.path().join("labels.csv");
    let whole = std::fs::read_to_string(&file).unwrap();
    let damaged = format!("{whole}12,nut\n{},a,b\n{},bolt\n", id(7), id(2));
    std::fs::write(&file, &damaged).unwrap();
    let reviews = Reviews::open(dir.path());
    assert_eq!(reviews.labels().len(), 3);
    let files = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let aside = files.into_iter().find(|name| name.starts_with("labels.csv.damaged-")).unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join(aside)).unwrap(), damaged);
    assert_eq!(Reviews::open(dir.path()).labels().len(), 3, "and the new one is sound");
}

#[test]
fn class_names_may_hold_what_separates_fields() {
    let dir = tempfile::tempdir().unwrap();
    let classes = vec!["nut, hex".to_owned(), "\"bolt\"".to_owned()];
    let difference = Difference { present: ClassId(0), candidate: ClassId(1) };
    let pictures = (0..7).map(|i| (id(i), difference));
    let reviews = Reviews::open(dir.path());
    reviews.begin(Review::new(JobId(3), GENERATIONS, classes.clone(), pictures, &NearDuplicates::default())).unwrap();
    (0..2).for_each(|i| drop(answer(&reviews, i, &classes[i as usize]).unwrap()));
    let told = Reviews::open(dir.path()).labels();
    assert_eq!(told.into_iter().filter_map(|(_, class)| class).collect::<Vec<_>>(), classes);
}

#[test]
fn pictures_are_drawn_by_the_seed_alone() {
    let images: Vec<ImageId> = (0..100).map(id).collect();
    let draw = |seed, images: Vec<ImageId>| drawn(seed, images, |image| image);
    let first = draw(1, images.clone());
    assert_eq!(first, draw(1, images.iter().rev().cloned().collect()));
    assert_ne!(first, draw(2, images.clone()));
    assert_eq!(first.iter().collect::<BTreeSet<_>>(), images.iter().collect());
    // Each picture comes first equally often: in 4000 draws of 4 pictures 1000 times, give or take 100.
    let mut counts = [0; 4];
    for seed in 0..4000 {
        let first = draw(seed, images[..4].to_vec()).remove(0);
        counts[images.iter().position(|image| *image == first).unwrap()] += 1;
    }
    assert!(counts.iter().all(|count| (900..1100).contains(count)), "{counts:?}");
}

/// A list that could not be read for another reason than damage was replaced by an empty one.
#[test]
fn a_list_of_labels_that_cannot_be_read_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let reviews = asked(&dir, 6);
    drop(reviews);
    std::fs::create_dir(dir.path().join("labels.csv")).unwrap();
    let reviews = Reviews::open(dir.path());
    let refused = answer(&reviews, 0, "nut").unwrap_err();
    assert!(
        matches!(refused, AnswerError::Write { .. }) && refused.to_string().contains("could not be read"),
        "{refused}"
    );
    assert!(dir.path().join("labels.csv").is_dir());
}
