//! Images that go through the bus to a session and come back as labels.

use super::*;
use coft_dbus::{ClassifyOptions, Error};
use image::{ImageFormat, Rgb, RgbImage};
use std::fs::File;
use std::io::{Cursor, Write};
use std::path::Path;

/// With the generation whose best label is the colour of the picture.
async fn sharp(settings: Settings) -> Stage {
    let stage = Stage::serving(grown(), settings).await;
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens/serve/sharp");
    stage.controller.swap(stage.controller.load(&golden, GenerationId(1)).unwrap());
    stage
}

fn green() -> File {
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
    let (labels, details) = classifier.classify((&picture).into(), ClassifyOptions { top_k: Some(2) }).await.unwrap();
    assert_eq!((labels[0].0.as_str(), labels.len(), details.generation), ("green", 2, 1));
    assert!(labels[0].1 >= labels[1].1);
    assert!(details.inference_seconds > 0.0 && details.decode_seconds > 0.0 && details.queue_seconds >= 0.0);
    let (labels, _) = classifier.classify((&picture).into(), ClassifyOptions::default()).await.unwrap();
    assert_eq!(labels.len(), 3, "without top-k it is all of them");
}

#[tokio::test]
async fn what_is_no_image_is_refused_with_a_hint() {
    let stage = sharp(Settings { file_limit: bytesize::ByteSize::kib(64), ..Settings::default() }).await;
    let classifier = stage.classifier().await;
    let (text, large, (pipe, _writer)) = (file(b"no image"), file(&[0; 65537]), std::io::pipe().unwrap());
    for (descriptor, hint) in [
        (text.as_fd(), "send a complete image file"),
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
    assert!(refused.iter().all(|error| matches!(error, Error::Busy(_))), "{refused:?}");
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
