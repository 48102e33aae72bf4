//! Images that go through the bus to a session and come back as labels.

use super::*;
use coft_dbus::stream::{Outcome, Stream, WINDOW};
use coft_dbus::{ClassifyOptions, Error};
use image::{ImageFormat, Rgb, RgbImage};
use std::fs::File;
use std::io::{Cursor, Write};
use std::path::Path;

/// With the generation whose best label is the colour of the picture.
pub async fn sharp(settings: Settings) -> Stage {
    let stage = Stage::serving(grown(), settings).await;
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens/serve/sharp");
    stage.controller.swap(stage.controller.load(&golden, GenerationId(1)).unwrap());
    stage
}

pub fn green() -> File {
    let mut png = Cursor::new(Vec::new());
    RgbImage::from_pixel(20, 16, Rgb([40, 200, 40])).write_to(&mut png, ImageFormat::Png).unwrap();
    file(png.get_ref())
}

fn file(content: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file
}

#[tokio::test]
async fn an_image_gets_its_label() {
    let stage = sharp(Settings::default()).await;
    let (classifier, picture) = (stage.classifier().await, green());
    let (labels, details) =
        classifier.classify((&picture).into(), ClassifyOptions { top_k: Some(2), ..Default::default() }).await.unwrap();
    assert_eq!((labels[0].0.as_str(), labels.len(), details.generation), ("green", 2, 1));
    assert!(labels[0].1 >= labels[1].1);
    assert!(details.inference_seconds > 0.0 && details.decode_seconds > 0.0 && details.queue_seconds >= 0.0);
    let (labels, _) = classifier.classify((&picture).into(), ClassifyOptions::default()).await.unwrap();
    assert_eq!(labels.len(), 3, "without top-k it is all of them");
}

#[tokio::test]
async fn a_decision_is_told_wherever_an_image_is_answered() {
    let stage = sharp(Settings::default()).await;
    let (classifier, picture) = (stage.classifier().await, green());
    let classify = async || classifier.classify((&picture).into(), ClassifyOptions::default()).await.unwrap();
    let (labels, details) = classify().await;
    assert_eq!(details.decision, None, "no threshold is configured");
    // Green has to be surer than it is.
    let controller = &stage.controller;
    controller.decide_by([("green".to_owned(), labels[0].1.next_up())].into());
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens/serve/sharp");
    controller.swap(controller.load(&golden, GenerationId(1)).unwrap());
    let second = Some(labels[1].0.clone());
    let (same, details) = classify().await;
    assert_eq!((same, &details.decision), (labels, &second));
    let answers = classifier.classify_many(vec![(&picture).into()], ClassifyOptions::default()).await.unwrap();
    assert_eq!(answers[0].1.decision, second);
    let stream = Stream::new(classifier.open_batch(ClassifyOptions::default()).await.unwrap().into()).unwrap();
    stream.send(1, &picture).await.unwrap();
    let Outcome::Labels(answer) = stream.answer().await.unwrap().unwrap().outcome else { panic!("an error") };
    assert_eq!((answer.decision, &answer.labels[0].0[..]), (second, "green"));
}

