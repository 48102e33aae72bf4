//! What a person is asked, and the answers on their way to the service.

use super::*;
use crate::control::{Answers, ReviewItem, ReviewStatus};
use coft_core::ids::ImageId;
use coft_core::review::{Share, State};
use coft_dbus::{Review, ReviewOptions};
use coft_vision::Region;

fn status(answered: u64, state: State) -> ReviewStatus {
    ReviewStatus {
        round: JobId(2),
        candidate: GenerationId(2),
        present: GenerationId(1),
        compared: 400,
        differing: 108,
        answered,
        state,
        shares: vec![("nut".into(), Share { share: 0.9, low: 0.8, high: 0.95 })],
        activation: None,
    }
}

#[tokio::test]
async fn what_is_asked_is_a_property_and_a_change_of_it_is_told() {
    let stage = Stage::set(grown()).await;
    let classifier = stage.classifier().await;
    assert_eq!(classifier.review().await.unwrap(), Review::default());
    let mut signals = stage.signals().await;
    stage.publish(|snapshot| snapshot.review = Some(status(3, State::Asking)));
    assert_eq!(signals.changed().await, (classifier_path("parts"), set(["Review"])));
    let told = Review {
        state: Some("asking".into()),
        round: Some(2),
        candidate: Some(2),
        present: Some(1),
        differs: Some(0.27),
        compared: Some(400),
        answered: Some(3),
        most: Some(60),
        shares: Some(vec![("nut".into(), 0.9, 0.8, 0.95)]),
        activation: None,
    };
    assert_eq!(classifier.review().await.unwrap(), told);
    stage.publish(|snapshot| {
        snapshot.review = Some(ReviewStatus { activation: Some(JobId(3)), ..status(5, State::Candidate) });
    });
    assert_eq!(signals.changed().await.1, set(["Review"]));
    let review = classifier.review().await.unwrap();
    assert_eq!((review.state.as_deref(), review.activation), (Some("candidate"), Some(3)));
}

#[tokio::test]
async fn pictures_are_asked_about_and_answered() {
    let mut stage = Stage::set(grown()).await;
    let classifier = stage.classifier().await;
    let asking = tokio::spawn(async move { classifier.review_items(20).await });
    let Command::ReviewItems { limit, reply } = stage.command().await else { panic!("nothing is looked for") };
    assert_eq!(limit, 20);
    let item = ReviewItem {
        image: ImageId("0a".into()),
        path: "/srv/in/a\nb.jpg".into(),
        crop: Some(Region { x: 0.5, y: 0.0, width: 0.5, height: 1.0 }),
        present: "nut".into(),
        candidate: "bolt".into(),
    };
    assert!(reply.send(Ok((vec![item], status(0, State::Asking)))).is_ok());
    let (items, review) = soon(asking).await.unwrap().unwrap();
    let [(image, item)] = &items[..] else { panic!("{items:?}") };
    assert_eq!((image.as_str(), item.path.as_str()), ("0a", "/srv/in/a\\nb.jpg"));
    assert_eq!(item.crop, Some((0.5, 0.0, 0.5, 1.0)));
    assert_eq!((item.present.as_str(), item.candidate.as_str()), ("nut", "bolt"));
    assert_eq!((review.answered, review.most), (Some(0), Some(60)));

    for (labels, undo, expected) in [
        (vec![("0a".to_owned(), "bolt".to_owned())], None, Answers::Labels(vec![("0a".into(), "bolt".into())])),
        (vec![], Some(true), Answers::Undo),
        (vec![], Some(false), Answers::Labels(vec![])),
    ] {
        let classifier = stage.classifier().await;
        let answering = tokio::spawn(async move { classifier.submit_review(labels, ReviewOptions { undo }).await });
        let Command::SubmitReview { answers, reply } = stage.command().await else { panic!("nothing is answered") };
        assert_eq!(answers, expected);
        assert!(reply.send(Ok(status(1, State::NoDifference))).is_ok());
        assert_eq!(soon(answering).await.unwrap().unwrap().state.as_deref(), Some("no-difference"));
    }
}