#[tokio::test]
async fn what_is_no_image_is_refused_with_a_hint() {
    let stage = sharp(Settings { file_limit: bytesize::ByteSize::kib(64), ..Settings::default() }).await;
    let classifier = stage.classifier().await;
    let (text, nothing, large) = (file(b"no image"), file(b""), file(&[0; 65537]));
    let (pipe, _writer) = std::io::pipe().unwrap();
    for (descriptor, hint) in [
        (text.as_fd(), "not an image but a text; replace it by an image"),
        (nothing.as_fd(), "send the complete file again"),
        (large.as_fd(), "raise file-limit in [serve]"),
        (pipe.as_fd(), "pass an opened file or a memfd"),
    ] {
        let error = classifier.classify(descriptor.into(), ClassifyOptions::default()).await.unwrap_err();
        assert!(matches!(&error, Error::BadImage(text) if text.contains(hint)), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_the_queue_holds_is_busy() {
    let stage = sharp(Settings { queue: 1, ..Settings::default() }).await;
    let (classifier, picture) = (stage.classifier().await, green());
    let calls = (0..40).map(|_| classifier.classify((&picture).into(), ClassifyOptions::default()));
    let answers = soon(futures_util::future::join_all(calls)).await;
    let refused: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
    // It is said whose share is used up.
    let whose = format!("of user {} may wait at a time", nix::unistd::geteuid());
    let is_told = |error: &Error| matches!(error, Error::Busy(text) if text.contains(&whose));
    assert!(refused.iter().all(is_told), "{refused:?}");
    assert!((1..40).contains(&refused.len()), "{} of 40 calls met a queue of 1", refused.len());
}

#[tokio::test]
async fn a_client_that_goes_disturbs_nobody() {
    let stage = sharp(Settings::default()).await;
    let picture = green();
    let hasty = stage.bus.address().parse::<Address>().unwrap().connect().await.unwrap();
    for _ in 0..8 {
        let call = Message::method_call(classifier_path("parts"), "Classify").destination(BUS_NAME);
        let body = (zbus::Fd::from(&picture), HashMap::<&str, Variant<'_>>::new());
        let call = call.interface("org.coft.Coft1.Classifier").build(&body).unwrap();
        hasty.send(&call).await.unwrap();
    }
    hasty.close().await.unwrap();
    let classifier = stage.classifier().await;
    let (labels, _) = soon(classifier.classify((&picture).into(), ClassifyOptions::default())).await.unwrap();
    assert_eq!(labels[0].0, "green");
}

#[tokio::test]
async fn many_images_go_into_one_call() {
    let stage = sharp(Settings::default()).await;
    let (classifier, picture, text) = (stage.classifier().await, green(), file(b"no image"));
    let options = ClassifyOptions { top_k: Some(1), embedding: Some(true), ..Default::default() };
    let answers = classifier.classify_many(vec![(&picture).into(), (&text).into()], options).await.unwrap();
    let [(labels, details), (none, failed)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((labels[0].0.as_str(), labels.len(), details.generation), ("green", 1, Some(1)));
    assert!(details.embedding.as_ref().is_some_and(|values| !values.is_empty()) && details.error.is_none());
    assert_eq!((none.len(), failed.error.as_deref(), failed.generation), (0, Some("BadImage"), None));
    assert!(failed.message.as_ref().unwrap().contains("not an image but a text"), "{failed:?}");
}

#[tokio::test]
async fn an_image_whose_deadline_has_passed_is_not_looked_at() {
    let stage = sharp(Settings::default()).await;
    let late = ClassifyOptions { deadline_seconds: Some(0.0), ..Default::default() };
    let error = stage.classifier().await.classify((&green()).into(), late).await.unwrap_err();
    assert!(matches!(error, Error::DeadlineExceeded(_)), "{error}");
}

#[tokio::test]
async fn a_batch_socket_answers_every_image_once() {
    const IMAGES: u64 = 3 * WINDOW as u64;
    let stage = sharp(Settings::default()).await;
    let options = ClassifyOptions { top_k: Some(1), ..Default::default() };
    let socket = stage.classifier().await.open_batch(options).await.unwrap();
    let socket = std::os::fd::OwnedFd::from(socket);
    let flags = nix::fcntl::fcntl(&socket, nix::fcntl::FcntlArg::F_GETFL).unwrap();
    assert_eq!(flags & libc::O_NONBLOCK, 0, "clients may wait on it as on any other");
    let stream = Stream::new(socket).unwrap();
    let (picture, text) = (green(), file(b"no image"));
    let send = async {
        for id in 0..IMAGES {
            stream.send(id, if id == 7 { &text } else { &picture }).await.unwrap();
        }
        stream.finish().unwrap();
    };
    let mut seen = BTreeSet::new();
    let receive = async {
        while let Some(answer) = stream.answer().await.unwrap() {
            match answer.outcome {
                Outcome::Labels(labels) => assert_eq!((labels.labels[0].0.as_str(), labels.generation), ("green", 1)),
                Outcome::Error { error } => assert_eq!((answer.id, error.name.as_str()), (7, "BadImage")),
            }
            assert!(seen.insert(answer.id), "{} is answered twice", answer.id);
        }
    };
    soon(async { tokio::join!(send, receive) }).await;
    assert_eq!(seen.len() as u64, IMAGES);
}

#[tokio::test]
async fn batch_sockets_are_counted_and_a_closed_one_makes_room() {
    let stage = sharp(Settings::default()).await;
    let classifier = stage.classifier().await;
    let mut open = Vec::new();
    let refused = loop {
        match classifier.open_batch(ClassifyOptions::default()).await {
            Ok(socket) => open.push(socket),
            Err(error) => break error,
        }
    };
    assert!(matches!(&refused, Error::Busy(text) if text.contains("16 batch sockets of user")), "{refused}");
    open.pop();
    soon(async {
        while classifier.open_batch(ClassifyOptions::default()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
